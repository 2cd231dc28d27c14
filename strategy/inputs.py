"""Everything a strategy can be told, as values: what the dispatcher takes, the log keeps and a replay feeds again.

Nothing else reaches a strategy: no clock, no socket, no random number. Each input is logged with the market time at
which it was dispatched.
"""

from __future__ import annotations

import msgspec

from market.bars import Bar
from market.instrument import Instrument
from protocol import codec
from protocol.errors import DataInvalid
from protocol.messages import Account, Event, IntentEvent, Quote, Request, Snapshot

LOG_VERSION = 1


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """An order request or a signal report, as its kind and body on the wire, with request id 0."""

    kind: str
    body: bytes

    @classmethod
    def of(cls, request: Request) -> Decision:
        """Return `request` as it is logged and compared."""
        return cls(request.kind, codec.encode_body(request))

    def request(self) -> Request:
        """Return the request.

        Raises:
            DataInvalid: The body is no request: a damaged file, or a newer version's.
        """
        message = codec.decode_body(self.kind, self.body)
        if not isinstance(message, Request):
            raise DataInvalid(f"{self.kind} is no request")
        return message


class Began(msgspec.Struct, frozen=True, array_like=True, tag="began"):
    """A life of the strategy begins.

    Attributes:
        version: Of the log's format.
        strategy, class_path, symbols, timeframe: As configured.
        parameters: The effective parameters, MessagePack.
        server, login: The account.
        state: What `save_state` gave in the last life; None without one.
        last_bars: With a state, the open time (ms) of the newest bar of each symbol that it has seen.
        unsettled: Orders and signals of earlier lives whose outcome is not known yet.
    """

    version: int
    strategy: str
    class_path: str
    parameters: bytes
    symbols: tuple[str, ...]
    timeframe: str
    server: str
    login: int
    state: bytes | None = None
    last_bars: dict[str, int] = {}
    unsettled: tuple[Decision, ...] = ()


class Joined(msgspec.Struct, frozen=True, array_like=True, tag="joined"):
    """The trading state was read as a whole: at the start, and when the event log is another one."""

    snapshot: Snapshot


class SymbolBars(msgspec.Struct, frozen=True, array_like=True):
    """Past bars of one symbol, ascending, as 60-byte rate records."""

    symbol: str
    records: bytes


class History(msgspec.Struct, frozen=True, array_like=True, tag="history"):
    """Past bars to warm up on. After them the strategy is warm."""

    bars: tuple[SymbolBars, ...]


class BarArrived(msgspec.Struct, frozen=True, array_like=True, tag="bar"):
    """A bar was completed (`revision` 0) or replaced by the terminal's own (1)."""

    symbol: str
    timeframe: str
    revision: int
    bar: Bar


class TicksArrived(msgspec.Struct, frozen=True, array_like=True, tag="ticks"):
    """Ticks of one symbol, oldest first, as 60-byte tick records; `skipped` before them by the lag policy."""

    symbol: str
    records: bytes
    skipped: int = 0


class PositionMark(msgspec.Struct, frozen=True, array_like=True):
    """What one open position is worth: current price, floating profit and swap, account currency."""

    identifier: int
    price_current: float
    profit: float
    swap: float


class Observed(msgspec.Struct, frozen=True, array_like=True, tag="observed"):
    """The newest account, own positions' worth, quotes and specifications.

    Told only when a callback follows and they changed.
    """

    account: Account | None
    positions: tuple[PositionMark, ...]
    quotes: tuple[Quote, ...]
    instruments: tuple[Instrument, ...] = ()


class Occurred(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """An entry of the event log; `missed`: it is older than the state read at joining."""

    event: Event
    missed: bool = False


class Fired(msgspec.Struct, frozen=True, array_like=True, tag="timer"):
    """A timer came due, market time."""

    name: str
    due_ms: int


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """One of our orders had no effect, and the event log will not say so: it never got there."""

    outcome: IntentEvent


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The node stops on purpose."""

    reason: str


Input = Began | Joined | History | BarArrived | TicksArrived | Observed | Occurred | Fired | Refused | Ended


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One line of the dispatch log: an input, when it was dispatched (market time), and what was decided on it.

    `error` is the traceback where the strategy raised; it is stopped then.
    """

    now_ms: int
    input: Input
    decisions: tuple[Decision, ...] = ()
    error: str = ""
