"""Child processes of the benchmarks: none outlives its measurement, and Ctrl-C is the parent's alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

from mt5bus.processes import child_environment

END_DEADLINE_S = 10.0


def start(arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Start ``python ARGUMENTS`` with pipes to its stdin and stdout, where Ctrl-C in this console does not reach it."""
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(
        [sys.executable, "-P", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=child_environment(),
        **apart,
        **options,
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill a child and wait for its end."""
    process.kill()
    process.communicate(timeout=END_DEADLINE_S)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this process and the children it starts on one core, where the system can (Linux).

    Two processes that wake each other take one of two times, a third apart or more, by whether the scheduler happens
    to put them on one core or on two; on one core there is only one time.
    """
    if sys.platform == "linux":
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
    else:
        yield


def wait_until(deadline_s: float, what: str, *, step_s: float = 0.01) -> Iterator[None]:
    """Yield every `step_s` seconds, for a loop that looks for something.

    Raises:
        TimeoutError: It was not found within `deadline_s` seconds.
    """
    until, pause = time.monotonic() + deadline_s, Event()
    while time.monotonic() < until:
        yield
        pause.wait(step_s)
    raise TimeoutError(f"no {what} within {deadline_s:g} s")
