"""The risk gate as a pure function: limits and what is known go in, a refusal or nothing comes out.

Limits protect against taking on more; none of them may keep anyone in a position. So an order that only reduces
(a close of no more than the position, a removal of a pending order, a nearer stop) passes every limit, and
is refused by three things alone: an account that is not armed, the mode HALTED (unless the operator flattens),
and a request that is no reduction after all, which the caller finds out.

Whatever is not known (no price, a loss that cannot be computed) refuses new exposure.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

# Volumes are sums of binary floats: 0.1 + 0.2 is not above a limit of 0.3.
_VOLUME_TOLERANCE = 1e-9


class TradingMode(StrEnum):
    """What orders may do at all."""

    ACTIVE = "active"
    REDUCING = "reducing"
    """Only orders that reduce."""
    HALTED = "halted"
    """Nothing but the operator's own reductions."""


class RiskCode(StrEnum):
    """Why an order was refused: stable names, for programs."""

    NOT_ARMED = "not_armed"
    MODE = "mode"
    SYMBOL = "symbol"
    OWNER = "owner"
    STRATEGY_SILENT = "strategy_silent"
    VOLUME_PER_ORDER = "volume_per_order"
    VOLUME_PER_SYMBOL = "volume_per_symbol"
    POSITIONS = "positions"
    ORDERS_PER_MINUTE = "orders_per_minute"
    DAILY_LOSS = "daily_loss"
    SPREAD = "spread"
    PRICE_AGE = "price_age"
    GAP = "gap"
    UNKNOWN_OUTCOME = "unknown_outcome"
    SERVER_TIME = "server_time"


class SymbolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a symbol has instead of the limits for all; None: the same."""

    max_volume_per_order: float | None = None
    """Lots."""
    max_volume_per_symbol: float | None = None
    """Lots."""
    max_spread_points: int | None = None
    """0 = no limit."""


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits, named as in the configuration."""

    max_volume_per_order: float = 1.0
    """Lots."""
    max_volume_per_symbol: float = 5.0
    """Lots."""
    max_positions: int = 20
    max_orders_per_minute: int = 60
    max_daily_loss: float = 0.0
    """Account currency since the last server midnight; 0 = no limit."""
    max_spread_points: int = 0
    """0 = no limit."""
    max_price_age_ms: int = 15_000
    symbols: tuple[str, ...] = ()
    """Canonical names that may be traded; none = all."""
    symbol: dict[str, SymbolLimits] = {}
    """By canonical name."""

    def of(self, symbol: str) -> RiskLimits:
        """Return the limits that hold for one symbol."""
        own = self.symbol.get(symbol)
        if own is None:
            return self
        given = {name: value for name, value in msgspec.structs.asdict(own).items() if value is not None}
        return msgspec.structs.replace(self, **given)


