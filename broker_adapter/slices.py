"""Long work on many records, a few milliseconds of it in each turn of the loop, so that ticks and orders go between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from protocol.errors import BusError
from protocol.loop import Loop

SLICE_S = 0.004
_LOOK_EVERY = 8

T = TypeVar("T")
R = TypeVar("R")


def in_slices(
    loop: Loop,
    items: Iterable[T],
    work: Callable[[T], R],
    on_done: Callable[[list[R]], None],
    on_error: Callable[[BusError], None],
) -> None:
    """Call `work` on each of `items`, in order, then `on_done` with the results.

    What takes up to `SLICE_S` seconds is done before this returns; the rest is done in the turns that follow. A
    `BusError` that `work` raises ends it: `on_error` is called instead.
    """
    results: list[R] = []
    left = iter(items)

    def go_on() -> None:
        until_ns = loop.clock.monotonic_ns() + round(SLICE_S * 1e9)
        try:
            for item in left:
                results.append(work(item))
                if len(results) % _LOOK_EVERY == 0 and loop.clock.monotonic_ns() >= until_ns:
                    loop.after(0, go_on)
                    return
        except BusError as error:
            on_error(error)
            return
        on_done(results)

    go_on()
