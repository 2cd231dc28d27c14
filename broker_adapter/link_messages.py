"""What the adapter and its links say to each other: commands one way, replies the other.

Each message is one frame, a MessagePack array. The channel is a DEALER and a ROUTER on loopback with Curve keys made
for this one link, so the password in `Attach` is never readable on the way. Times are server time, the API's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from broker_adapter.api_types import (
    ApiAccount,
    ApiCheckResult,
    ApiDeal,
    ApiOrder,
    ApiPosition,
    ApiSendResult,
    ApiSymbol,
    ApiTerminal,
    ApiTick,
    ApiTradeRequest,
)


class LinkRole(StrEnum):
    """What a link is for. With shared links one process plays all three."""

    TRADE = "trade"
    FEED = "feed"
    BULK = "bulk"


# --- Commands -------------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, array_like=True):
    """Root of what a link is asked to do."""


class Call(Command, frozen=True, array_like=True, tag="call"):
    """Call one reading function of the API by name. `order_send` is refused: it goes by `Send`.

    The value is what the function returned: struct sequences as arrays, numpy records as bytes.
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}


class Attach(Command, frozen=True, array_like=True, tag="attach"):
    """Attach to the terminal at `path`; the value is an `Attached`.

    With a `login` that is not the terminal's present one, log in: this switches the account for every attached process.
    Unless `may_start`, a terminal that does not run is not started but reported as `NO_TERMINAL`.
    """

    path: str
    login: int = 0
    password: str = ""
    server: str = ""
    timeout_ms: int = 10_000
    portable: bool = False
    may_start: bool = False

    def __repr__(self) -> str:
        return f"Attach(path={self.path!r}, login={self.login}, server={self.server!r})"


class Clip(msgspec.Struct, frozen=True, array_like=True):
    """Re-read the netting position just before an exit is sent, so that it cannot open the other side.

    Gone (or on the exit's own side by now) means not sent; a smaller volume than asked for is taken.

    Attributes:
        position: Its identifier: a rollover or a reversal changes the ticket.
        symbol: The broker's name.
    """

    position: int
    symbol: str


class KeepStops(msgspec.Struct, frozen=True, array_like=True):
    """Re-read the symbol's netting position just before sending: an order that adds to it takes over its SL or TP.

    The latest order's stops replace the position's, and 0 clears them: an order without any would take them away.
    """

    symbol: str
    sl: bool
    tp: bool


class Send(Command, frozen=True, array_like=True, tag="send"):
    """Call `order_send` once, if everything still is as it was decided on. The value is a `SendOutcome`.

    Attributes:
        request: What to send; fields at their defaults are left out of the dict.
        login, server, data_path: The account and terminal it is meant for.
        deadline_ns: Machine-wide monotonic time (`protocol.clock`) after which it is not sent any more.
        clip: For exits on netting accounts.
        keep: For orders on netting accounts that have no SL or no TP of their own.
    """

    request: ApiTradeRequest
    login: int
    server: str
    data_path: str
    deadline_ns: int
    clip: Clip | None = None
    keep: KeepStops | None = None


class Check(Command, frozen=True, array_like=True, tag="check"):
    """Call `order_check`. The value is an `ApiCheckResult`."""

    request: ApiTradeRequest


class TickCursor(msgspec.Struct, frozen=True, array_like=True):
    """How far one symbol's ticks were taken. A `time_msc` of 0: take the newest tick, and go on from there.

    Attributes:
        symbol: The broker's name.
        time_msc: Server time of the newest tick taken.
        taken: How many ticks of that millisecond were taken.
        taken_in_second: How many ticks of that whole second were taken: copying starts at whole seconds.
    """

    symbol: str
    time_msc: int
    taken: int
    taken_in_second: int


class PollTicks(Command, frozen=True, array_like=True, tag="poll_ticks"):
    """Copy what is new behind each cursor. The value is a `TicksPolled`.

    Symbols whose latest tick is the one seen before are skipped, unless `sweep`. At most `limit` ticks per symbol and
    `total` in all: symbols that got none of it are asked first the next time.
    """

    cursors: tuple[TickCursor, ...]
    sweep: bool = False
    limit: int = 4096
    total: int = 16_384


class ReadTicks(Command, frozen=True, array_like=True, tag="read_ticks"):
    """Read a page of the tick history, both ends inclusive, skipping `skip` ticks of `from_msc`: a `TickPage`."""

    symbol: str
    from_msc: int
    to_msc: int
    skip: int = 0
    limit: int = 4096


class PollTrade(Command, frozen=True, array_like=True, tag="poll_trade"):
    """Read account, positions and active orders, and what is new in a window of the history: a `TradePolled`.

    `serial` is the last answer's, 0 to get the whole history; `reread` looks for changes of known records, too.
    """

    from_s: int
    to_s: int
    serial: int = 0
    reread: bool = False


class ReadHistory(Command, frozen=True, array_like=True, tag="read_history"):
    """Read final orders (by time done) or deals of a range, both ends inclusive: a `HistoryPage`.

    A page is whole seconds that hold at most `limit` together, or a single second that holds more.
    """

    what: Literal["orders", "deals"]
    from_s: int
    to_s: int
    limit: int = 4096


class ListSymbols(Command, frozen=True, array_like=True, tag="list_symbols"):
    """List the broker's symbols from number `offset` on: a `SymbolPage`. At 0 the list is read anew."""

    offset: int = 0
    limit: int = 2000


AnyCommand = Call | Attach | Send | Check | PollTicks | ReadTicks | PollTrade | ReadHistory | ListSymbols


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """The frame from the adapter: `serial` comes back in the reply."""

    serial: int
    command: AnyCommand


