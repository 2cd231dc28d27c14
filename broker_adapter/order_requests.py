"""From a request on the bus to what would be sent, and from an intent to the terminal's own request. Pure.

Everything is checked here before anything is written or sent; nothing is guessed or corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypedDict

import msgspec

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.broker_state import VOLUME_EPSILON, opposite, side_of_order, side_of_position
from broker_adapter.intents import OPENING, Intent
from market.instrument import Filling, FillingError, Instrument, choose_filling
from market.orders import OrderInvalid, OrderSpec, validate
from protocol.errors import NotFound, NotReady, StateConflict, ValidationFailed
from protocol.messages import (
    CancelOrder,
    CloseBy,
    ClosePosition,
    ModifyOrder,
    ModifyPosition,
    Order,
    OrderRequest,
    Position,
    Quote,
    SubmitOrder,
)

# Values of the API (package constants).
_DEAL, _PENDING, _SLTP, _MODIFY, _REMOVE, _CLOSE_BY = 1, 5, 6, 7, 8, 10
_TIME_GTC, _TIME_SPECIFIED = 0, 2
_ORDER_TYPES = {
    ("market", "buy"): 0,
    ("market", "sell"): 1,
    ("limit", "buy"): 2,
    ("limit", "sell"): 3,
    ("stop", "buy"): 4,
    ("stop", "sell"): 5,
    ("stop_limit", "buy"): 6,
    ("stop_limit", "sell"): 7,
}
_TYPE_NAMES = {number: name for (name, _), number in _ORDER_TYPES.items()}
_FUTURE_TOLERANCE_MS = 60_000
TTL_MAX_MS = 3_600_000


class View(Protocol):
    """What is known of account and market at this moment."""

    def instrument(self, symbol: str) -> Instrument:
        """Return the specification. Raises NotFound or NotReady."""
        ...

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote."""
        ...

    def position(self, ticket: int) -> Position | None:
        """Return an open position by its ticket."""
        ...

    def order(self, ticket: int) -> Order | None:
        """Return an active order by its ticket."""
        ...

    @property
    def now_ms(self) -> int:
        """Market time, UTC."""
        ...

    @property
    def netting(self) -> bool:
        """Whether the account has one position per symbol."""
        ...

    def net_position(self, symbol: str) -> Position | None:
        """Return the open position on a symbol of a netting account; None on a hedging account."""
        ...