class RiskState(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate needs to know at the moment of an order."""

    mode: TradingMode = TradingMode.ACTIVE
    armed: bool = True
    """False on a real account until the user arms it."""
    open_positions: int = 0
    """Positions and pending orders, with those on their way and those of unknown outcome."""
    symbol_volume: float = 0.0
    """Lots of the same on the order's symbol."""
    orders_last_minute: int = 0
    daily_loss: float = 0.0
    """As `daily_loss` computes it; NaN when it cannot be known."""
    spread_points: int | None = None
    """Now; None without a price."""
    price_age_ms: int | None = None
    """Age of the newest tick of the symbol, market time; None without one."""
    gap: bool = False
    """Ticks or events are known to be missing and not yet healed."""
    unknown_outcome: bool = False
    """An order on this symbol has an outcome that is not known yet."""
    server_time_known: bool = True
    """False while the server's offset from UTC is only assumed."""
    silent: str = ""
    """Why the symbol only reduces: a strategy that trades it is not heard of. Empty: it does not."""
    owners: tuple[str, ...] = ()
    """Where positions net: whose position and orders are on the symbol, other than the asker's; empty = by hand."""


class LimitUse(msgspec.Struct, frozen=True, array_like=True):
    """One limit, what is held against it now, and how much is left, all in `unit`."""

    name: str
    """The `RiskCode` of its refusal."""
    symbol: str
    """Canonical name; empty for a limit of the whole account."""
    unit: str
    """``lots``, ``positions``, ``orders``, ``points``, ``ms``, or the account's currency."""
    limit: float | None
    """None: there is no limit."""
    used: float | None
    """None: not known, or known of an order only."""

    @property
    def left(self) -> float | None:
        """How much is left, negative beyond the limit; None without a limit or without knowledge."""
        return None if self.limit is None or self.used is None else self.limit - self.used


class RiskRefusal(msgspec.Struct, frozen=True):
    """Why an order may not go out."""

    code: RiskCode
    text: str
    limit: float = 0.0
    value: float = 0.0
    """What was found, in the limit's unit."""


def daily_loss(*, midnight_equity: float, deposits: float, equity: float) -> float:
    """Return the loss since the last server midnight, account currency; a gain is negative.

    Args:
        midnight_equity: Equity at the last midnight of the server.
        deposits: Money paid in since (withdrawals negative): neither gain nor loss.
        equity: Equity now.
    """
    return midnight_equity + deposits - equity


def check(
    symbol: str, volume: float, *, limits: RiskLimits, state: RiskState, reduces: bool, operator: bool = False
) -> RiskRefusal | None:
    """Return why an order may not go out, or None when it may.

    A value equal to its limit passes, but for the daily loss: a loss that has reached its limit is enough.

    Args:
        symbol: Canonical name.
        volume: Lots the order would add.
        limits: As configured, for all symbols.
        state: As it is now, this order not included.
        reduces: The order can only make exposure smaller.
        operator: It comes from the operator's flatten, not from a strategy.
    """
    if not state.armed:
        return RiskRefusal(RiskCode.NOT_ARMED, "this is a real account that is only observed: arm it to let orders out")
    if state.mode == TradingMode.HALTED and not (reduces and operator):
        return RiskRefusal(RiskCode.MODE, "trading is halted: no orders until it is resumed")
    if reduces:
        return None
    if state.mode == TradingMode.REDUCING:
        return RiskRefusal(RiskCode.MODE, "trading only reduces: no new exposure until it is resumed")
    if state.silent:
        return RiskRefusal(RiskCode.STRATEGY_SILENT, f"{symbol} only reduces: {state.silent}")
    own = limits.of(symbol)
    return _check_knowledge(symbol, own, state) or _check_amounts(symbol, volume, own, state)


def _check_knowledge(symbol: str, limits: RiskLimits, state: RiskState) -> RiskRefusal | None:
    if not state.server_time_known:
        return RiskRefusal(RiskCode.SERVER_TIME, "the server's time is not measured yet: no new exposure until it is")
    if state.unknown_outcome:
        return RiskRefusal(
            RiskCode.UNKNOWN_OUTCOME,
            f"an order on {symbol} has an outcome not known yet: no new exposure until evidence settles it",
        )
    if state.gap:
        return RiskRefusal(RiskCode.GAP, f"ticks of {symbol} are missing and not healed yet: no new exposure")
    age_ms, age_limit = state.price_age_ms, limits.max_price_age_ms
    if age_ms is None:
        return RiskRefusal(RiskCode.PRICE_AGE, f"there is no price of {symbol} yet", age_limit)
    if age_ms > age_limit:
        text = f"the price of {symbol} is {age_ms} ms old, the limit is {age_limit} ms"
        return RiskRefusal(RiskCode.PRICE_AGE, text, age_limit, age_ms)
    spread, spread_limit = state.spread_points, limits.max_spread_points
    if spread_limit and spread is None:
        return RiskRefusal(RiskCode.SPREAD, f"the spread of {symbol} is not known", spread_limit)
    if spread_limit and spread is not None and spread > spread_limit:
        text = f"the spread of {symbol} is {spread} points, the limit is {spread_limit}"
        return RiskRefusal(RiskCode.SPREAD, text, spread_limit, spread)
    return None


def _check_amounts(symbol: str, volume: float, limits: RiskLimits, state: RiskState) -> RiskRefusal | None:
    if limits.symbols and symbol not in limits.symbols:
        return RiskRefusal(RiskCode.SYMBOL, f"{symbol} is not among the symbols allowed: {', '.join(limits.symbols)}")
    if state.owners:
        whose = " and ".join(repr(owner) if owner else "somebody by hand" for owner in state.owners)
        text = f"{symbol} is traded by {whose}: where positions net, one strategy has a symbol to itself"
        return RiskRefusal(RiskCode.OWNER, text)
    # Written so that a NaN fails: every comparison with it is false.
    if not 0 <= volume <= limits.max_volume_per_order + _VOLUME_TOLERANCE:
        text = f"{volume:g} lots in one order, the limit is {limits.max_volume_per_order:g}"
        return RiskRefusal(RiskCode.VOLUME_PER_ORDER, text, limits.max_volume_per_order, volume)
    total = state.symbol_volume + volume
    if not total <= limits.max_volume_per_symbol + _VOLUME_TOLERANCE:
        text = f"{total:g} lots on {symbol} with this order, the limit is {limits.max_volume_per_symbol:g}"
        return RiskRefusal(RiskCode.VOLUME_PER_SYMBOL, text, limits.max_volume_per_symbol, total)
    positions = state.open_positions + 1
    if positions > limits.max_positions:
        text = f"{positions} positions with this order, the limit is {limits.max_positions}"
        return RiskRefusal(RiskCode.POSITIONS, text, limits.max_positions, positions)
    orders = state.orders_last_minute + 1
    if orders > limits.max_orders_per_minute:
        text = f"{orders} orders within a minute with this one, the limit is {limits.max_orders_per_minute}"
        return RiskRefusal(RiskCode.ORDERS_PER_MINUTE, text, limits.max_orders_per_minute, orders)
    if limits.max_daily_loss and not state.daily_loss < limits.max_daily_loss:
        text = f"{state.daily_loss:.2f} lost since the server's midnight, the limit is {limits.max_daily_loss:.2f}"
        return RiskRefusal(RiskCode.DAILY_LOSS, text, limits.max_daily_loss, state.daily_loss)
    return None


def account_uses(limits: RiskLimits, state: RiskState, *, currency: str) -> tuple[LimitUse, ...]:
    """Return the limits of the whole account and what is held against them."""
    loss = state.daily_loss if state.daily_loss == state.daily_loss else None  # NaN: not known
    return (
        LimitUse(RiskCode.POSITIONS.value, "", "positions", limits.max_positions, state.open_positions),
        LimitUse(
            RiskCode.ORDERS_PER_MINUTE.value, "", "orders", limits.max_orders_per_minute, state.orders_last_minute
        ),
        LimitUse(RiskCode.DAILY_LOSS.value, "", currency, limits.max_daily_loss or None, loss),
    )


def symbol_uses(symbol: str, limits: RiskLimits, state: RiskState) -> tuple[LimitUse, ...]:
    """Return the limits of one symbol and what is held against them."""
    own = limits.of(symbol)
    return (
        LimitUse(RiskCode.VOLUME_PER_ORDER.value, symbol, "lots", own.max_volume_per_order, None),
        LimitUse(RiskCode.VOLUME_PER_SYMBOL.value, symbol, "lots", own.max_volume_per_symbol, state.symbol_volume),
        LimitUse(RiskCode.SPREAD.value, symbol, "points", own.max_spread_points or None, state.spread_points),
        LimitUse(RiskCode.PRICE_AGE.value, symbol, "ms", own.max_price_age_ms, state.price_age_ms),
    )
