"""The first entry of an order in the journal: refused, or intended with the witnesses to recognise its effect by."""

from __future__ import annotations

from typing import NamedTuple

from broker_adapter.broker_state import nets
from broker_adapter.intents import Intent, fingerprint_of
from broker_adapter.order_requests import Draft, finite
from broker_adapter.order_states import State
from broker_adapter.witnesses import KnownTickets, make_comment
from protocol.errors import BusError
from protocol.messages import Account, OrderRequest

_ACTIONS = {
    "submit_order": "open",
    "close_position": "close",
    "close_by": "close_by",
    "modify_position": "modify_position",
    "modify_order": "modify_order",
    "cancel_order": "cancel",
}


class Named(NamedTuple):
    """What names an intent. `parent`: number of the order that it completes, 0 if it stands alone."""

    number: int
    client_order_id: str
    fingerprint: str
    strategy: str
    parent: int


def refused_intent(request: OrderRequest, error: BusError, account: Account, *, number: int, now_ms: int) -> Intent:
    """Return a request that was refused at `now_ms` (market time), as it is stored."""
    return Intent(
        number=number,
        client_order_id=request.client_order_id,
        fingerprint=fingerprint_of(request),
        server=account.server,
        login=account.login,
        strategy="".join(sign for sign in request.strategy if " " <= sign <= "~"),
        action=_ACTIONS[request.kind],
        state=State.RECEIVED,
        created_ms=now_ms,
        **finite(request),
    ).moved(State.REFUSED, code=error.code, text=error.text, details=error.details)


def accepted_intent(
    order: Draft, account: Account, named: Named, *, magic: int, known: KnownTickets, now_ms: int, wall_ms: int
) -> Intent:
    """Return what will be sent, with its witnesses: `magic`, a comment of its own, and the tickets `known` before."""
    return Intent(
        number=named.number,
        client_order_id=named.client_order_id,
        fingerprint=named.fingerprint,
        server=account.server,
        login=account.login,
        strategy=named.strategy,
        action=order.action,
        state=State.RECEIVED,
        symbol=order.symbol,
        created_ms=now_ms,
        broker_symbol=order.broker_symbol,
        side=order.side,
        order_type=order.type,
        volume=order.volume,
        price=order.price,
        stoplimit=order.stoplimit,
        sl=order.sl,
        tp=order.tp,
        deviation_points=order.deviation_points,
        filling=order.filling,
        expiration_ms=order.expiration_ms,
        magic=magic,
        comment=make_comment(named.number, order.users_comment),
        ticket=order.ticket,
        position=order.position,
        order=order.order,
        known=known,
        parent=named.parent,
        netting=nets(account),
        keeps_sl=order.keeps_sl,
        keeps_tp=order.keeps_tp,
        taken_ms=wall_ms,
        ticket_by=order.ticket_by,
        position_by=order.position_by,
    ).moved(State.INTENDED)
