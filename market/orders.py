"""Whether an order makes sense for its symbol at the present price, before it goes near the terminal.

The rules are MetaTrader's own: volumes on the step and inside the limits, prices on the tick grid, stops on the
right side and no nearer than the stops level, pending prices on the side their type needs. Nothing is corrected
here: an order that does not fit is refused with the name of the field.

Not checked: the freeze level (it depends on the broker's price at that instant), money, and whatever only
the server knows. A close is checked least of all: a stale specification must not keep anyone in a position.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from market.instrument import ExpirationFlag, Instrument, OrderFlag, TradeMode, on_grid, price_step

BUY: Final = "buy"
SELL: Final = "sell"
SIDES: Final = (BUY, SELL)

OPEN: Final = "open"
PENDING: Final = "pending"
CLOSE: Final = "close"
MODIFY_POSITION: Final = "modify_position"
MODIFY_ORDER: Final = "modify_order"
CANCEL: Final = "cancel"
CLOSE_BY: Final = "close_by"
ACTIONS: Final = (OPEN, PENDING, CLOSE, MODIFY_POSITION, MODIFY_ORDER, CANCEL, CLOSE_BY)

MARKET: Final = "market"
LIMIT: Final = "limit"
STOP: Final = "stop"
STOP_LIMIT: Final = "stop_limit"
PENDING_TYPES: Final = (LIMIT, STOP, STOP_LIMIT)

COMMENT_MAX_LENGTH: Final = 29
"""Characters; the terminal's client refuses longer ones."""
PRICE_MAX: Final = 1e9
"""No instrument costs so much: what is above is a mistake or an attack, and has no grid to lie on."""
DEVIATION_MAX_POINTS: Final = 100_000
EXPIRATION_MAX_MS: Final = (2**31 - 1) * 1000
"""The terminal's client keeps times as signed 32-bit seconds."""

_TYPE_FLAG = {
    MARKET: OrderFlag.MARKET,
    LIMIT: OrderFlag.LIMIT,
    STOP: OrderFlag.STOP,
    STOP_LIMIT: OrderFlag.STOP_LIMIT,
}
# A price this part of a point short of its distance still keeps it: the noise of binary floats.
_POINT_TOLERANCE = 1e-3


class OrderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an order asks for. Prices of 0 mean none."""

    action: str
    """One of `ACTIONS`."""
    side: str = BUY
    """Of the order (open, pending, modify_order) or of the position (close, modify_position)."""
    type: str = MARKET
    """`market`, or the kind of pending order (pending, modify_order)."""
    volume: float = 0.0
    """Lots; for a close 0 means all of it."""
    price: float = 0.0
    stoplimit: float = 0.0
    """Price of the limit order that a stop_limit places when triggered."""
    sl: float = 0.0
    tp: float = 0.0
    deviation_points: int = 0
    comment: str = ""
    expiration_ms: int = 0
    """UTC, pending orders only; 0 = good till cancelled."""


class OrderInvalid(ValueError):
    """The order cannot be: `field` names what is wrong, `text` says why and what would do."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.text = text


def validate(
    spec: OrderSpec,
    instrument: Instrument,
    *,
    now_ms: int,
    bid: float = 0.0,
    ask: float = 0.0,
    position_volume: float = 0.0,
) -> None:
    """Check an order; return when it can be sent.

    Args:
        spec: The order.
        instrument: Its symbol's specification.
        now_ms: Market time, UTC.
        bid: Current price; 0 = not known. Orders that add exposure need it.
        ask: The same.
        position_volume: Lots of the position that a close names.

    Raises:
        OrderInvalid: the first field that does not fit.
    """
    _check_words(spec)
    _check_numbers(spec)
    _check_comment(spec.comment)
    if spec.action == CANCEL:
        return
    if spec.action == CLOSE_BY:
        if not instrument.order_mask & OrderFlag.CLOSE_BY:
            raise OrderInvalid("position_by", f"{instrument.symbol} takes no close-by orders at this broker")
        return
    if spec.action == CLOSE:
        _check_close_volume(spec.volume, instrument, position_volume)
        return
    _check_grid(spec, instrument)
    if spec.action in {OPEN, PENDING}:
        _check_permitted(spec, instrument)
        _check_volume(spec.volume, instrument)
    _check_expiration(spec, instrument, now_ms)
    _check_prices(spec, instrument, bid, ask)


