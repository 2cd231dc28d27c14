"""The loop: timers on a clock that tests turn, wake-ups from threads and signals."""

from __future__ import annotations

import os
import signal
import socket as sockets
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import ManualClock, SystemClock
from protocol.loop import Loop
from tests.held import held
from tests.waiting import eventually


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(monotonic_ns=5)


@pytest.fixture
def loop(clock: ManualClock) -> Iterator[Loop]:
    made = Loop(clock)
    yield made
    made.close()


def test_timers_fire_in_the_order_they_are_due(loop: Loop, clock: ManualClock) -> None:
    log: list[str] = []
    loop.after(2, lambda: log.append("two"))
    loop.after(1, lambda: log.append("one"))
    loop.after(1, lambda: log.append("one again"))
    loop.turn(0)
    assert log == []
    clock.advance(1)
    loop.turn(0)
    assert log == ["one", "one again"]
    clock.advance(5)
    loop.turn(0)
    assert log == ["one", "one again", "two"]


def test_missed_beats_are_not_made_up_for(loop: Loop, clock: ManualClock) -> None:
    beats: list[int] = []
    loop.every(1, lambda: beats.append(clock.monotonic_ns()))
    for seconds in (1, 10, 0.5, 0.5):
        clock.advance(seconds)
        loop.turn(0)
    assert [beat // 10**9 for beat in beats] == [1, 11, 12]


@given(st.lists(st.floats(0.01, 30), max_size=30))
def test_an_interval_beats_once_a_turn_at_most(steps: list[float]) -> None:
    clock = ManualClock()
    loop = Loop(clock)
    beats: list[int] = []
    loop.every(1, lambda: beats.append(clock.monotonic_ns()))
    for step in steps:
        before = len(beats)
        clock.advance(step)
        loop.turn(0)
        assert len(beats) - before <= 1
    assert len(beats) <= clock.monotonic_ns() / 1e9
    loop.close()


def test_cancelled_timers_are_silent(loop: Loop, clock: ManualClock) -> None:
    log: list[str] = []
    once = loop.after(1, lambda: log.append("once"))

    def beat() -> None:
        log.append("beat")
        beats.cancel()

    beats = loop.every(1, beat)
    once.cancel()
    once.cancel()
    for _ in range(3):
        clock.advance(1)
        loop.turn(0)
    assert log == ["beat"]
    assert once.cancelled


@pytest.mark.parametrize("interval_s", [0, -1, float("nan")])
def test_a_timer_without_an_interval_is_refused(loop: Loop, interval_s: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        loop.every(interval_s, lambda: None)


def test_no_poll_waits_longer_than_asked_or_than_the_next_timer() -> None:
    loop = Loop(SystemClock())
    fired: list[float] = []
    start = time.monotonic()
    loop.after(0.02, lambda: fired.append(time.monotonic()))
    while not fired:
        loop.turn()
    assert 0.02 <= fired[0] - start < 0.2
    assert loop.turns < 20, "a poll that ends before the timer is due would spin"
    loop.close()


def test_a_thread_posts_and_ends_the_poll() -> None:
    loop = Loop()
    ran: list[str] = []

    def last() -> None:
        ran.append(threading.current_thread().name)
        loop.stop()

    def post() -> None:
        for _ in range(100_000):  # far more than the wake-up pipe holds
            loop.wake()
        loop.post(last)

    thread = threading.Thread(target=post)
    thread.start()
    loop.run()
    thread.join()
    assert ran == [threading.current_thread().name]
    assert loop.stopping
    loop.close()


def test_posted_callbacks_keep_their_order_and_run_next_turn(loop: Loop) -> None:
    log: list[int] = []
    loop.post(lambda: loop.post(lambda: log.append(3)))
    loop.post(lambda: log.append(1))
    loop.turn(0)
    assert log == [1]
    loop.turn(0)
    assert log == [1, 3]


def test_plain_and_zeromq_sockets_are_watched(loop: Loop) -> None:
    left, right = sockets.socketpair()
    push, pull = loop.context.socket(zmq.PUSH), loop.context.socket(zmq.PULL)
    push.bind("inproc://x")
    pull.connect("inproc://x")
    got: list[bytes] = []
    loop.watch(left, lambda: got.append(left.recv(10)))
    loop.watch(pull, lambda: got.append(pull.recv()))
    right.send(b"plain")
    push.send(b"zmq")

    def got_both() -> bool:
        loop.turn(10)
        return len(got) == 2

    eventually(got_both)
    assert sorted(got) == [b"plain", b"zmq"]
    loop.unwatch(left)
    loop.unwatch(pull)
    loop.unwatch(pull)
    right.send(b"more")
    loop.turn(0)
    assert len(got) == 2
    for closed in (left, right, push, pull):
        closed.close()


def test_a_callback_may_unwatch_another_that_is_ready(loop: Loop) -> None:
    pairs = [sockets.socketpair() for _ in range(2)]
    log: list[int] = []

    def ready(index: int) -> None:
        log.append(index)
        for left, _ in pairs:
            loop.unwatch(left)

    for index, (left, right) in enumerate(pairs):
        loop.watch(left, lambda index=index: ready(index))  # type: ignore[misc]
        right.send(b"x")
    loop.turn(100)
    assert len(log) == 1
    for pair in pairs:
        for end in pair:
            end.close()


if sys.platform != "win32":  # there os.kill ends the process

    def test_a_signal_ends_the_poll_at_once() -> None:
        loop = Loop()
        before = signal.signal(signal.SIGUSR1, lambda number, frame: loop.post(loop.stop))
        loop.wake_on_signals()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        start = time.monotonic()
        loop.run()
        assert time.monotonic() - start < 0.2
        loop.close()
        signal.signal(signal.SIGUSR1, before)
        assert signal.set_wakeup_fd(-1) == -1, "the closed descriptor is not left behind"


def test_the_longest_turn_is_that_of_the_last_minute_or_two(loop: Loop, clock: ManualClock) -> None:
    def work(seconds: float) -> None:
        loop.after(0, lambda: clock.advance(seconds))
        loop.turn(0)

    work(0.2)
    work(0.05)
    assert loop.longest_turn_ms == 200.0
    work(60.0)  # ends the first minute
    work(0.01)
    assert loop.longest_turn_ms == 60_000.0
    clock.advance(60.0)
    work(0.02)
    work(0.03)
    assert loop.longest_turn_ms == 30.0


def test_what_is_read_after_a_freeze_may_have_waited_since_it_began(loop: Loop, clock: ManualClock) -> None:
    def turn_after(seconds: float) -> float:
        clock.advance(seconds)
        loop.turn(0)
        return (clock.monotonic_ns() - loop.waiting_since_ns) / 1e9

    assert turn_after(0.2) == 0.2
    assert turn_after(0.3) == 0.3
    assert turn_after(3.0) == 3.0
    assert turn_after(0.5) == 3.5, "what was sent meanwhile may come in a moment later"
    assert turn_after(1.5) == 5.0, "a second freeze before that moment is over counts from the first"
    assert turn_after(0.9) == 5.9
    assert turn_after(0.2) == 0.2
    assert turn_after(2.0) == 2.0


def test_a_cancelled_timer_is_forgotten_when_it_would_have_been_due(loop: Loop, clock: ManualClock) -> None:
    """Every request with a deadline leaves one when its answer comes."""
    before = held(loop)
    for _ in range(1000):
        loop.after(5, lambda: None).cancel()
        clock.advance(0.1)
        loop.turn(0)
        assert held(loop) <= before + 5 / 0.1 + 1
    clock.advance(5)
    loop.turn(0)
    assert held(loop) == before
