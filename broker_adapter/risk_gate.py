"""The gate before every order: `market.risk`'s limits with the counters they need, trading mode and arming.

Mode, armed accounts and the day's starting equity are stored in the journal, so that a restart forgets none of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import msgspec

from broker_adapter.account_records import Records
from broker_adapter.broker_state import (
    DEAL_BALANCE,
    DEAL_BONUS,
    DEAL_CREDIT,
    PENDING_ORDER_TYPES,
    TRADE_MODE_REAL,
    BrokerRead,
    nets,
)
from broker_adapter.intents import Intent
from broker_adapter.journal import Journal
from broker_adapter.journal_records import MetaRecord
from broker_adapter.order_requests import Draft
from broker_adapter.order_states import OPEN, UNDECIDED, State
from market import risk
from market.risk import LimitUse, RiskCode, RiskLimits, RiskState, TradingMode
from mt5bus.settings import Risk
from protocol.errors import NotReady, RiskRefused
from protocol.messages import Account, Deal, Order, Position, Quote

_NEAR_MIDNIGHT_MS = 60_000  # a read this soon after it shows the equity at midnight
_MINUTE_NS = 60_000_000_000
_MINUTE_MS = 60_000
_PAID_IN = frozenset({DEAL_BALANCE, DEAL_CREDIT, DEAL_BONUS})


class DayStart(msgspec.Struct, frozen=True):
    """Equity at the server's last midnight. `at_ms`: that midnight, UTC."""

    server: str
    login: int
    at_ms: int
    equity: float


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What is open, on its way, or may be open.

    Attributes:
        positions: Open positions of the account.
        orders: Its active orders: pending ones may become positions at any moment.
        intents: Orders of ours that are in flight, undecided, or done but not yet seen among the positions.
    """

    positions: tuple[Position, ...]
    orders: tuple[Order, ...] = ()
    intents: tuple[Intent, ...]


class RiskGate:
    """Limits, mode and arming of one adapter.

    Attributes:
        silent: Symbols that only reduce since a strategy that trades them is silent, and the reason.
    """

    def __init__(self, limits: Risk, journal: Journal) -> None:
        self._limits = msgspec.convert(limits, RiskLimits, from_attributes=True)
        self.mode = TradingMode(journal.meta("mode", TradingMode.ACTIVE.value))
        self.mode_reason = journal.meta("mode_reason")
        self.mode_serial = int(journal.meta("mode_serial", "0"))
        self._armed = {key for key, on in journal.metas("armed:").items() if on == "1"}
        stored = journal.meta("day_start")
        self._day = msgspec.json.decode(stored.encode("utf-8"), type=DayStart) if stored else None
        self.silent: dict[str, str] = {}
        self._accepted_ns: deque[int] = deque()
        self._account: tuple[str, int] | None = None
        self._deposits: dict[int, tuple[int, float]] = {}
        self._deposits_from_ms: int | None = None
        self._deals_seen: Records[Deal] | None = None

    # --- Mode and arming ----------------------------------------------------------------------------------------

    def set_mode(self, mode: TradingMode, reason: str = "") -> tuple[MetaRecord, ...]:
        """Change the mode at once; return what makes it survive."""
        self.mode, self.mode_reason = mode, reason
        self.mode_serial += 1
        return (
            MetaRecord("mode", mode.value),
            MetaRecord("mode_reason", reason),
            MetaRecord("mode_serial", str(self.mode_serial)),
        )

    def arm(self, account: Account) -> tuple[MetaRecord, ...]:
        """Allow orders on a real account from now on; return what makes it survive.

        A number alone names no account: another broker may have the same.
        """
        self._armed.add(_armed_key(account))
        return (MetaRecord(_armed_key(account), "1"),)

    def disarm(self, login: int) -> tuple[MetaRecord, ...]:
        """Forbid orders on every real account of that number; return what makes it survive."""
        gone = {key for key in self._armed if key.startswith(f"armed:{login}@")}
        self._armed -= gone
        return tuple(MetaRecord(key, "0") for key in sorted(gone))

    def is_armed(self, account: Account) -> bool:
        """Whether orders may go to this account at all: it is not real, or armed."""
        return account.trade_mode != TRADE_MODE_REAL or _armed_key(account) in self._armed

    # --- The gate -----------------------------------------------------------------------------------------------

    def check(
        self,
        order: Draft,
        *,
        account: Account,
        exposure: Exposure,
        quote: Quote | None,
        point: float,
        now_ms: int,
        now_ns: int,
        server_time_known: bool,
        strategy: str = "",
        gap: bool = False,
        operator: bool = False,
        any_strategy: bool = False,
    ) -> None:
        """Let the order pass.

        Args:
            strategy: Whose order it is; empty: nobody's in particular.
            gap: Ticks of the symbol are known to be missing.
            operator: It comes from flattening, not from a strategy.
            any_strategy: Let it pass if it would pass for the right strategy.

        Raises:
            RiskRefused: A limit, the mode or arming forbids it; details have `limit`, `allowed` and `value`.
            NotReady: The server's time is not measured yet.
        """
        state = self._state(order, account, exposure, quote, point, now_ms, now_ns)
        owned = nets(account) and not any_strategy
        refusal = risk.check(
            order.symbol,
            order.volume,
            limits=self._limits,
            state=msgspec.structs.replace(
                state,
                gap=gap,
                server_time_known=server_time_known,
                silent=self.silent.get(order.symbol, ""),
                owners=_other_owners(order.symbol, exposure, strategy) if owned else (),
            ),
            # Neither a changed stop nor a changed pending price adds volume: the limits on amounts are not for them.
            reduces=order.reduces or order.action in {"modify_position", "modify_order"},
            operator=operator,
        )
        if refusal is not None and refusal.code is RiskCode.SERVER_TIME:
            raise NotReady(f"risk: {refusal.text}: try again in a moment", {"limit": refusal.code.value})
        if refusal is not None:
            raise refused(refusal.code, refusal.text, refusal.limit, refusal.value)
        if order.expiration_ms and not server_time_known:  # a changed pending order passes the check above
            text = (
                "risk: the server's time is not measured yet, and the order is to expire by it: try again in a moment"
            )
            raise NotReady(text, {"limit": RiskCode.SERVER_TIME.value})
        if self.mode is TradingMode.REDUCING and not order.reduces:
            raise refused(RiskCode.MODE, "trading only reduces: this would loosen a stop or change a pending order")
        if order.symbol in self.silent and not order.reduces:
            text = f"this would loosen a stop or change a pending order, and {order.symbol} only reduces: "
            raise refused(RiskCode.STRATEGY_SILENT, text + self.silent[order.symbol])

    def account_uses(self, account: Account, exposure: Exposure, now_ns: int) -> tuple[LimitUse, ...]:
        """Return the limits of the whole account and what is held against them."""
        state = self._state(Draft(action="open", symbol=""), account, exposure, None, 0.0, 0, now_ns)
        state = msgspec.structs.replace(state, daily_loss=self.daily_loss(account))
        return risk.account_uses(self._limits, state, currency=account.currency)

    def symbol_uses(
        self, symbol: str, account: Account, exposure: Exposure, quote: Quote | None, point: float, now_ms: int
    ) -> tuple[LimitUse, ...]:
        """Return the limits of one symbol and what is held against them."""
        state = self._state(Draft(action="open", symbol=symbol), account, exposure, quote, point, now_ms, 0)
        return risk.symbol_uses(symbol, self._limits, state)

    def count_order(self, now_ns: int) -> None:
        """Note that an order that adds exposure was accepted."""
        self._accepted_ns.append(now_ns)

    def recount(self, intents: Iterable[Intent], *, wall_ms: int, now_ns: int) -> None:
        """Count the orders that an earlier life accepted within the last minute.

        Args:
            intents: All that were stored within the last minute: some were taken before it and decided in it. One taken
                in the future, as a clock that was set back has it, counts as taken now.
        """
        ages_ms = (wall_ms - i.taken_ms for i in intents if i.opens and i.state is not State.REFUSED)
        counted = sorted((max(0, age) for age in ages_ms if age < _MINUTE_MS), reverse=True)
        self._accepted_ns = deque(now_ns - age * 1_000_000 for age in counted)

    def _state(
        self,
        order: Draft,
        account: Account,
        exposure: Exposure,
        quote: Quote | None,
        point: float,
        now_ms: int,
        now_ns: int,
    ) -> RiskState:
        while self._accepted_ns and now_ns - self._accepted_ns[0] >= _MINUTE_NS:
            self._accepted_ns.popleft()
        opening = [intent for intent in exposure.intents if intent.opens]
        ages = [] if quote is None else [max(0, now_ms - quote.time_ms)]
        if ages and order.decided_ms:
            ages.append(max(0, now_ms - order.decided_ms))
        pending = [each for each in exposure.orders if each.type in PENDING_ORDER_TYPES]
        # A reversal ends the position that it meets; should that be gone by then, all of its volume opens.
        held = () if order.reverses else exposure.positions
        on_symbol = [p.volume for p in held if p.symbol == order.symbol]
        on_symbol += [each.volume_current for each in pending if each.symbol == order.symbol]
        return RiskState(
            mode=self.mode,
            armed=self.is_armed(account),
            open_positions=_positions_beside(order, account, exposure, pending, opening),
            symbol_volume=sum(on_symbol) + sum(i.volume for i in opening if i.symbol == order.symbol),
            orders_last_minute=len(self._accepted_ns),
            daily_loss=self.daily_loss(account) if self._limits.max_daily_loss else 0.0,
            spread_points=_spread_points(quote, point),
            price_age_ms=max(ages) if ages else None,
            unknown_outcome=any(i.symbol == order.symbol and i.state in UNDECIDED for i in exposure.intents),
        )

    # --- The day's loss -----------------------------------------------------------------------------------------

    def daily_loss(self, account: Account) -> float:
        """Return the loss since the server's midnight, account currency; NaN while it is not known.

        After a restart it is known once the day's deposits have been read again.
        """
        day, from_ms, present = self._day, self._deposits_from_ms, (account.server, account.login)
        if day is None or (day.server, day.login) != present or self._account != present:
            return math.nan
        if from_ms is None or from_ms > day.at_ms:
            return math.nan
        deposits = sum(amount for at_ms, amount in self._deposits.values() if at_ms >= day.at_ms)
        return risk.daily_loss(midnight_equity=day.equity, deposits=deposits, equity=account.equity)

    def on_read(self, read: BrokerRead, *, midnight_ms: int) -> tuple[MetaRecord, ...]:
        """Take note of the account; return what is to be stored when a new day has begun.

        Args:
            midnight_ms: The server's last midnight as a moment in UTC.
        """
        self._note_deposits(read, midnight_ms)
        day, account = self._day, read.account
        same_account = day is not None and (day.server, day.login) == (account.server, account.login)
        if same_account and day is not None and day.at_ms >= midnight_ms:
            return ()
        if read.history_from_ms > midnight_ms:
            return ()  # the day's deals are not all here; a later read reaches further back
        just_now = same_account and read.market_ms - midnight_ms < _NEAR_MIDNIGHT_MS
        equity = account.equity if just_now else _balance_and_credit_at(midnight_ms, read)
        self._day = DayStart(account.server, account.login, midnight_ms, equity)
        self._deposits = {ticket: paid for ticket, paid in self._deposits.items() if paid[0] >= midnight_ms}
        return (MetaRecord("day_start", msgspec.json.encode(self._day).decode("utf-8")),)

    def _note_deposits(self, read: BrokerRead, midnight_ms: int) -> None:
        account = (read.account.server, read.account.login)
        if account != self._account:
            self._account, self._deposits, self._deposits_from_ms, self._deals_seen = account, {}, None, None
        day = self._day
        from_ms = midnight_ms if day is None or (day.server, day.login) != account else min(day.at_ms, midnight_ms)
        for deal in read.deals.since(self._deals_seen):
            if deal.type in _PAID_IN:
                self._deposits[deal.ticket] = (deal.time_ms, deal.profit)
        self._deals_seen = read.deals
        if read.history_from_ms <= from_ms:
            self._deposits_from_ms = from_ms  # from there on all are known: the reads that follow overlap


def _spread_points(quote: Quote | None, point: float) -> int | None:
    """Return the spread of a quote; None where it cannot be computed from what the broker tells."""
    if quote is None or not point > 0:
        return None
    points = (quote.ask - quote.bid) / point
    return round(points) if math.isfinite(points) else None


def _positions_beside(
    order: Draft, account: Account, exposure: Exposure, pending: list[Order], opening: list[Intent]
) -> int:
    """Return how many positions there are, or may be, beside the one that `order` would make."""
    if not nets(account):
        return len(exposure.positions) + len(pending) + len(opening)
    symbols = {p.symbol for p in exposure.positions} | {o.symbol for o in pending} | {i.symbol for i in opening}
    return len(symbols - {order.symbol})


def refused(code: RiskCode, text: str, limit: float = 0.0, value: float = 0.0) -> RiskRefused:
    """Return the error of a refusal."""
    return RiskRefused(f"risk: {text}", {"limit": code.value, "allowed": f"{limit:g}", "value": f"{value:g}"})


def closing_volume(exposure: Exposure, position: int) -> float:
    """Return how many lots of a position are being closed, may have been closed, or were closed unseen."""
    return sum(intent.closes_of(position) for intent in exposure.intents)


def is_working(intent: Intent) -> bool:
    """Whether an order is in flight or undecided."""
    return intent.state in OPEN or intent.state in UNDECIDED


def _other_owners(symbol: str, exposure: Exposure, strategy: str) -> tuple[str, ...]:
    """Return who else has a position, a pending order or an order on its way on the symbol."""
    owners = {p.strategy for p in exposure.positions if p.symbol == symbol}
    owners |= {o.strategy for o in exposure.orders if o.symbol == symbol and o.type in PENDING_ORDER_TYPES}
    owners |= {i.strategy for i in exposure.intents if i.symbol == symbol and i.opens}
    return tuple(sorted(owners - {strategy}))


def _balance_and_credit_at(midnight_ms: int, read: BrokerRead) -> float:
    booked = sum(d.profit + d.commission + d.swap + d.fee for d in read.deals if d.time_ms >= midnight_ms)
    return read.account.balance + read.account.credit - booked


def _armed_key(account: Account) -> str:
    return f"armed:{account.login}@{account.server}"
