"""Pings, pongs and silence."""

from __future__ import annotations

from supervisor.heartbeat import MAX_BUSY_S, Heartbeat, HeartbeatPolicy

S = 1_000_000_000


def beaten(pings: int) -> Heartbeat:
    heartbeat = Heartbeat(HeartbeatPolicy(interval_s=1.0, missed_pongs=3))
    for _ in range(pings):
        heartbeat.next_serial()
    return heartbeat


def test_three_unanswered_pings_are_silence_and_two_are_not() -> None:
    assert not beaten(2).silent(now_ns=9 * S)
    assert beaten(3).silent(now_ns=9 * S)


def test_any_pong_ends_the_silence() -> None:
    heartbeat = beaten(3)
    heartbeat.on_pong(now_ns=3 * S, busy_until_ns=0)
    assert not heartbeat.silent(now_ns=9 * S)
    assert heartbeat.pong_age_s(now_ns=5 * S) == 2.0
    assert heartbeat.unanswered == 0


def test_an_announced_pause_is_waited_for_and_no_longer() -> None:
    heartbeat = beaten(0)
    heartbeat.on_pong(now_ns=0, busy_until_ns=30 * S)
    for _ in range(10):
        heartbeat.next_serial()
    assert not heartbeat.silent(now_ns=29 * S)
    assert heartbeat.silent(now_ns=30 * S)


def test_nobody_is_busy_for_ever() -> None:
    heartbeat = beaten(0)
    heartbeat.on_pong(now_ns=0, busy_until_ns=10**18)
    for _ in range(3):
        heartbeat.next_serial()
    assert heartbeat.silent(now_ns=round((MAX_BUSY_S + 1) * S))


def test_what_we_did_not_see_ourselves_is_not_counted() -> None:
    heartbeat = beaten(5)
    heartbeat.forget_unanswered()
    assert not heartbeat.silent(now_ns=9 * S)
    assert heartbeat.pong_age_s(now_ns=9 * S) is None