def _check_words(spec: OrderSpec) -> None:
    if spec.action not in ACTIONS:
        raise OrderInvalid("action", f"{_shown(spec.action)} is none of {', '.join(ACTIONS)}")
    if spec.action == CANCEL:
        return
    if spec.side not in SIDES:
        raise OrderInvalid("side", f"{_shown(spec.side)} is neither buy nor sell")
    types = PENDING_TYPES if spec.action in {PENDING, MODIFY_ORDER} else (MARKET,)
    if spec.type not in types:
        raise OrderInvalid("type", f"{_shown(spec.type)} is none of {', '.join(types)}")


def _check_numbers(spec: OrderSpec) -> None:
    for name in ("volume", "price", "stoplimit", "sl", "tp"):
        value = getattr(spec, name)
        if not math.isfinite(value):
            raise OrderInvalid(name, f"{value!r} is not a number")
        if value < 0:
            raise OrderInvalid(name, f"{value!r} is negative")
        if value > PRICE_MAX:
            raise OrderInvalid(name, f"{value!r} is beyond anything traded ({PRICE_MAX:g})")
    if not 0 <= spec.deviation_points <= DEVIATION_MAX_POINTS:
        raise OrderInvalid(
            "deviation_points", f"{spec.deviation_points} is not within 0 to {DEVIATION_MAX_POINTS} points"
        )
    if not 0 <= spec.expiration_ms <= EXPIRATION_MAX_MS:
        raise OrderInvalid(
            "expiration_ms", f"{spec.expiration_ms} is no time the terminal can keep (UTC ms before 2038-01-19)"
        )


def _check_comment(comment: str) -> None:
    if len(comment) > COMMENT_MAX_LENGTH:
        raise OrderInvalid("comment", f"{len(comment)} characters; the terminal takes {COMMENT_MAX_LENGTH}")
    if not all(" " <= character <= "~" for character in comment):
        raise OrderInvalid("comment", "has characters other than printable ASCII")


def _check_close_volume(volume: float, instrument: Instrument, position_volume: float) -> None:
    if volume == 0:
        return
    tolerance = instrument.volume_step * 1e-6
    if volume > position_volume + tolerance:
        raise OrderInvalid("volume", f"{volume:g} lots are more than the position's {position_volume:g}")
    if abs(volume - position_volume) <= tolerance:
        return
    _check_step(volume, instrument)
    if volume < instrument.volume_min - tolerance:
        raise OrderInvalid("volume", f"{volume:g} lots are less than the symbol's least {instrument.volume_min:g}")
    rest = position_volume - volume
    if rest < instrument.volume_min - tolerance:
        raise OrderInvalid(
            "volume",
            f"would leave {rest:g} lots, less than the symbol's least {instrument.volume_min:g}: close all of it "
            "(volume 0) or less",
        )


def _check_volume(volume: float, instrument: Instrument) -> None:
    if volume <= 0:
        raise OrderInvalid("volume", "must be above 0 lots")
    tolerance = instrument.volume_step * 1e-6
    if volume < instrument.volume_min - tolerance:
        raise OrderInvalid("volume", f"{volume:g} lots are less than the symbol's least {instrument.volume_min:g}")
    if volume > instrument.volume_max + tolerance:
        raise OrderInvalid("volume", f"{volume:g} lots are more than the symbol's largest {instrument.volume_max:g}")
    _check_step(volume, instrument)


def _check_step(volume: float, instrument: Instrument) -> None:
    if not on_grid(volume, instrument.volume_step):
        raise OrderInvalid("volume", f"{volume!r} lots are not on the symbol's step of {instrument.volume_step:g}")


def _check_grid(spec: OrderSpec, instrument: Instrument) -> None:
    step = price_step(instrument)
    for name in ("price", "stoplimit", "sl", "tp"):
        value = getattr(spec, name)
        if value and not on_grid(value, step):
            raise OrderInvalid(name, f"{value!r} is not on the symbol's price grid of {step:g}")


