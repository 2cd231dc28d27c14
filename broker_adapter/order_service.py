"""The requests of the orders socket: orders, signals, the trading mode, arming, settling."""

from __future__ import annotations

import math
from functools import partial

from broker_adapter.flattening import Flattening
from broker_adapter.journal_records import EventRecord
from broker_adapter.order_desk import OrderDesk
from broker_adapter.order_ledger import Batch
from broker_adapter.strategy_watch import StrategyWatch
from broker_adapter.unsettled import OUTCOMES
from market.risk import TradingMode
from protocol.errors import NotReady, StateConflict, ValidationFailed
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
    ReportSignal,
    SettleOrder,
    SetTradingMode,
    SignalEvent,
    StrategyAlive,
    SubmitOrder,
)
from protocol.service import Caller, Service

_LONGEST_NAME = 128
_MOST_FEATURES = 512


class OrderService:
    """Answers the orders socket from the desk."""

    def __init__(self, service: Service, desk: OrderDesk, flattening: Flattening, watch: StrategyWatch) -> None:
        self._desk = desk
        self._watch = watch
        self.flattening = flattening
        for request in (SubmitOrder, ClosePosition, CloseBy, ModifyPosition, ModifyOrder, CancelOrder):
            service.handle(request, desk.on_order)
        service.handle(ReportSignal, self._on_signal)
        service.handle(SetTradingMode, self._on_mode)
        service.handle(ArmAccount, self._on_arm)
        service.handle(SettleOrder, self._on_settle)
        service.handle(StrategyAlive, self._on_alive)

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

    def _on_alive(self, request: StrategyAlive, _caller: Caller) -> Done:
        self._watch.on_alive(request)
        return Done(request.id)

    def _on_mode(self, request: SetTradingMode, caller: Caller) -> None:
        try:
            mode = TradingMode(request.mode)
        except ValueError:
            known = ", ".join(one.value for one in TradingMode)
            raise ValidationFailed(f"mode: {request.mode!r} is none of {known}", {"field": "mode"}) from None
        if request.strategy:
            self._release(request, mode, caller)
            return
        if request.flatten and mode is TradingMode.ACTIVE:
            raise ValidationFailed("flatten: goes with reducing or halted, or it would be undone", {"field": "flatten"})
        desk, account = self._desk, self._desk.account
        reason = "".join(sign for sign in request.reason if sign.isprintable())
        batch = Batch()
        batch.records.extend(desk.gate.set_mode(mode, reason))
        if request.flatten:
            self.flattening.begin(batch, strategy="", serial=str(desk.gate.mode_serial))
        elif mode is TradingMode.ACTIVE:
            self.flattening.end(batch, strategy="")
        body = ModeEvent(mode.value, reason, desk.gate.mode_serial)
        server, login = ("", 0) if account is None else (account.server, account.login)
        batch.records.append(EventRecord(body, server, login, desk.now_ms))
        batch.then.append(partial(self._after_mode, request, mode, caller))
        desk.ledger.commit(batch)

    def _release(self, request: SetTradingMode, mode: TradingMode, caller: Caller) -> None:
        if mode is not TradingMode.ACTIVE or request.flatten:
            text = "strategy: goes with active alone: a mode is the whole adapter's"
            raise ValidationFailed(text, {"field": "strategy"})
        done = Done(request.id, f"the strategy {request.strategy} stops nothing until it is heard of again")
        self._watch.forget(request.strategy, partial(caller.reply, done))

    def _after_mode(self, request: SetTradingMode, mode: TradingMode, caller: Caller) -> None:
        text = f"trading is {mode}"
        if request.flatten:
            positions, orders = self.flattening.counts("")
            text += f"; closing {positions} positions and {orders} orders"
            later = self.flattening.may_open("")
            self.flattening.step()
            obstacles = (*self.flattening.obstacles, *later)
            text += "".join(f"; {each}" for each in obstacles)
        caller.reply(Done(request.id, text))

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