# --- Replies --------------------------------------------------------------------------------------------------------

# Codes of our own, outside the API's range.
NO_TERMINAL = -20_001
"""Nothing runs at the path, and the link may not start it."""
NO_API = -20_002
"""The API module cannot be imported, or lacks the function."""
RAISED = -20_003
"""The API raised an exception."""
REFUSED = -20_004
"""The link does not do that."""
SWITCHED = -20_005
"""The terminal changed to another account while it was read."""

RES_E_AUTH_FAILED = -6
RES_E_NOT_FOUND = -4
RES_E_TIMEOUT = -10_005
PIPE_CODES = frozenset({-10_000, -10_001, -10_002, -10_004})
"""The connection to the terminal is broken until the next `initialize`."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The frame from the link. `code` 1 and `value`, or the API's `last_error` (or a code of ours) and its text."""

    serial: int
    code: int
    text: str = ""
    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    elapsed_us: int = 0


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """The value of the first answer (serial 0): who the link is. `problem`: why its API module is unusable."""

    pid: int
    create_time_s: float
    api_version: str
    problem: str = ""


class Attached(msgspec.Struct, frozen=True, array_like=True):
    """`account` is None while the terminal has none. `logged_in`: this command switched the account."""

    terminal: ApiTerminal
    account: ApiAccount | None
    version: tuple[int, int, str]
    logged_in: bool = False


class SendOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of `Send`.

    Attributes:
        not_sent: Empty if `order_send` was called; else why not: ``deadline``, ``adapter_gone``, ``not_attached``,
            ``wrong_account``, ``position_gone`` or ``position_unreadable``. Then nothing took effect.
        result: What `order_send` returned; None: it failed with `code` and `text` (the API's `last_error`).
        volume: Lots sent, after clipping.
        sent_ns, done_ns: Machine-wide monotonic time before and after the call.
        comment: More for people about `not_sent`.
    """

    not_sent: str = ""
    result: ApiSendResult | None = None
    code: int = 1
    text: str = ""
    volume: float = 0.0
    sent_ns: int = 0
    done_ns: int = 0
    comment: str = ""


class SymbolTicks(msgspec.Struct, frozen=True, array_like=True):
    """New ticks of one symbol, oldest first, with the cursor behind them.

    Attributes:
        records: 60-byte records in server time.
        cursor: Where to go on.
        newest_msc: Server time of the latest tick; older than the cursor if the server's clock went back.
        more: There are more ticks than fitted.
        code, text: Why nothing could be read, else 1.
    """

    cursor: TickCursor
    records: bytes
    newest_msc: int
    more: bool = False
    code: int = 1
    text: str = ""


class TicksPolled(msgspec.Struct, frozen=True, array_like=True):
    """Symbols with news; symbols without are left out. `deferred`: some were not looked at, the total was full."""

    symbols: tuple[SymbolTicks, ...]
    deferred: bool = False


class TickPage(msgspec.Struct, frozen=True, array_like=True):
    """A page of tick history in server time. While `more`, go on at `next_msc` with `next_skip`."""

    records: bytes
    more: bool
    next_msc: int
    next_skip: int


class TradePolled(msgspec.Struct, frozen=True, array_like=True):
    """One look at the account.

    Read in this order: account, positions, orders, history orders, deals. So a deal may be newer than the positions
    beside it, never the other way round. The account was the same one after them.

    Attributes:
        history_orders, deals: Those not handed over yet; with `complete` they begin with all of the window.
        more: The history is not complete yet: the next look hands over more of it.
        serial: To be told at the next look.
        connected_after: The terminal was still connected to its broker at the end.
    """

    terminal: ApiTerminal
    account: ApiAccount
    positions: tuple[ApiPosition, ...]
    orders: tuple[ApiOrder, ...]
    history_orders: tuple[ApiOrder, ...]
    deals: tuple[ApiDeal, ...]
    complete: bool
    more: bool
    serial: int
    connected_after: bool


class HistoryPage(msgspec.Struct, frozen=True, array_like=True):
    """Final orders or deals, oldest first; the other one is empty. `through_s`: the last second that it covers.

    `login` and `server`: the account that it was read on, from beginning to end.
    """

    orders: tuple[ApiOrder, ...]
    deals: tuple[ApiDeal, ...]
    through_s: int
    login: int
    server: str


class SymbolEntry(msgspec.Struct, frozen=True, array_like=True):
    """What the list of symbols tells of one."""

    name: str
    description: str
    path: str
    currency_base: str
    currency_profit: str
    trade_mode: int
    selected: bool


class SymbolPage(msgspec.Struct, frozen=True, array_like=True):
    """Some of the broker's symbols, and how many there are."""

    entries: tuple[SymbolEntry, ...]
    total: int


__all__ = [
    "NO_API",
    "NO_TERMINAL",
    "PIPE_CODES",
    "RAISED",
    "REFUSED",
    "RES_E_AUTH_FAILED",
    "RES_E_NOT_FOUND",
    "RES_E_TIMEOUT",
    "SWITCHED",
    "Answer",
    "AnyCommand",
    "ApiCheckResult",
    "ApiSymbol",
    "ApiTick",
    "Ask",
    "Attach",
    "Attached",
    "Call",
    "Check",
    "Clip",
    "Command",
    "Greeting",
    "HistoryPage",
    "KeepStops",
    "LinkRole",
    "ListSymbols",
    "PollTicks",
    "PollTrade",
    "ReadHistory",
    "ReadTicks",
    "Send",
    "SendOutcome",
    "SymbolEntry",
    "SymbolPage",
    "SymbolTicks",
    "TickCursor",
    "TickPage",
    "TicksPolled",
    "TradePolled",
]
