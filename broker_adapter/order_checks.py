"""What stands against an order beside the risk gate: other orders on their way, and what changed before it was sent."""

from __future__ import annotations

from broker_adapter.broker_state import VOLUME_EPSILON
from broker_adapter.intents import CLOSING, Intent
from broker_adapter.order_requests import Draft
from broker_adapter.risk_gate import Exposure, RiskGate, closing_volume, is_working, refused
from market.risk import RiskCode, TradingMode
from protocol.errors import StateConflict
from protocol.messages import Account


def check_conflicts(
    order: Draft, exposure: Exposure, *, held: float, one_magic: bool, held_by: float = 0.0, netting: bool = False
) -> None:
    """Return if nothing that is on its way stands against the order.

    Args:
        order: The new order.
        exposure: What is open, on its way, or may be open.
        held: Lots of the position that the order closes.
        held_by: Lots of the other position, if it closes two against each other.
        one_magic: All orders have the same magic number, so that only one that opens can be told at a time.
        netting: The account has one position per symbol.

    Raises:
        StateConflict: Another order is at it.
    """
    if order.action in CLOSING:
        _check_volume_left(order, exposure, order.ticket, order.position, held)
    if order.action == "close_by":
        _check_volume_left(order, exposure, order.ticket_by, order.position_by, held_by)
    for other in exposure.intents:
        if not is_working(other):
            continue
        if netting and other.symbol == order.symbol:
            _check_netting(order, other)
        same_position = order.position and other.position == order.position
        if order.action == "modify_position" == other.action and same_position:
            raise StateConflict(
                f"SL and TP of position {order.ticket} are being changed already by {other.client_order_id} "
                f"({other.state}): wait for its outcome"
            )
        same_order = order.order and other.order == order.order and order.action in {"modify_order", "cancel"}
        if same_order and other.action == order.action:
            raise StateConflict(f"order {order.order} is being changed already by {other.client_order_id}")
        if one_magic and order.opens and other.opens and other.symbol == order.symbol:
            raise StateConflict(
                f"with one fixed magic number there can be one opening order on {order.symbol} at a time: "
                f"{other.client_order_id} is {other.state}"
            )


def _check_volume_left(order: Draft, exposure: Exposure, ticket: int, position: int, held: float) -> None:
    closing = closing_volume(exposure, position)
    if closing + order.volume > held + VOLUME_EPSILON:
        raise StateConflict(
            f"position {ticket} has {held:g} lots, of which {closing:g} are being closed already (or may "
            f"have been, their outcome being unknown): {order.volume:g} more would be too many",
            {"closing": f"{closing:g}", "volume": f"{held:g}"},
        )


def _check_netting(order: Draft, other: Intent) -> None:
    """Return if two orders on one netting position do not depend on which of them comes first.

    An exit stands alone among exits; it does not wait for entries, which it leaves alone. A reversal is both.
    """
    deals = {"open", "close"}
    if order.action == "close":
        against = other.action == "close" or (other.action == "open" and other.side == order.side)
    elif order.action == "open":
        against = other.action == "close" or (other.action == "open" and (order.reverses or other.side != order.side))
        # An order that adds carries the position's stops: they must not be changing.
        against = against or other.action == "modify_position"
    else:
        against = order.action == "modify_position" and other.action == "open"
    if against:
        what = "exit" if order.action == "close" and other.action in deals else "order"
        raise StateConflict(
            f"on a netting account this {what} has to wait: {other.client_order_id} ({other.action} {other.side}, "
            f"{other.state}) is at the same position on {order.symbol}; send it again once its outcome is known",
            {"client_order_id": other.client_order_id, "state": other.state.value},
        )


def check_before_sending(intent: Intent, account: Account | None, gate: RiskGate, *, late_ms: int) -> None:
    """Return if a durable intent may still be handed to the link.

    Args:
        intent: What was decided on.
        account: The account as last read.
        gate: Knows the trading mode and whether the account is armed.
        late_ms: For how long its time to live is over; negative while it lasts.

    Raises:
        StateConflict: Another account, or too late.
        RiskRefused: The trading mode changed meanwhile, or the account was disarmed.
    """
    if account is None or (account.server, account.login) != (intent.server, intent.login):
        raise StateConflict("not sent: the terminal is on another account")
    if late_ms >= 0:
        raise StateConflict(f"not sent: its time to live passed {late_ms} ms ago")
    internal = intent.client_order_id.startswith("~")
    halted = gate.mode is TradingMode.HALTED and not internal
    if halted or (gate.mode is TradingMode.REDUCING and intent.opens):
        raise refused(RiskCode.MODE, f"not sent: the trading mode became {gate.mode}")
    if intent.opens and intent.symbol in gate.silent:
        raise refused(RiskCode.STRATEGY_SILENT, f"not sent: {intent.symbol} only reduces: {gate.silent[intent.symbol]}")
    if not gate.is_armed(account):
        raise refused(RiskCode.NOT_ARMED, "not sent: the account is not armed")
