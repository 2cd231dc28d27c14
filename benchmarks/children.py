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

_cores_of_children: set[int] = set()  # empty: any


def start(arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Start ``python ARGUMENTS`` with pipes to its stdin and stdout, where Ctrl-C in this console does not reach it."""
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    process = subprocess.Popen(
        [sys.executable, "-P", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=child_environment(),
        **apart,
        **options,
    )
    if sys.platform == "linux" and _cores_of_children:
        os.sched_setaffinity(process.pid, _cores_of_children)  # before it has any other thread
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Kill a child and wait for its end."""
    process.kill()
    process.communicate(timeout=END_DEADLINE_S)


@contextmanager
def one_core_each() -> Iterator[None]:
    """Keep this process on one core and the children it starts on another, where the system can (Linux).

    Two processes that wake each other take one of two times, far apart, by whether the scheduler happens to put them on
    one core or on two. Apart is how a system's nodes live.
    """
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        before = os.sched_getaffinity(0)
        mine = max(before)
        os.sched_setaffinity(0, {mine})
        _cores_of_children.add(min(before))
        try:
            yield
        finally:
            _cores_of_children.clear()
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
