"""The requests of the orders socket: orders, signals, the trading mode, arming, settling."""

from __future__ import annotations

import math
from functools import partial

from broker_adapter.broker_state import opposite, side_of_order, side_of_position
from broker_adapter.journal_records import EventRecord
from broker_adapter.order_desk import FLATTEN_PREFIX, OrderDesk
from broker_adapter.order_ledger import Batch
from broker_adapter.order_requests import Draft
from broker_adapter.risk_gate import closing_volume
from broker_adapter.unsettled import OUTCOMES
from market.instrument import Filling, FillingError, choose_filling, floor_to_step
from market.risk import TradingMode
from protocol.errors import BusError, NotReady, StateConflict, ValidationFailed
from protocol.messages import (
    Account,
    AlertEvent,
    ArmAccount,
    CancelOrder,
    CloseBy,
    ClosePosition,
    Done,
    ModeEvent,
    ModifyOrder,
    ModifyPosition,
    Position,
    ReportSignal,
    SettleOrder,
    SetTradingMode,
    SignalEvent,
    SubmitOrder,
)
from protocol.service import Caller, Service

_LONGEST_NAME = 128
_MOST_FEATURES = 512


class OrderService:
    """Answers the orders socket from the desk."""

    def __init__(self, service: Service, desk: OrderDesk) -> None:
        self._desk = desk
        for request in (SubmitOrder, ClosePosition, CloseBy, ModifyPosition, ModifyOrder, CancelOrder):
            service.handle(request, desk.on_order)
        service.handle(ReportSignal, self._on_signal)
        service.handle(SetTradingMode, self._on_mode)
        service.handle(ArmAccount, self._on_arm)
        service.handle(SettleOrder, self._on_settle)

    def _on_signal(self, request: ReportSignal, caller: Caller) -> None:
        """Enter a signal into the event log, once for its id."""
        account = self._desk.account
        if account is None:
            raise NotReady("the account is not known yet, so the signal cannot be filed: try again in a moment")
        check_signal(request.signal)
        self._desk.check_disk()
        batch = Batch()
        batch.records.append(EventRecord(request.signal, account.server, account.login, self._desk.now_ms))
        batch.then.append(partial(caller.reply, Done(request.id, "stored")))
        self._desk.commit_new(batch)

    def _on_mode(self, request: SetTradingMode, caller: Caller) -> None:
        try:
            mode = TradingMode(request.mode)
        except ValueError:
            known = ", ".join(one.value for one in TradingMode)
            raise ValidationFailed(f"mode: {request.mode!r} is none of {known}", {"field": "mode"}) from None
        if request.flatten and mode is TradingMode.ACTIVE:
            raise ValidationFailed("flatten: goes with reducing or halted, or it would be undone", {"field": "flatten"})
        if request.flatten:
            self._desk.check_ready()
        desk, account = self._desk, self._desk.account
        batch = Batch()
        batch.records.extend(desk.gate.set_mode(mode))
        reason = "".join(sign for sign in request.reason if sign.isprintable())
        body = ModeEvent(mode.value, reason, desk.gate.mode_serial)
        server, login = ("", 0) if account is None else (account.server, account.login)
        batch.records.append(EventRecord(body, server, login, desk.now_ms))
        batch.then.append(partial(self._after_mode, request, mode, caller))
        desk.ledger.commit(batch)

    def _after_mode(self, request: SetTradingMode, mode: TradingMode, caller: Caller) -> None:
        text = f"trading is {mode}"
        if request.flatten:
            closing, problems = self._flatten()
            text += f"; closing {closing}"
            if problems:
                text += f"; not possible now: {'; '.join(problems)}"
        caller.reply(Done(request.id, text))

    def _flatten(self) -> tuple[str, list[str]]:
        """Close every position of ours and remove every pending order of ours; say how many, and what failed."""
        desk, serial = self._desk, self._desk.gate.mode_serial
        problems: list[str] = []
        positions = [p for p in desk.positions if desk.is_ours(p.magic, p.comment, p.identifier)]
        orders = [o for o in desk.orders if desk.is_ours(o.magic, o.comment, 0)]
        for position in positions:
            try:
                for piece, draft in enumerate(self._closes_of(position)):
                    name = f"{FLATTEN_PREFIX}{serial}:{position.identifier}:{piece}"
                    desk.submit_internal(
                        draft, client_order_id=name, strategy=position.strategy, ttl_ms=_FLATTEN_TTL_MS
                    )
            except (BusError, FillingError) as error:
                problems.append(f"position {position.ticket}: {error}")
        for order in orders:
            try:
                draft = Draft(
                    action="cancel",
                    symbol=order.symbol,
                    broker_symbol=desk.instrument(order.symbol).broker_symbol,
                    side=side_of_order(order),
                    order=order.ticket,
                    reduces=True,
                )
                name = f"{FLATTEN_PREFIX}{serial}:order:{order.ticket}"
                desk.submit_internal(draft, client_order_id=name, strategy=order.strategy, ttl_ms=_FLATTEN_TTL_MS)
            except BusError as error:
                problems.append(f"order {order.ticket}: {error}")
        # What left before the mode changed may still become a position that was not there to be closed.
        problems += [
            f"{intent.client_order_id} is {intent.state} and may still open {intent.volume:g} {intent.symbol}: flatten "
            "again once its outcome is known"
            for intent in desk.exposure().intents
            if intent.opens
        ]
        return f"{len(positions)} positions and {len(orders)} orders", problems

    def _closes_of(self, position: Position) -> list[Draft]:
        """Return the closes of what is not being closed yet, in pieces that one order may have."""
        desk = self._desk
        instrument = desk.instrument(position.symbol)
        decimals = 8
        left = round(position.volume - closing_volume(desk.exposure(), position.identifier), decimals)
        # A specification without a step or a largest volume must not keep anyone in: then it is tried in one piece.
        step = instrument.volume_step
        largest = (floor_to_step(instrument.volume_max, step) if step > 0 else instrument.volume_max) or left
        pieces: list[float] = []
        while left > 0:
            pieces.append(min(left, largest))
            left = round(left - pieces[-1], decimals)
        return [
            Draft(
                action="close",
                symbol=instrument.symbol,
                broker_symbol=instrument.broker_symbol,
                side=opposite(side_of_position(position)),
                volume=volume,
                deviation_points=_FLATTEN_DEVIATION_POINTS,
                filling=int(choose_filling(instrument, preferred=Filling.IOC)),
                ticket=position.ticket,
                position=position.identifier,
                reduces=True,
            )
            for volume in pieces
        ]

    def _on_settle(self, request: SettleOrder, caller: Caller) -> None:
        if request.outcome not in OUTCOMES:
            known = " and ".join(OUTCOMES)
            raise ValidationFailed(f"outcome: {request.outcome!r} is neither of {known}", {"field": "outcome"})
        reason = "".join(sign for sign in request.reason if sign.isprintable())
        batch = Batch()
        outcome = self._desk.settle(request.client_order_id, request.outcome, reason, batch)
        text = f"{outcome.client_order_id} is {outcome.state}"
        if outcome.position:
            text += f", position {outcome.position}"
        batch.then.append(partial(caller.reply, Done(request.id, text)))
        self._desk.ledger.commit(batch)

    def _on_arm(self, request: ArmAccount, caller: Caller) -> None:
        if request.login <= 0:
            raise ValidationFailed(f"login: {request.login} is no account number", {"field": "login"})
        desk, account = self._desk, self._desk.account
        batch = Batch()
        if request.armed:
            batch.records.extend(desk.gate.arm(_account_to_arm(request, account)))
        else:
            batch.records.extend(desk.gate.disarm(request.login))
        word = "armed" if request.armed else "disarmed"
        now_ms = desk.now_ms
        body = AlertEvent(
            f"{word}:{request.login}:{now_ms}", "warning", f"account_{word}", f"account {request.login} was {word}"
        )
        server, login = ("", 0) if account is None else (account.server, account.login)
        batch.records.append(EventRecord(body, server, login, now_ms))
        batch.then.append(partial(caller.reply, Done(request.id, f"account {request.login} is {word}")))
        desk.ledger.commit(batch)


