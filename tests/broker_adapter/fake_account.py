"""The broker's records behind a terminal, hedging or netting: what was really executed, whatever anyone was told."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec

from broker_adapter.account_records import Records
from broker_adapter.api_types import ApiSendResult, ApiTradeRequest
from broker_adapter.broker_state import BrokerRead
from protocol.clock import ManualClock
from protocol.messages import Account, Deal, Order, Position

SERVER, LOGIN = "Broker-Demo", 1001
BID, ASK = 1.10000, 1.10010
HEDGING, NETTING = 2, 0
DATA_PATH = "/terminal"
_BUY, _SELL = 0, 1
_IN, _OUT, _INOUT, _OUT_BY = 0, 1, 2, 3
_CLOSE_BY_TYPE = 8
_PLACED, _CANCELED, _FILLED = 1, 2, 4
_EFFECTIVE = frozenset({10008, 10009, 10010})


class FakeBroker:
    """An account, its orders and deals, and what may go wrong with them.

    Attributes:
        margin_mode: `HEDGING` or `NETTING`.
        changes_comment, changes_magic: The broker takes these witnesses away.
        drops_stops: SL and TP inside an opening request are ignored.
        fill_part: Part of the volume that is filled.
        fills: 0: an accepted order leaves no trace but may be filled by `fill_late`.
        sent: Every request that `order_send` brought here.
        effects: Those that were not refused.
    """

    def __init__(self, clock: ManualClock, margin_mode: int = HEDGING) -> None:
        self.clock = clock
        self.margin_mode = margin_mode
        self.positions: dict[int, Position] = {}
        self.active: dict[int, Order] = {}
        self.deals: list[Deal] = []
        self.history: list[Order] = []
        self.next_ticket = 1000
        self.connected = True
        self.changes_comment = False
        self.changes_magic = False
        self.drops_stops = False
        self.fill_part = 1.0
        self.fills = True
        self.login = LOGIN
        self.balance = 10_000.0
        self.trade_mode = 0
        self.sent: list[ApiTradeRequest] = []
        self.effects: list[ApiTradeRequest] = []
        self.late: list[ApiTradeRequest] = []
        self.history_hidden = False

    @property
    def netting(self) -> bool:
        return self.margin_mode != HEDGING

    @property
    def trades(self) -> int:
        """How many deals were made."""
        return len(self.deals)

    def ticket(self) -> int:
        self.next_ticket += 1
        return self.next_ticket

    # What `order_send` does.

    def execute(self, request: ApiTradeRequest, reason: int = 3) -> ApiSendResult:
        """Do what `order_send` asks for, and answer."""
        self.sent.append(request)
        answer = self._carry_out(request, reason)
        if answer.retcode in _EFFECTIVE:
            self.effects.append(request)
        return answer

    def _carry_out(self, request: ApiTradeRequest, reason: int) -> ApiSendResult:
        match request.action:
            case 5:
                return self._place(request)
            case 6:
                return self._set_stops(request)
            case 7:
                return self._modify(request)
            case 8:
                return self._remove(request)
            case 10:
                return self._close_by(request)
        assert request.action == 1, request
        if not self.fills:
            self.late.append(request)
            return result(10008, request)
        return self.deal(request, reason)

    def fill_late(self) -> None:
        """Execute what was accepted without a fill."""
        for request in self.late:
            self.deal(request)
        self.late.clear()

    def deal(self, request: ApiTradeRequest, reason: int = 3) -> ApiSendResult:
        """Execute a market order."""
        held = self._met(request)
        if request.position and held is None:
            return result(10036, request)
        volume = round(request.volume * self.fill_part, 2)
        if held is not None and not self.netting and volume > held.volume + 1e-9:
            return result(10038, request)
        order = self._order(request, self.ticket(), request.type, _FILLED, reason)
        price = ASK if request.type == _BUY else BID
        ticket = self._fill(order, held, volume, price)
        retcode = 10009 if self.fill_part == 1.0 else 10010
        answer = result(retcode, request)
        return msgspec.structs.replace(answer, deal=ticket, order=order.ticket, volume=volume, price=price)

    def fill_pending(self, ticket: int) -> None:
        """Execute a pending order at its price."""
        order = self.active.pop(ticket)
        side = _BUY if order.type % 2 == 0 else _SELL
        held = next(iter(self.positions.values()), None) if self.netting else None
        self._fill(msgspec.structs.replace(order, state=_FILLED), held, order.volume_initial, order.price_open, side)

    def fetch(self, ticket: int) -> Position:
        """Return an open position."""
        return self.positions[ticket]

    # The account as a read shows it.

    def read(self) -> BrokerRead:
        """Return a complete read of the account."""
        now_ns = self.clock.monotonic_ns()
        profit = sum(d.profit + d.commission for d in self.deals)
        money = self.balance + profit
        mode, margin = self.trade_mode, self.margin_mode
        account = Account(
            SERVER, self.login, "n", "USD", 100, mode, margin, money, 0, 0, money, 0, money, 0, True, True
        )
        return BrokerRead(
            account=account,
            positions=tuple(self.positions.values()),
            orders=tuple(self.active.values()),
            history_orders=Records(() if self.history_hidden else self.history),
            deals=Records(() if self.history_hidden else self.deals),
            history_from_ms=self.clock.wall_ms() - 86_400_000,
            connected=self.connected,
            started_ns=now_ns,
            finished_ns=now_ns,
            market_ms=self.clock.wall_ms(),
        )

    # Inside.

    def _met(self, request: ApiTradeRequest) -> Position | None:
        if self.netting:
            return next(iter(self.positions.values()), None)
        return self.positions.get(request.position)

    def _order(self, request: ApiTradeRequest, ticket: int, kind: int, state: int, reason: int = 3) -> Order:
        now_ms = self.clock.wall_ms()
        return Order(
            ticket,
            "EURUSD",
            kind,
            state,
            request.volume,
            request.volume if state == _PLACED else 0.0,
            request.price,
            request.stoplimit,
            0.0 if self.drops_stops else request.sl,
            0.0 if self.drops_stops else request.tp,
            request.type_filling,
            request.type_time,
            request.position,
            request.position_by,
            0 if self.changes_magic else request.magic,
            "to the broker's taste" if self.changes_comment else request.comment,
            reason,
            now_ms,
            0 if state == _PLACED else now_ms,
            max(0, request.expiration * 1000 - 7_200_000),
        )

    def _fill(self, order: Order, held: Position | None, volume: float, price: float, side: int = -1) -> int:
        side = order.type if side < 0 else side
        now_ms = self.clock.wall_ms()
        if held is None:
            entry, identifier = _IN, order.ticket
            self.positions[order.ticket] = self._position(order, side, volume, price)
        elif held.type == side:
            entry, identifier = _IN, held.identifier
            total = round(held.volume + volume, 8)
            self.positions[held.ticket] = msgspec.structs.replace(
                held, volume=total, sl=order.sl, tp=order.tp, time_update_ms=now_ms
            )
        elif volume <= held.volume + 1e-9:
            entry, identifier = _OUT, held.identifier
            self._reduce(held, volume)
        else:
            entry, identifier = _INOUT, held.identifier
            del self.positions[held.ticket]
            rest = self._position(order, side, round(volume - held.volume, 8), price)
            self.positions[order.ticket] = msgspec.structs.replace(rest, identifier=identifier)
        done = msgspec.structs.replace(order, volume_current=0.0, position_id=identifier, time_done_ms=now_ms)
        self.history.append(done)
        return self._book(order, identifier, side, entry, volume, price)

    def _position(self, order: Order, side: int, volume: float, price: float) -> Position:
        now_ms = self.clock.wall_ms()
        return Position(
            order.ticket, order.ticket, "EURUSD", side, volume, price, order.sl, order.tp, price, 0.0, 0.0, order.magic,
            order.comment, order.reason, now_ms, now_ms,
        )  # fmt: skip

    def _reduce(self, held: Position, volume: float) -> None:
        left = round(held.volume - volume, 8)
        if left > 0:
            now_ms = self.clock.wall_ms()
            self.positions[held.ticket] = msgspec.structs.replace(held, volume=left, time_update_ms=now_ms)
        else:
            del self.positions[held.ticket]

    def _book(self, order: Order, identifier: int, side: int, entry: int, volume: float, price: float) -> int:
        ticket = self.ticket()
        self.deals.append(
            Deal(
                ticket, order.ticket, identifier, "EURUSD", side, entry, order.reason, volume, price, 0.0, 0.0, 0.0,
                0.0, order.magic, order.comment, self.clock.wall_ms(),
            )
        )  # fmt: skip
        return ticket

    def _place(self, request: ApiTradeRequest) -> ApiSendResult:
        order = self._order(request, self.ticket(), request.type, _PLACED)
        self.active[order.ticket] = order
        return msgspec.structs.replace(result(10009, request), order=order.ticket, volume=request.volume)

    def _modify(self, request: ApiTradeRequest) -> ApiSendResult:
        order = self.active.get(request.order)
        if order is None:
            return result(10013, request)
        changed = msgspec.structs.replace(
            order, price_open=request.price, sl=request.sl, tp=request.tp, price_stoplimit=request.stoplimit
        )
        if changed == order:
            return result(10025, request)
        self.active[order.ticket] = changed
        return msgspec.structs.replace(result(10009, request), order=order.ticket)

    def _remove(self, request: ApiTradeRequest) -> ApiSendResult:
        order = self.active.pop(request.order, None)
        if order is None:
            return result(10013, request)
        now_ms = self.clock.wall_ms()
        self.history.append(msgspec.structs.replace(order, state=_CANCELED, time_done_ms=now_ms))
        return msgspec.structs.replace(result(10009, request), order=order.ticket)

    def _set_stops(self, request: ApiTradeRequest) -> ApiSendResult:
        held = self.positions.get(request.position)
        if held is None:
            return result(10036, request)
        if (held.sl, held.tp) == (request.sl, request.tp):
            return result(10025, request)
        self.positions[held.ticket] = msgspec.structs.replace(held, sl=request.sl, tp=request.tp)
        return result(10009, request)

    def _close_by(self, request: ApiTradeRequest) -> ApiSendResult:
        first, second = self.positions.get(request.position), self.positions.get(request.position_by)
        if first is None or second is None:
            return result(10036, request)
        if self.netting or first.type == second.type:
            return result(10013, request)
        volume = min(first.volume, second.volume)
        made = self._order(request, self.ticket(), _CLOSE_BY_TYPE, _FILLED)
        order = msgspec.structs.replace(
            made,
            volume_initial=volume,
            position_id=first.identifier,
            position_by_id=second.identifier,
            comment=f"close #{first.ticket} by #{second.ticket}",
        )
        self.history.append(order)
        for one, other in ((first, second), (second, first)):
            self._reduce(one, volume)
            self._book(order, one.identifier, other.type, _OUT_BY, volume, other.price_open)
        return msgspec.structs.replace(result(10009, request), order=order.ticket, volume=volume)


def result(retcode: int, request: ApiTradeRequest | None = None) -> ApiSendResult:
    """Return a result with nothing but a retcode."""
    return ApiSendResult(retcode, 0, 0, 0.0, 0.0, BID, ASK, "", 1, 0, request or ApiTradeRequest())


class FakeApi:
    """As much of the API as sending an order takes."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def account_info(self) -> Any:
        return SimpleNamespace(login=self._broker.login, server=SERVER)

    def terminal_info(self) -> Any:
        return SimpleNamespace(data_path=DATA_PATH)

    def positions_get(self, *, symbol: str) -> tuple[Position, ...]:
        assert symbol == "EURUSD.m"
        return tuple(self._broker.positions.values())

    def order_send(self, fields: Mapping[str, Any]) -> Any:
        return msgspec.to_builtins(self._broker.execute(ApiTradeRequest(**fields)))
