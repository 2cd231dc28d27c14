"""A trader for tests that does anything an API lets one do, on three symbols, and knows what must hold afterwards."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import msgspec

from paper_terminal import constants as api
from paper_terminal.ledger_records import Order, TradeRequest
from paper_terminal.settings import AccountSettings
from paper_terminal.specifications import Specification
from paper_terminal.valuation import Valuation
from tests.paper_terminal.broker import EURUSD, USDJPY, Broker

FINAL = {
    api.ORDER_STATE_FILLED,
    api.ORDER_STATE_CANCELED,
    api.ORDER_STATE_REJECTED,
    api.ORDER_STATE_EXPIRED,
}
ACTIVE = {api.ORDER_STATE_PLACED, api.ORDER_STATE_PARTIAL}
THIN = msgspec.structs.replace(
    EURUSD, exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE, liquidity_lots=0.7, order_gtc_mode=1, margin_rate_stop=0.5
)
YEN = msgspec.structs.replace(
    USDJPY, exemode=api.SYMBOL_TRADE_EXECUTION_INSTANT, margin_rate_limit=1.0, margin_hedged=0.0, commission_per_lot=7.0
)
FUTURE = Specification(
    name="FDAX",
    currency_base="EUR",
    currency_profit="EUR",
    digits=1,
    tick_size=0.5,
    tick_value=12.5,
    calc_mode=api.SYMBOL_CALC_MODE_EXCH_FUTURES,
    margin_initial=400.0,
    margin_maintenance=250.0,
    margin_hedged_use_leg=True,
    margin_rate_limit=1.0,
    volume_min=0.1,
    volume_step=0.1,
    volume_max=2.0,
    swap_mode=api.SYMBOL_SWAP_MODE_CURRENCY_MARGIN,
    swap_long=-2.0,
    swap_short=-1.0,
)
START = {"EURUSD": 1.1, "USDJPY": 150.0, "FDAX": 18_000.0}


class Trader:
    """Trading on a small account, so that stops, rejections, partial fills and stop-outs all happen."""

    margin_mode: ClassVar[int] = api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
    currency: ClassVar[str] = "USD"
    balance: ClassVar[float] = 3000.0
    swap_mode: ClassVar[int] = api.SYMBOL_SWAP_MODE_POINTS
    trade_mode: ClassVar[int] = api.ACCOUNT_TRADE_MODE_DEMO

    def __init__(self) -> None:
        account = AccountSettings(
            balance=self.balance, margin_mode=self.margin_mode, currency=self.currency, trade_mode=self.trade_mode
        )
        thin = msgspec.structs.replace(THIN, swap_mode=self.swap_mode)
        self.broker = Broker(symbols=(thin, YEN, FUTURE), account=account, fee_per_lot=0.5)
        self.broker.quote("USDJPY", 150.0, 150.01)
        self.broker.quote("FDAX", 18_000.0, 18_000.5)
        self.points = dict.fromkeys(START, 0)
        self.newest = 0

    def price(self, name: str, points: int) -> float:
        symbol = self.broker.engine.symbols[name]
        # A point of the pairs, a part of the future's tick: about as much money each.
        return symbol.price(START[name] + points * symbol.step / (5 if name == "FDAX" else 1))

    def on_step(self, name: str, points: int) -> float:
        symbol = self.broker.engine.symbols[name]
        return symbol.price(round(self.price(name, points) / symbol.step) * symbol.step)

    def quote(self, name: str, move: int, spread: int, wait: int) -> None:
        self.points[name] = max(-50_000, self.points[name] + move)
        bid = self.on_step(name, self.points[name])
        ask = max(bid, self.on_step(name, self.points[name] + spread))
        self.broker.quote(name, bid, ask, after_ms=wait)
        account = self.broker.account
        if any(each.symbol == name for each in account.positions.values()):
            worth = self.broker.engine.valuer.value_as_priced(account)
            assert worth.margin == 0 or worth.margin_level > account.settings.stop_out_level

    def deal(self, name: str, side: int, volume: float, sl: int, tp: int, filling: int) -> None:
        quote = self.broker.engine.quotes[name]
        order = {
            "symbol": name,
            "type": side,
            "volume": round(volume, 1) if name == "FDAX" else volume,
            "type_filling": filling,
            "price": quote.bid if side else quote.ask,
        }
        stops = {
            "sl": self.on_step(name, self.points[name] + sl) if sl else 0.0,
            "tp": self.on_step(name, self.points[name] + tp),
        }
        self.broker.send(**order, **stops)
        self.broker.send(**order)

    def pend(self, name: str, kind: int, volume: float, offset: int, life: int, filling: int) -> None:
        expiration = self.broker.engine.moment().seconds + life
        self.broker.send(
            action=api.TRADE_ACTION_PENDING,
            symbol=name,
            type=kind,
            volume=round(volume, 1) if name == "FDAX" else volume,
            price=self.on_step(name, self.points[name] + offset),
            stoplimit=self.on_step(name, self.points[name] + offset // 2),
            type_filling=filling,
            type_time=api.ORDER_TIME_SPECIFIED if life else api.ORDER_TIME_GTC,
            expiration=expiration,
        )

    def close(self, pick: int, volume: float, filling: int) -> None:
        positions = list(self.broker.account.positions.values())
        if pick < len(positions):
            quote = self.broker.engine.quotes[positions[pick].symbol]
            price = quote.bid if positions[pick].is_buy else quote.ask
            self.broker.close(positions[pick], min(volume, positions[pick].volume), type_filling=filling, price=price)

    def close_by(self, pick: int, other: int) -> None:
        tickets = list(self.broker.account.positions)
        if max(pick, other) < len(tickets):
            self.broker.send(
                action=api.TRADE_ACTION_CLOSE_BY, position=tickets[pick], position_by=tickets[other], symbol=""
            )

    def set_stops(self, pick: int, sl: int, tp: int) -> None:
        positions = list(self.broker.account.positions.values())
        if pick < len(positions):
            name = positions[pick].symbol
            stops = {side: self.on_step(name, self.points[name] + each) for side, each in (("sl", sl), ("tp", tp))}
            self.broker.send(action=api.TRADE_ACTION_SLTP, symbol=name, position=positions[pick].ticket, **stops)

    def modify(self, pick: int, offset: int) -> None:
        orders = list(self.broker.account.orders.values())
        if pick < len(orders):
            name = orders[pick].symbol
            price = self.on_step(name, self.points[name] + offset)
            limit = self.on_step(name, self.points[name] + offset // 2)
            self.broker.send(
                action=api.TRADE_ACTION_MODIFY, symbol=name, order=orders[pick].ticket, price=price, stoplimit=limit
            )

    def remove(self, pick: int) -> None:
        orders = list(self.broker.account.orders)
        if pick < len(orders):
            self.broker.send(action=api.TRADE_ACTION_REMOVE, order=orders[pick])

    def deposit(self, amount: int) -> None:
        self.broker.engine.dealer.deposit(self.broker.account, amount / 10, "by hand")
        self.broker.engine.commit()

    def checking_changes_nothing(self, name: str, side: int, volume: float) -> None:
        before = [snapshot(each) for each in (self.broker.account.positions, self.broker.account.orders)]
        request = TradeRequest(action=api.TRADE_ACTION_DEAL, symbol=name, type=side, volume=volume)
        checked = self.broker.desk.check(self.broker.account, request)
        assert checked.retcode != 0 or checked.equity >= checked.margin or checked.margin <= self.worth.margin
        assert before == [snapshot(each) for each in (self.broker.account.positions, self.broker.account.orders)]

    @property
    def worth(self) -> Valuation:
        return self.broker.engine.valuer.value(self.broker.account)

    def restart(self) -> None:
        before = self.broker.account
        self.broker.engine.valuer.value(before)
        self.broker.restart()
        after = self.broker.account
        self.broker.engine.valuer.value(after)
        assert after.balance == before.balance
        assert after.positions == before.positions
        assert [moved(each) for each in after.orders.values()] == [moved(each) for each in before.orders.values()]
        assert after.deals.all() == before.deals.all()
        assert {each.ticket for each in after.history_orders.all()} == {
            each.ticket for each in before.history_orders.all()
        }

    # What must hold at any time ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Check everything."""
        self.balance_is_the_sum_of_the_deals()
        self.equity_is_balance_plus_floating()
        self.tickets_are_unique_and_rise()
        self.positions_are_explained_by_their_deals()
        self.orders_are_explained_by_their_deals()
        self.final_and_active_orders_are_apart()
        self.profits_follow_from_the_prices()
        if self.broker.account.netting:
            held = [each.symbol for each in self.broker.account.positions.values()]
            assert len(held) == len(set(held))

    def balance_is_the_sum_of_the_deals(self) -> None:
        account = self.broker.account
        total = sum(deal.profit + deal.commission + deal.swap + deal.fee for deal in account.deals.all())
        assert abs(account.balance - total) < 1e-6

    def equity_is_balance_plus_floating(self) -> None:
        account, worth = self.broker.account, self.worth
        floating = sum(each.profit + each.swap for each in account.positions.values())
        assert abs(worth.equity - account.balance - floating) < 1e-6
        assert worth.margin >= worth.margin_initial >= 0
        assert worth.margin_maintenance >= 0
        assert account.positions or worth.margin == worth.margin_initial
        assert account.orders or worth.margin_initial == 0
        assert abs(worth.margin_free - (worth.equity - worth.margin)) < 1e-6

    def tickets_are_unique_and_rise(self) -> None:
        account = self.broker.account
        deals = [deal.ticket for deal in account.deals.all()]
        assert all(earlier < later for earlier, later in itertools.pairwise(deals))
        filed = [order.ticket for order in account.history_orders.all()]
        active = list(account.orders)
        assert len(set(filed) | set(active)) == len(filed) + len(active)
        given = {*filed, *active, *account.positions}
        assert all(order.ticket in given for order in account.orders.values())
        assert max(given, default=0) >= self.newest
        self.newest = max(given, default=0)

    def positions_are_explained_by_their_deals(self) -> None:
        account = self.broker.account
        volume: dict[int, float] = {}
        for deal in account.deals.all():
            if deal.position_id:
                sign = 1 if deal.type == api.DEAL_TYPE_BUY else -1
                volume[deal.position_id] = round(volume.get(deal.position_id, 0.0) + sign * deal.volume, 8)
        assert {ticket: left for ticket, left in volume.items() if left} == {
            each.identifier: each.volume if each.is_buy else -each.volume for each in account.positions.values()
        }
        assert all(each.volume > 0 for each in account.positions.values())

    def orders_are_explained_by_their_deals(self) -> None:
        account = self.broker.account
        filled: dict[int, float] = {}
        for deal in account.deals.all():
            if deal.order and deal.entry != api.DEAL_ENTRY_OUT_BY:
                filled[deal.order] = round(filled.get(deal.order, 0.0) + deal.volume, 8)
        for order in [*account.orders.values(), *account.history_orders.all()]:
            if order.type != api.ORDER_TYPE_CLOSE_BY and order.state != api.ORDER_STATE_CANCELED:
                done = round(order.volume_initial - order.volume_current, 8)
                assert done == filled.get(order.ticket, 0.0)

    def final_and_active_orders_are_apart(self) -> None:
        account = self.broker.account
        assert all(order.state in ACTIVE and not order.time_done for order in account.orders.values())
        assert all(order.state in FINAL and order.time_done for order in account.history_orders.all())
        assert not set(account.orders) & {order.ticket for order in account.history_orders.all()}

    def profits_follow_from_the_prices(self) -> None:
        """Follow EURUSD, whose profit in dollars needs no rate, from deal to deal: signed lots and their mean price."""
        account, books = self.broker.account, dict[int, tuple[float, float]]()
        if self.currency != "USD":
            return
        for deal in account.deals.all():
            if deal.symbol != "EURUSD":
                continue
            lots, mean = books.get(deal.position_id, (0.0, 0.0))
            signed = deal.volume if deal.type == api.DEAL_TYPE_BUY else -deal.volume
            rest = round(lots + signed, 8)
            if deal.entry == api.DEAL_ENTRY_IN:
                books[deal.position_id] = rest, (mean * lots + deal.price * signed) / rest
                assert deal.profit == 0
                continue
            closed = lots if deal.entry == api.DEAL_ENTRY_INOUT else -signed
            if deal.entry != api.DEAL_ENTRY_OUT_BY:
                assert abs(deal.profit - (deal.price - mean) * closed * 100_000) < 0.011
            books[deal.position_id] = rest, deal.price if deal.entry == api.DEAL_ENTRY_INOUT else mean
        for position in account.positions_on("EURUSD"):
            assert abs(position.price_open - books[position.identifier][1]) < 1e-6


def moved(order: Order) -> dict[str, Any]:
    """Return an order without the price that moves with the market."""
    values: dict[str, Any] = msgspec.structs.asdict(order)
    del values["price_current"]
    return values


def snapshot(records: dict[int, Any]) -> list[Any]:
    """Return positions or orders as they are, without what the market moves."""
    return [
        {name: each for name, each in msgspec.structs.asdict(record).items() if name not in {"price_current", "profit"}}
        for record in records.values()
    ]


class NettingTrader(Trader):
    """The same with one position a symbol."""

    margin_mode = api.ACCOUNT_MARGIN_MODE_RETAIL_NETTING


class ForeignTrader(NettingTrader):
    """A real netting account, counted in a currency that needs conversion."""

    currency = "EUR"
    trade_mode = api.ACCOUNT_TRADE_MODE_REAL


class ReopeningTrader(Trader):
    """An account in yen where the night closes and reopens positions."""

    currency = "JPY"
    balance = 250_000.0
    swap_mode = api.SYMBOL_SWAP_MODE_REOPEN_CURRENT
