"""What the adapter publishes: ticks, bars, state, beacons. (Events are in `events`.)

One topic is one stream. Tick and bar streams number their records within an epoch, one life of the adapter.
"""

from __future__ import annotations

from typing import ClassVar

from market.bars import Bar
from protocol.messages.base import Message
from protocol.messages.values import Account, Position, Quote
from protocol.ticks import RECORD_BYTES, check_whole


class TickBatch(Message, frozen=True, array_like=True, gc=False):  # nothing in it can be part of a cycle
    """Ticks of the topic's symbol, oldest first.

    Attributes:
        epoch: Life of the adapter, UTC milliseconds of its start.
        first: Ordinal of the first tick within the epoch, from 1.
        sent_ns: The adapter's monotonic clock at sending.
        records: 60-byte tick records (`protocol.ticks.TICK_DTYPE`), times in UTC.
    """

    kind: ClassVar[str] = "tick"
    epoch: int
    first: int
    sent_ns: int
    records: bytes

    def __post_init__(self) -> None:
        check_whole(self.records)

    def __len__(self) -> int:
        return len(self.records) // RECORD_BYTES


class BarUpdate(Message, frozen=True, array_like=True):
    """A completed bar of the topic's symbol.

    Attributes:
        epoch: As in `TickBatch`.
        number: Ordinal of this message within the epoch and topic, from 1.
        timeframe: Name such as ``S5``, ``M1``, ``H4``.
        revision: 0 built from ticks; 1 the terminal's own bar where it differs: it wins.
    """

    kind: ClassVar[str] = "bar"
    epoch: int
    number: int
    sent_ns: int
    timeframe: str
    revision: int
    bar: Bar


class StateUpdate(Message, frozen=True, array_like=True):
    """The newest account, positions and prices: state, not events; at most twice a second, newest only.

    `market_ms` is market time: the wall clock, or a file feed's clock.
    """

    kind: ClassVar[str] = "state"
    epoch: int
    number: int
    market_ms: int
    account: Account
    positions: tuple[Position, ...]
    quotes: tuple[Quote, ...]


class Beacon(Message, frozen=True, array_like=True):
    """Sent every second: the last number of every stream, so that a lost tail shows too.

    Attributes:
        market_ms: Market time, UTC milliseconds.
        log_id: Identity of the event log; a new one means a full resync.
        event_offset: Offset of the newest event.
        ticks: Last tick ordinal by symbol.
        bars: Last bar number by symbol.
        connection: State of the connection to the terminal.
        trading_mode: ``active``, ``reducing`` or ``halted``.
        server_offset_minutes: Broker's server time minus UTC.
        server_time_status: ``assumed``, ``measured`` or ``configured``.
    """

    kind: ClassVar[str] = "beacon"
    epoch: int
    sent_ns: int
    wall_ms: int
    market_ms: int
    log_id: str
    event_offset: int
    ticks: dict[str, int]
    bars: dict[str, int]
    connection: str
    trading_mode: str
    server_offset_minutes: int
    server_time_status: str
