"""The terminal's process killed at random moments of trading: nothing acknowledged is lost, nothing comes twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

import paper_terminal.client as mt5
from paper_terminal.settings import AccountSettings, FeedSettings, Settings
from tests.paper_terminal.ledger_audit import Ledger
from tests.paper_terminal.running import RunningTerminal

KILLS: Final = 8
LONGEST_LIFE_S: Final = 0.25
LOST: Final = {-10001, -10002, -10004}
DONE: Final = {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE_PARTIAL}
LIVELY: Final = Settings(
    accounts=(AccountSettings(balance=100_000.0),),
    history_days=0.01,
    feed=FeedSettings(start="2026-03-04T12:00:00", speed=200.0, ticks_per_second=2.0),
)
"""Minutes of market a second, so that stops are hit and orders triggered between the requests and the kills."""


class Client:
    """A program that trades on a terminal that keeps dying, and remembers what it was told."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sent = 0
        self.acknowledged: dict[int, Any] = {}
        """Results by the request's number, which is the magic of its order."""
        self.lost: set[int] = set()
        self.orders: dict[int, list[tuple[float, bool]]] = {}
        """Prices wanted for each pending order since the last one acknowledged, the first acknowledged."""
        self.removed: set[int] = set()
        self.deals: dict[int, Any] = {}

    def trade_until_it_dies(self) -> None:
        """Send one request after the other until the connection breaks."""
        while self._act():
            pass
        assert mt5.last_error()[0] in LOST, mt5.last_error()

    def _act(self) -> bool:
        choice = self._random.random()
        positions, orders = mt5.positions_get(), mt5.orders_get()
        tick = mt5.symbol_info_tick("EURUSD")
        if positions is None or orders is None or tick is None:
            return False
        if choice < 0.35 or not (positions or orders):
            return self._open(tick)
        if choice < 0.6 and positions:
            return self._close(self._random.choice(positions), positions)
        if choice < 0.75 or not orders:
            return self._place(tick)
        return self._change(self._random.choice(orders), tick)

    def _send(self, **request: Any) -> bool:
        """Send a request under a number of its own; False when the terminal is gone."""
        self._sent += 1
        result: Any = mt5.order_send(request | {"magic": self._sent})
        if result is None:
            self.lost.add(self._sent)
            return False
        if result.retcode in DONE:
            self.acknowledged[self._sent] = result
        return True

    def _open(self, tick: Any) -> bool:
        side = self._random.choice([mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL])
        away = self._random.randint(3, 60) * 1e-5 * (1 if side else -1)
        return self._send(
            action=mt5.TRADE_ACTION_DEAL,
            symbol="EURUSD",
            volume=self._random.choice([0.01, 0.02, 0.05]),
            type=side,
            sl=round(tick.ask + 1e-4 + away if side else tick.bid + away, 5),
        )

    def _close(self, position: Any, positions: Any) -> bool:
        opposite = [each for each in positions if each.type != position.type]
        if opposite and self._random.random() < 0.3:
            return self._send(
                action=mt5.TRADE_ACTION_CLOSE_BY, position=position.ticket, position_by=opposite[0].ticket
            )
        return self._send(
            action=mt5.TRADE_ACTION_DEAL,
            symbol=position.symbol,
            position=position.ticket,
            type=1 - position.type,
            volume=self._random.choice([0.01, position.volume]),
        )

    def _place(self, tick: Any) -> bool:
        kind = self._random.choice([mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_LIMIT])
        price = self._price(kind, tick)
        alive = self._send(
            action=mt5.TRADE_ACTION_PENDING,
            symbol="EURUSD",
            volume=0.01,
            type=kind,
            price=price,
            type_filling=mt5.ORDER_FILLING_RETURN,
        )
        if self._sent in self.acknowledged:
            self.orders[self.acknowledged[self._sent].order] = [(price, True)]
        return alive

    def _price(self, kind: int, tick: Any) -> float:
        away = self._random.randint(5, 80) * 1e-5
        return float(round(tick.bid - away if kind == mt5.ORDER_TYPE_BUY_LIMIT else tick.ask + away, 5))

    def _change(self, order: Any, tick: Any) -> bool:
        if self._random.random() < 0.4:
            alive = self._send(action=mt5.TRADE_ACTION_REMOVE, order=order.ticket)
            if self._sent in self.acknowledged:
                self.removed.add(order.ticket)
            return alive
        price = self._price(order.type, tick)
        alive = self._send(action=mt5.TRADE_ACTION_MODIFY, order=order.ticket, price=price)
        told = self._sent in self.acknowledged
        if told or not alive:
            wanted = self.orders.setdefault(order.ticket, [])
            self.orders[order.ticket] = [(price, True)] if told else [*wanted, (price, False)]
        return alive

    # After each rebirth --------------------------------------------------------------------------------------

    def audit(self) -> None:
        """Compare what the terminal has with what it told."""
        ledger = Ledger()
        ledger.audit()
        self._audit_requests(ledger.deals, ledger.orders)
        self._audit_pending(ledger.orders, {each.ticket for each in ledger.active})
        now = {each.ticket: each for each in ledger.deals}
        assert all(now[ticket] == deal for ticket, deal in self.deals.items())
        self.deals = now

    def _audit_requests(self, deals: Any, orders: dict[int, Any]) -> None:
        own = {mt5.ORDER_REASON_EXPERT}
        made = Counter(each.magic for each in orders.values() if each.reason in own)
        assert all(count == 1 for count in made.values()), made
        assert set(made) <= set(self.acknowledged) | self.lost
        by_ticket = {each.ticket: each for each in deals}
        for number, result in self.acknowledged.items():
            if result.request.action in {mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_PENDING, mt5.TRADE_ACTION_CLOSE_BY}:
                assert orders[result.order].magic == number
            if result.deal:
                deal = by_ticket[result.deal]
                assert (deal.order, deal.volume, deal.price) == (result.order, result.volume, result.price)

    def _audit_pending(self, orders: dict[int, Any], active: set[int]) -> None:
        for ticket, wanted in self.orders.items():
            assert orders[ticket].price_open in {price for price, _ in wanted}, (ticket, wanted)
        for ticket in self.removed:
            assert ticket not in active
            assert orders[ticket].state == mt5.ORDER_STATE_CANCELED


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_repeats_nothing(tmp_path: Path, seed: int) -> None:
    client, moments = Client(seed), random.Random(seed + 1000)
    with RunningTerminal(tmp_path / "t", LIVELY) as terminal:
        for _ in range(KILLS):
            assert mt5.initialize(str(terminal.folder)), mt5.last_error()
            client.audit()
            killer = threading.Timer(moments.uniform(0.0, LONGEST_LIFE_S), terminal.process.kill)
            killer.start()
            try:
                client.trade_until_it_dies()
            finally:
                killer.join()
            terminal.kill()
            terminal.start()
        assert mt5.initialize(str(terminal.folder))
        client.audit()
        mt5.shutdown()
    assert len(client.acknowledged) > KILLS
    assert client.deals