class RequestedValues(TypedDict):
    """What an intent keeps of a request that was refused."""

    symbol: str
    side: str
    volume: float
    price: float
    sl: float
    tp: float


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A checked order that has no number yet.

    Attributes:
        type: As in `SubmitOrder`.
        reduces: It only makes exposure smaller.
        reverses: It closes a netting position and opens the other side with the rest.
        keeps_sl, keeps_tp, ticket_by, position_by: As in `Intent`.
    """

    action: str
    symbol: str
    broker_symbol: str = ""
    side: str = ""
    type: str = "market"
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation_points: int = 0
    filling: int = 0
    expiration_ms: int = 0
    users_comment: str = ""
    ticket: int = 0
    position: int = 0
    order: int = 0
    decided_ms: int = 0
    reduces: bool = False
    reverses: bool = False
    keeps_sl: bool = False
    keeps_tp: bool = False
    ticket_by: int = 0
    position_by: int = 0

    @property
    def opens(self) -> bool:
        """Whether it adds exposure."""
        return self.action in OPENING


def draft(request: OrderRequest, view: View) -> Draft:
    """Return the checked order that `request` asks for.

    Raises:
        ValidationFailed: A field is wrong; the details name it.
        NotFound: No such symbol, position or order.
        NotReady: What it would have to be checked against is not known yet.
        StateConflict: The account is of a kind that does not take it.
    """
    if not all(" " <= sign <= "~" for sign in request.strategy):
        raise ValidationFailed("strategy: has characters other than printable ASCII", {"field": "strategy"})
    if not 0 <= request.ttl_ms <= TTL_MAX_MS:
        raise ValidationFailed(f"ttl_ms: {request.ttl_ms} is not within 0 to {TTL_MAX_MS}", {"field": "ttl_ms"})
    try:
        return _DRAFTS[type(request)](request, view)
    except OrderInvalid as error:
        raise ValidationFailed(str(error), {"field": error.field}) from error
    except FillingError as error:
        raise ValidationFailed(str(error), {"field": "symbol"}) from error
    except (ArithmeticError, ValueError) as error:
        # A specification without a volume step, a point of 0: the broker's, and nothing to compute with.
        text = f"symbol: its specification cannot be used ({type(error).__name__}: {error})"
        raise ValidationFailed(text, {"field": "symbol"}) from error


def _submit(request: SubmitOrder, view: View) -> Draft:
    if not 0 <= request.decided_ms <= view.now_ms + _FUTURE_TOLERANCE_MS:
        text = f"decided_ms: {request.decided_ms} lies in the future (market time is {view.now_ms})"
        raise ValidationFailed(text, {"field": "decided_ms"})
    instrument = view.instrument(request.symbol)
    pending = request.type != "market"
    held = None if pending else view.net_position(instrument.symbol)
    met = "" if held is None else side_of_position(held)
    if held is not None and request.side == opposite(met) and 0 < request.volume <= held.volume + VOLUME_EPSILON:
        return _reduction(request, held, instrument, view)
    # The latest order's stops replace those of a netting position, and 0 clears them: one that adds carries them on.
    added = held if held is not None and request.side == met else None
    spec = OrderSpec(
        action="pending" if pending else "open",
        side=request.side,
        type=request.type,
        volume=request.volume,
        price=request.price,
        stoplimit=request.stoplimit,
        sl=request.sl or (0.0 if added is None else added.sl),
        tp=request.tp or (0.0 if added is None else added.tp),
        deviation_points=request.deviation_points,
        comment=request.comment,
        expiration_ms=request.expiration_ms,
    )
    _validate(spec, instrument, view)
    return Draft(
        action=spec.action,
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=spec.side,
        type=spec.type,
        volume=spec.volume,
        price=spec.price,
        stoplimit=spec.stoplimit,
        sl=spec.sl,
        tp=spec.tp,
        deviation_points=spec.deviation_points,
        filling=int(choose_filling(instrument, pending=pending)),
        expiration_ms=spec.expiration_ms,
        users_comment=spec.comment,
        decided_ms=request.decided_ms,
        reverses=held is not None and added is None,
        keeps_sl=view.netting and not request.sl,
        keeps_tp=view.netting and not request.tp,
    )


def _reduction(request: SubmitOrder, held: Position, instrument: Instrument, view: View) -> Draft:
    """Return a market order against a netting position, of no more than its volume, as the exit that it is."""
    for field in ("sl", "tp", "expiration_ms", "stoplimit"):
        if getattr(request, field):
            text = (
                f"{field}: this order only reduces position {held.ticket} ({held.volume:g} lots), which keeps its own "
                "SL and TP: leave it out, or change the position"
            )
            raise ValidationFailed(text, {"field": field})
    return _exit(held, instrument, view, request, request.volume, price=request.price)


def _close(request: ClosePosition, view: View) -> Draft:
    position = _position(request.position, view)
    return _exit(position, view.instrument(position.symbol), view, request, request.volume)


def _exit(
    position: Position,
    instrument: Instrument,
    view: View,
    request: ClosePosition | SubmitOrder,
    volume: float,
    *,
    price: float = 0.0,
) -> Draft:
    spec = OrderSpec(
        action="close",
        side=side_of_position(position),
        volume=volume,
        price=price,
        deviation_points=request.deviation_points,
        comment=request.comment,
    )
    _validate(spec, instrument, view, position_volume=position.volume)
    volume = volume or position.volume
    if volume > instrument.volume_max * (1 + 1e-9):
        raise ValidationFailed(
            f"volume: {volume:g} lots are more than one order may have ({instrument.volume_max:g}): close in parts",
            {"field": "volume"},
        )
    return Draft(
        action="close",
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=opposite(spec.side),
        volume=volume,
        price=price,
        deviation_points=request.deviation_points,
        filling=int(choose_filling(instrument, preferred=Filling.IOC)),
        users_comment=request.comment,
        ticket=position.ticket,
        position=position.identifier,
        reduces=True,
    )


def _close_by(request: CloseBy, view: View) -> Draft:
    if view.netting:
        raise StateConflict("a netting account has one position per symbol: there is no other to close it by")
    position, other = _position(request.position, view), _position(request.position_by, view)
    if other.symbol != position.symbol or side_of_position(other) == side_of_position(position):
        raise ValidationFailed(
            f"position_by: {other.ticket} ({side_of_position(other)} {other.symbol}) is not opposite to "
            f"{position.ticket} ({side_of_position(position)} {position.symbol})",
            {"field": "position_by"},
        )
    instrument = view.instrument(position.symbol)
    _validate(OrderSpec(action="close_by", side=side_of_position(position)), instrument, view)
    return Draft(
        action="close_by",
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=side_of_position(other),
        volume=min(position.volume, other.volume),
        ticket=position.ticket,
        position=position.identifier,
        ticket_by=other.ticket,
        position_by=other.identifier,
        reduces=True,
    )


def _modify_position(request: ModifyPosition, view: View) -> Draft:
    position = _position(request.position, view)
    instrument = view.instrument(position.symbol)
    side = side_of_position(position)
    _validate(OrderSpec(action="modify_position", side=side, sl=request.sl, tp=request.tp), instrument, view)
    return Draft(
        action="modify_position",
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=side,
        sl=request.sl,
        tp=request.tp,
        ticket=position.ticket,
        position=position.identifier,
        reduces=_is_tighter(position, request.sl),
    )


def _modify_order(request: ModifyOrder, view: View) -> Draft:
    order = _order(request.order, view)
    instrument = view.instrument(order.symbol)
    spec = OrderSpec(
        action="modify_order",
        side=side_of_order(order),
        type=_TYPE_NAMES.get(order.type, "market"),
        price=request.price,
        stoplimit=request.stoplimit,
        sl=request.sl,
        tp=request.tp,
        expiration_ms=request.expiration_ms,
    )
    _validate(spec, instrument, view)
    return Draft(
        action="modify_order",
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=spec.side,
        type=spec.type,
        price=spec.price,
        stoplimit=spec.stoplimit,
        sl=spec.sl,
        tp=spec.tp,
        expiration_ms=spec.expiration_ms,
        order=order.ticket,
    )


def _cancel(request: CancelOrder, view: View) -> Draft:
    order = _order(request.order, view)
    instrument = view.instrument(order.symbol)
    return Draft(
        action="cancel",
        symbol=instrument.symbol,
        broker_symbol=instrument.broker_symbol,
        side=side_of_order(order),
        order=order.ticket,
        reduces=True,
    )


_DRAFTS: dict[type[OrderRequest], Callable[..., Draft]] = {
    SubmitOrder: _submit,
    ClosePosition: _close,
    CloseBy: _close_by,
    ModifyPosition: _modify_position,
    ModifyOrder: _modify_order,
    CancelOrder: _cancel,
}


def finite(request: OrderRequest) -> RequestedValues:
    """Return what a refused request asked for, as far as it can be stored: no NaN, no control characters."""
    found = RequestedValues(symbol="", side="", volume=0.0, price=0.0, sl=0.0, tp=0.0)
    for name in ("volume", "price", "sl", "tp"):
        value = getattr(request, name, 0.0)
        found[name] = value if math.isfinite(value) else 0.0
    for name in ("symbol", "side"):
        text = str(getattr(request, name, ""))
        found[name] = "".join(sign for sign in text if " " <= sign <= "~")  # type: ignore[literal-required]
    return found


def trade_request(intent: Intent, quote: Quote | None, to_server_ms: Callable[[int], int]) -> ApiTradeRequest:
    """Return what `order_send` gets for `intent`. `quote`: prices for execution modes that want one.

    Raises:
        NotReady: A market order without any price to send it at.
    """
    if intent.action in {"open", "close"}:
        return _market_request(intent, quote)
    if intent.action == "modify_position":
        return ApiTradeRequest(
            action=_SLTP, symbol=intent.broker_symbol, position=intent.ticket, sl=intent.sl, tp=intent.tp
        )
    if intent.action == "close_by":
        return ApiTradeRequest(
            action=_CLOSE_BY, magic=intent.magic, position=intent.ticket, position_by=intent.ticket_by
        )
    if intent.action == "cancel":
        return ApiTradeRequest(action=_REMOVE, order=intent.order)
    expires = intent.expiration_ms > 0
    pending = intent.action == "pending"
    return ApiTradeRequest(
        action=_PENDING if pending else _MODIFY,
        magic=intent.magic if pending else 0,
        order=0 if pending else intent.order,
        symbol=intent.broker_symbol,
        volume=intent.volume,
        price=intent.price,
        stoplimit=intent.stoplimit,
        sl=intent.sl,
        tp=intent.tp,
        type=_ORDER_TYPES[intent.order_type, intent.side],
        type_filling=intent.filling,
        type_time=_TIME_SPECIFIED if expires else _TIME_GTC,
        expiration=to_server_ms(intent.expiration_ms) // 1000 if expires else 0,
        comment=intent.comment if pending else "",
    )


def _market_request(intent: Intent, quote: Quote | None) -> ApiTradeRequest:
    price = intent.price
    if not price:
        if quote is None:
            raise NotReady(f"there is no price of {intent.symbol} to deal at yet: try again later")
        price = quote.ask if intent.side == "buy" else quote.bid
    closing = intent.action == "close"
    return ApiTradeRequest(
        action=_DEAL,
        magic=intent.magic,
        symbol=intent.broker_symbol,
        volume=intent.volume,
        price=price,
        sl=0.0 if closing else intent.sl,
        tp=0.0 if closing else intent.tp,
        deviation=intent.deviation_points,
        type=_ORDER_TYPES["market", intent.side],
        type_filling=intent.filling,
        comment=intent.comment,
        position=intent.ticket if closing else 0,
    )


def _validate(spec: OrderSpec, instrument: Instrument, view: View, *, position_volume: float = 0.0) -> None:
    quote = view.quote(instrument.symbol)
    validate(
        spec,
        instrument,
        now_ms=view.now_ms,
        bid=0.0 if quote is None else quote.bid,
        ask=0.0 if quote is None else quote.ask,
        position_volume=position_volume,
    )


def _position(ticket: int, view: View) -> Position:
    found = view.position(ticket)
    if found is None:
        raise NotFound(f"there is no open position {ticket}: it is closed, or never was", {"position": str(ticket)})
    return found


def _order(ticket: int, view: View) -> Order:
    found = view.order(ticket)
    if found is None:
        raise NotFound(f"there is no active order {ticket}: it is filled or gone, or never was", {"order": str(ticket)})
    return found


def _is_tighter(position: Position, sl: float) -> bool:
    """Whether a new stop risks no more than the present one."""
    if not position.sl:
        return True
    if not sl:
        return False
    return sl >= position.sl if side_of_position(position) == "buy" else sl <= position.sl
