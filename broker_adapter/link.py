"""A link: the process that imports the API module and executes calls for its adapter, one at a time.

Started by the adapter only, as ``python -P -m broker_adapter.link`` with its configuration on stdin. It may hang in a
call for ever; then the adapter kills it. It ends with its adapter.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

import msgspec
import psutil
import zmq

from broker_adapter.api_failure import ApiFailure
from broker_adapter.link_commands import Executor
from broker_adapter.link_config import LinkConfig, read_config
from broker_adapter.link_messages import RAISED, Answer, AnyCommand, Ask, Attach, Greeting
from mt5bus import logs
from mt5bus.errors import Mt5busError
from mt5bus.home import Home
from mt5bus.processes import end_with_parent, parent_lives
from mt5bus.secret import Secret
from protocol.clock import SystemClock
from protocol.keys import Identity
from protocol.sockets import Socket, connect_dealer

_POLL_MS = 250

log = logging.getLogger(__name__)


class Link:
    """The link's loop: wait for a command, carry it out, answer."""

    def __init__(self, config: LinkConfig, context: zmq.Context[Socket], formatter: logs.JsonFormatter) -> None:
        self._config = config
        self._formatter = formatter
        self._clock = SystemClock()
        identity = Identity(config.name, config.public.encode("ascii"), config.secret.encode("ascii"), ("link",))
        self._socket = connect_dealer(
            context,
            config.address,
            identity=identity,
            server_key=config.server_key.encode("ascii"),
            routing_id=config.name.encode("ascii"),
        )
        api, self._greeting = _import_api(config.api_module)
        self._executor = Executor(
            api,
            module=config.api_module,
            problem=self._greeting.problem,
            monotonic_ns=self._clock.monotonic_ns,
            adapter_lives=self._adapter_lives,
        )

    def run(self) -> None:
        """Serve until the adapter is gone."""
        if not self._wait(zmq.POLLOUT):
            return
        self._socket.send(_encode(Answer(0, 1, value=_raw(msgspec.msgpack.encode(self._greeting)))))
        while self._wait(zmq.POLLIN):
            self._socket.send(_encode(self._answer(self._socket.recv())))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _adapter_lives(self) -> bool:
        return parent_lives(self._config.adapter_pid)

    def _wait(self, event: int) -> bool:
        """Wait for the socket; return False once the adapter is gone."""
        while self._adapter_lives():
            if self._socket.poll(_POLL_MS, event):
                return True
        return False

    def _answer(self, frame: bytes) -> Answer:
        ask = msgspec.msgpack.decode(frame, type=Ask)
        if isinstance(ask.command, Attach):
            self._formatter.hide(Secret(ask.command.password))
        started_ns = self._clock.monotonic_ns()
        code, text, value = self._carry_out(ask.command)
        elapsed_us = (self._clock.monotonic_ns() - started_ns) // 1000
        return Answer(ask.serial, code, text, _raw(value), elapsed_us)

    def _carry_out(self, command: AnyCommand) -> tuple[int, str, bytes]:
        try:
            return 1, "", self._executor.execute(command)
        except ApiFailure as failure:
            return failure.code, failure.text, b"\xc0"
        except Exception as error:
            # Of a login only the kind of error: its text could repeat what it was given.
            text = type(error).__name__ if isinstance(command, Attach) else f"{type(error).__name__}: {error}"
            log.error(  # noqa: TRY400  a traceback may hold arguments
                "the API raised", extra={"command": type(command).__name__, "reason": text[:300]}
            )
            return RAISED, text[:300], b"\xc0"


def _import_api(name: str) -> tuple[Any, Greeting]:
    pid = os.getpid()
    created = psutil.Process(pid).create_time()
    try:
        api = importlib.import_module(name)
    except Exception as error:
        problem = (
            f"the API module {name!r} cannot be imported ({type(error).__name__}: {error}):"
            " install it, or set [terminal] kind or api"
        )
        return None, Greeting(pid, created, "", problem)
    return api, Greeting(pid, created, str(getattr(api, "__version__", "unknown")))


def _raw(value: bytes) -> msgspec.Raw:
    return msgspec.Raw(value)


def _encode(answer: Answer) -> bytes:
    return msgspec.msgpack.encode(answer)


def main() -> int:
    """Run a link; return its exit code."""
    try:
        config = read_config(sys.stdin.buffer)
        end_with_parent(config.adapter_pid)
    except (msgspec.MsgspecError, Mt5busError) as error:
        sys.stderr.write(f"a link is started by its adapter only: {error}\n")
        return 2
    formatter = logs.setup(
        f"link-{config.role}", Home.find(config.home), level=config.log_level, keep_days=config.keep_days
    )
    context: zmq.Context[Socket] = zmq.Context()
    link = Link(config, context, formatter)
    link.run()
    link.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