def _check_permitted(spec: OrderSpec, instrument: Instrument) -> None:
    symbol, mode = instrument.symbol, instrument.trade_mode
    if mode == TradeMode.DISABLED:
        raise OrderInvalid("symbol", f"trading {symbol} is disabled at this broker")
    if mode == TradeMode.CLOSE_ONLY:
        raise OrderInvalid("symbol", f"{symbol} can only be closed at this broker, not opened")
    if mode == TradeMode.LONG_ONLY and spec.side == SELL:
        raise OrderInvalid("side", f"{symbol} can only be bought at this broker")
    if mode == TradeMode.SHORT_ONLY and spec.side == BUY:
        raise OrderInvalid("side", f"{symbol} can only be sold at this broker")
    if not instrument.order_mask & _TYPE_FLAG[spec.type]:
        raise OrderInvalid("type", f"{symbol} takes no {spec.type} orders at this broker")
    if spec.sl and not instrument.order_mask & OrderFlag.SL:
        raise OrderInvalid("sl", f"{symbol} takes no stop loss at this broker")
    if spec.tp and not instrument.order_mask & OrderFlag.TP:
        raise OrderInvalid("tp", f"{symbol} takes no take profit at this broker")


def _check_expiration(spec: OrderSpec, instrument: Instrument, now_ms: int) -> None:
    if spec.action not in {PENDING, MODIFY_ORDER}:
        if spec.expiration_ms:
            raise OrderInvalid("expiration_ms", "only a pending order can expire")
        return
    needed = ExpirationFlag.SPECIFIED if spec.expiration_ms else ExpirationFlag.GTC
    if not instrument.expiration_mask & needed:
        kind = "an expiration time" if spec.expiration_ms else "orders without an expiration time"
        raise OrderInvalid("expiration_ms", f"{instrument.symbol} does not take {kind} at this broker")
    if spec.expiration_ms and spec.expiration_ms <= now_ms:
        raise OrderInvalid("expiration_ms", f"lies {now_ms - spec.expiration_ms} ms in the past")


def _check_prices(spec: OrderSpec, instrument: Instrument, bid: float, ask: float) -> None:
    known = 0 < bid < math.inf and 0 < ask < math.inf
    if not known and spec.action != MODIFY_POSITION:
        raise OrderInvalid("symbol", f"there is no current price of {instrument.symbol} to check the order against")
    if spec.action in {PENDING, MODIFY_ORDER}:
        _check_pending_price(spec, instrument, bid, ask)
        entry = spec.stoplimit if spec.type == STOP_LIMIT else spec.price
        _check_stops(spec, instrument, entry)
    elif known:
        # A long position is closed at the bid, a short one at the ask: from there the distances count.
        _check_stops(spec, instrument, bid if spec.side == BUY else ask)


def _check_pending_price(spec: OrderSpec, instrument: Instrument, bid: float, ask: float) -> None:
    if not spec.price:
        raise OrderInvalid("price", f"a {spec.type} order needs a price")
    buys = spec.side == BUY
    market = ask if buys else bid
    # A limit waits for a better price, a stop (and the trigger of a stop-limit) for a worse one.
    below = (spec.type == LIMIT) == buys
    _check_side(spec, "price", instrument, market, below=below)
    if spec.type != STOP_LIMIT:
        if spec.stoplimit:
            raise OrderInvalid("stoplimit", f"a {spec.type} order has none")
        return
    if not spec.stoplimit:
        raise OrderInvalid("stoplimit", "a stop_limit order needs the price of its limit order")
    if (spec.stoplimit >= spec.price) if buys else (spec.stoplimit <= spec.price):
        where = "below" if buys else "above"
        raise OrderInvalid("stoplimit", f"must lie {where} the trigger price {spec.price:g}, got {spec.stoplimit:g}")


def _check_stops(spec: OrderSpec, instrument: Instrument, reference: float) -> None:
    buys = spec.side == BUY
    if spec.sl:
        _check_side(spec, "sl", instrument, reference, below=buys)
    if spec.tp:
        _check_side(spec, "tp", instrument, reference, below=not buys)


def _check_side(spec: OrderSpec, field: str, instrument: Instrument, reference: float, *, below: bool) -> None:
    value: float = getattr(spec, field)
    distance_points = (reference - value if below else value - reference) / instrument.point
    what = f"of a {spec.side} {spec.type} order"
    if distance_points <= _POINT_TOLERANCE:
        where = "below" if below else "above"
        raise OrderInvalid(field, f"{what} must lie {where} {reference:.{instrument.digits}f}, got {value:g}")
    if distance_points < instrument.stops_level_points - _POINT_TOLERANCE:
        raise OrderInvalid(
            field,
            f"{what} must lie at least {instrument.stops_level_points} points from "
            f"{reference:.{instrument.digits}f}, {value:g} lies {distance_points:.0f}",
        )


def _shown(text: str) -> str:
    return repr(text[:40])
