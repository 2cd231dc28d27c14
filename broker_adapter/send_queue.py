"""Orders waiting for the trade link: one at a time, exits first, none after its time to live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker_adapter.intents import Intent
from broker_adapter.link_messages import AnyCommand, LinkRole, Send
from broker_adapter.link_results import LinkResult
from protocol.clock import Clock


class LinkCaller(Protocol):
    """What sends commands to a link: `Connection` or `Links`."""

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        """Have a link carry out `command`; `on_result` is called once, from the loop, never from within this call."""
        ...


class SendQueue:
    """Hands durable intents to the trade link, each once.

    Args:
        deadline_s: How long the link may take before it is killed.
        make: Returns the command for an intent (by number, with its deadline), or None if it is not to be sent after
            all; then its maker has dealt with it.
        on_answer: Gets the link's answer.
    """

    def __init__(
        self,
        clock: Clock,
        caller: LinkCaller,
        *,
        deadline_s: float,
        make: Callable[[int, int], Send | None],
        on_answer: Callable[[int, LinkResult], None],
    ) -> None:
        self._clock = clock
        self._caller = caller
        self._deadline_s = deadline_s
        self._make = make
        self._on_answer = on_answer
        self._waiting: list[tuple[bool, int, int]] = []
        self._with_link: int | None = None

    @property
    def with_link(self) -> int | None:
        """Number of the intent that is with the link, if any."""
        return self._with_link

    def add(self, intent: Intent, deadline_ns: int) -> None:
        """Queue a durable intent; it is not sent after `deadline_ns` (monotonic)."""
        self._waiting.append((intent.opens, intent.number, deadline_ns))
        self.pump()

    def pump(self) -> None:
        """Hand over the next one if the link is free."""
        while self._with_link is None and self._waiting:
            # Exits before entries, then in the order of their making.
            chosen = min(self._waiting)
            self._waiting.remove(chosen)
            _, number, deadline_ns = chosen
            command = self._make(number, deadline_ns)
            if command is None:
                continue
            self._with_link = number
            self._caller.call(
                LinkRole.TRADE,
                command,
                lambda answer, number=number: self._answered(number, answer),  # type: ignore[misc]
                deadline_s=self._deadline_s,
            )

    def _answered(self, number: int, answer: LinkResult) -> None:
        self._with_link = None
        self._on_answer(number, answer)
        self.pump()