def _account_to_arm(request: ArmAccount, account: Account | None) -> Account:
    if account is None:
        raise NotReady("no account has been read yet: arm it once the terminal is logged in")
    if account.login != request.login:
        raise StateConflict(
            f"the terminal is on account {account.login} at {account.server}, not on {request.login}: nothing was"
            " armed. Log in to the account that is meant, then arm it"
        )
    return account


# An operator who flattens wants out: slippage is no reason to stay in.
_FLATTEN_DEVIATION_POINTS = 1000
# One close after another: the last of many waits for all the others.
_FLATTEN_TTL_MS = 600_000


def check_signal(signal: SignalEvent) -> None:
    """Return if a signal can be stored.

    Raises:
        ValidationFailed: A field is out of bounds; the details name it.
    """
    for name in ("signal_id", "strategy", "symbol", "timeframe", "client_order_id", "model_version"):
        text = getattr(signal, name)
        if len(text) > _LONGEST_NAME or not text.isprintable():
            raise _invalid(name, f"has over {_LONGEST_NAME} characters, or control characters")
    if not signal.signal_id:
        raise _invalid("signal_id", "is empty")
    if signal.direction not in {-1, 1}:
        raise _invalid("direction", f"{signal.direction} is neither 1 (long) nor -1 (short)")
    for name in ("strength", "price", "model_score"):
        if not math.isfinite(getattr(signal, name)):
            raise _invalid(name, "is not a number")
    if len(signal.features) > _MOST_FEATURES:
        raise _invalid("features", f"{len(signal.features)} of them; at most {_MOST_FEATURES}")
    for feature, value in signal.features.items():
        if len(feature) > _LONGEST_NAME or not feature.isprintable() or not math.isfinite(value):
            raise _invalid("features", f"{feature[:40]!r} is no name, or its value {value!r} is not a number")


def _invalid(field: str, text: str) -> ValidationFailed:
    return ValidationFailed(f"{field}: {text}", {"field": field})
