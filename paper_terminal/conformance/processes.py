"""Cases that settle how one terminal serves several processes; the others are Python processes of ours."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final

from paper_terminal.conformance.runner import Case, Context, Skipped

_MOST: Final = 8
_PATIENCE_S: Final = 30.0
_LOOKS: Final = 200
_CLIENT: Final = """
import importlib, sys
api = importlib.import_module(sys.argv[1])
attached = api.initialize(sys.argv[2]) if sys.argv[2] else api.initialize()
print("attached" if attached else api.last_error(), flush=True)
for line in sys.stdin:
    if line.strip() == "copy":
        print("copying", flush=True)
        last = api.symbol_info_tick(sys.argv[3]).time
        ticks = api.copy_ticks_range(sys.argv[3], last - 30 * 86400, last, api.COPY_TICKS_ALL)
        print("copied", 0 if ticks is None else len(ticks), flush=True)
"""


class _Other:
    """Another client process."""

    def __init__(self, c: Context) -> None:
        command = [sys.executable, "-c", _CLIENT, c.api.__name__, c.path, c.symbol]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def said(self) -> str:
        """Return the next line it says, '' when there is none within half a minute."""
        with contextlib.suppress(Empty):
            return self._lines.get(timeout=_PATIENCE_S)
        return ""

    def has_said(self) -> bool:
        """Tell whether a line waits."""
        return not self._lines.empty()

    def tell(self, what: str) -> None:
        """Say something to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it as a task manager does."""
        self._process.kill()
        self._process.wait(_PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def _others(c: Context) -> Iterator[Callable[[], _Other]]:
    begun: list[_Other] = []

    def begin() -> _Other:
        begun.append(_Other(c))
        return begun[-1]

    try:
        yield begin
    finally:
        for each in begun:
            each.kill()


def clients_count(c: Context) -> str:
    """Attach one process after another, beside this one."""
    with _others(c) as begin:
        for count in range(1, _MOST):
            said = begin().said()
            if said != "attached":
                return f"{count}; the next one: {said or f'no answer within {_PATIENCE_S:.0f} s'}"
    return f"{_MOST} or more"


def client_killed(c: Context) -> str:
    """Kill an attached process and attach the next, several times."""
    times = []
    for _ in range(3):
        with _others(c) as begin:
            if begin().said() != "attached":
                raise Skipped("a second process does not attach")
        begun = time.monotonic()
        c.api.shutdown()
        c.connect()
        times.append(time.monotonic() - begun)
    return f"yes: the next initialize after a kill took {max(times) * 1000:.0f} ms at most"


def clients_parallel(c: Context) -> str:
    """Look at ticks while another process copies a month of them."""
    idle = _looked(c, lambda: True)
    with _others(c) as begin:
        other = begin()
        if other.said() != "attached":
            raise Skipped("a second process does not attach")
        other.tell("copy")
        other.said()
        beside = _looked(c, lambda: not other.has_said())
        copied = other.said()
    return f"symbol_info_tick {_shown(idle)} alone, {_shown(beside)} beside a copy ({copied})"


def _looked(c: Context, going_on: Callable[[], bool]) -> list[float]:
    times: list[float] = []
    while len(times) < _LOOKS and (going_on() or not times):
        begun = time.perf_counter()
        c.api.symbol_info_tick(c.symbol)
        times.append((time.perf_counter() - begun) * 1000)
    return times


def _shown(times_ms: list[float]) -> str:
    return f"{statistics.median(times_ms):.2f} ms (longest {max(times_ms):.1f} of {len(times_ms)})"


PROCESS_QUESTIONS = tuple(
    Case(each.__name__, each, settles=each.__name__.replace("_", "-"))
    for each in (clients_count, client_killed, clients_parallel)
)
