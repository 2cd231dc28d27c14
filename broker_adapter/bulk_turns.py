"""Pages of history for clients: one at a time, clients in turn, and never all of this machine's time.

A client that asks for history as fast as it can would otherwise make others wait behind all it has asked for, and take
the processors from ticks and orders: the machine may have two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from broker_adapter.connection import Connection
from broker_adapter.link_messages import AnyCommand, LinkRole
from broker_adapter.link_results import LinkResult
from protocol.loop import Loop

LONGEST_REST_S = 0.02
"""The link rests after each page for as long as it took, at most this long: a slow terminal is not made slower."""

OnResult = Callable[[LinkResult], None]


class _Waiting(msgspec.Struct, frozen=True):
    command: AnyCommand
    on_result: OnResult
    deadline_ns: int


class BulkTurns:
    """Hands commands of clients to the bulk link, one at a time.

    Args:
        deadline_s: How long a command may take from the asking to the answer, its wait included, seconds.
    """

    def __init__(self, loop: Loop, connection: Connection, *, deadline_s: float) -> None:
        self._loop = loop
        self._connection = connection
        self._deadline_s = deadline_s
        self._waiting: dict[str, deque[_Waiting]] = {}  # the client whose turn is next comes first
        self._served = ""
        self._taken = False

    def ask(self, client: str, command: AnyCommand, on_result: OnResult) -> None:
        """Have the link carry out `command` when the turn is `client`'s; `on_result` is called once, never from here.

        What waited past its deadline ends as lost, and was not sent.
        """
        deadline_ns = self._loop.clock.monotonic_ns() + round(self._deadline_s * 1e9)
        self._waiting.setdefault(client, deque()).append(_Waiting(command, on_result, deadline_ns))
        if not self._taken:
            self._next()

    def _next(self) -> None:
        self._taken = False
        if self._served in self._waiting:
            self._waiting[self._served] = self._waiting.pop(self._served)  # behind those that asked meanwhile
        while self._waiting and not self._taken:
            waiting = self._pop()
            left_s = (waiting.deadline_ns - self._loop.clock.monotonic_ns()) / 1e9
            if left_s <= 0:
                waiting.on_result(LinkResult("lost", reason="never_sent"))
                continue
            self._taken = True
            on_result = partial(self._on_result, waiting.on_result)
            self._connection.call(LinkRole.BULK, waiting.command, on_result, deadline_s=left_s)

    def _pop(self) -> _Waiting:
        self._served, queue = next(iter(self._waiting.items()))
        first = queue.popleft()
        if not queue:
            del self._waiting[self._served]
        return first

    def _on_result(self, on_result: OnResult, result: LinkResult) -> None:
        self._loop.after(min(result.elapsed_ms / 1e3, LONGEST_REST_S), self._next)
        on_result(result)
