"""Client order ids, derived from what triggered the decision, never drawn.

An id is a hash of the account, the strategy's name, the trigger and the index of the order within the callback. A
strategy that is restarted and comes to the same decision again gives it the same id, and the adapter executes an id
at most once. A signal's id is made in the same way, in a space of its own.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

import msgspec

MAX_ID_CHARS = 40
_SCHEME = 1  # part of every hash: another way to derive ids would be another number
_NAME_CHARS = 12
_DIGEST_BYTES = 15  # 120 bits, 24 characters


class AccountKey(NamedTuple):
    """The account whose orders these are."""

    server: str
    login: int


class BarTrigger(NamedTuple):
    """A completed bar; `revision` is 0 unless the callback is about the revision itself."""

    symbol: str
    timeframe: str
    open_time_ms: int
    revision: int = 0


class TickTrigger(NamedTuple):
    """A tick: its time and its place among the ticks of that millisecond. An adapter's restart changes neither."""

    symbol: str
    time_ms: int
    place: int


class TimerTrigger(NamedTuple):
    """A timer's due time, market time."""

    name: str
    due_ms: int


class EventTrigger(NamedTuple):
    """An entry of the event log."""

    log_id: str
    offset: int


class RefusalTrigger(NamedTuple):
    """An order of ours that never took effect and of which the event log knows nothing."""

    client_order_id: str


class ResyncTrigger(NamedTuple):
    """A difference found when the state was read anew: what it is about, and its new value."""

    log_id: str
    offset: int
    subject: str


Trigger = BarTrigger | TickTrigger | TimerTrigger | EventTrigger | RefusalTrigger | ResyncTrigger

_KINDS: dict[type[Trigger], str] = {
    BarTrigger: "bar",
    TickTrigger: "tick",
    TimerTrigger: "timer",
    EventTrigger: "event",
    RefusalTrigger: "refusal",
    ResyncTrigger: "resync",
}


def order_id(account: AccountKey, strategy: str, trigger: Trigger, index: int) -> str:
    """Return the id of the `index`-th order (from 0) that `strategy` decides on at `trigger`.

    At most 40 characters of ``A-Z a-z 0-9 _ -``: the start of the strategy's name, for people, and the hash.
    """
    return f"{_readable(strategy)}-{_digest('order', account, strategy, trigger, index)}"


def signal_id(account: AccountKey, strategy: str, trigger: Trigger, index: int) -> str:
    """Return the id of the `index`-th signal (from 0) that `strategy` sees at `trigger`."""
    return f"{_readable(strategy)}-{_digest('signal', account, strategy, trigger, index)}"


def _readable(strategy: str) -> str:
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-") else "_" for sign in strategy)[
        :_NAME_CHARS
    ]


def _digest(space: str, account: AccountKey, strategy: str, trigger: Trigger, index: int) -> str:
    # MessagePack separates the parts unambiguously, whatever characters they hold.
    parts = (_SCHEME, space, tuple(account), strategy, _KINDS[type(trigger)], tuple(trigger), index)
    digest = hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=_DIGEST_BYTES).digest()
    return base64.b32encode(digest).decode("ascii").lower()
