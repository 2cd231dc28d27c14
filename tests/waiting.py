"""Waiting on a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")

_STEP_S = 0.01


def eventually(check: Callable[[], T], *, timeout_s: float = 10.0, what: str = "the condition") -> T:
    """Return the first truthy value of `check`, asking every 10 ms.

    Raises:
        AssertionError: `check` gave no truthy value within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    pause = Event()
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s (last value: {value!r})")
        pause.wait(_STEP_S)
    return value
