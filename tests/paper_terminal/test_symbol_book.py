"""What is kept of a book until it changes is what reckoning it anew would give."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Order, Position, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.matching import order_hit, stop_hit, trigger_price
from paper_terminal.settings import AccountSettings
from paper_terminal.state import Loaded
from paper_terminal.symbol_book import SymbolBook
from tests.paper_terminal.broker import EURUSD, START_MS, Broker, ticks

EXCHANGE = msgspec.structs.replace(
    EURUSD, calc_mode=api.SYMBOL_CALC_MODE_EXCH_STOCKS, exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE, liquidity_lots=0.1
)
PRICES = st.integers(100, 110).map(lambda points: points / 100)
STOPS = st.one_of(st.just(0.0), PRICES)
LOTS = st.integers(1, 30).map(lambda steps: steps / 100)
NAMES = st.sampled_from(["EURUSD", "GBPUSD", "USDJPY"])
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["position", "order", "change", "drop"]),
        st.integers(0, 7),
        NAMES,
        LOTS,
        PRICES,
        STOPS,
        STOPS,
    ),
    max_size=40,
)


def position(ticket: int, kind: int, name: str, volume: float, price: float, sl: float, tp: float) -> Position:
    return Position(
        ticket=ticket,
        time=0,
        time_msc=0,
        time_update=0,
        time_update_msc=0,
        type=kind,
        magic=0,
        identifier=ticket,
        reason=0,
        volume=volume,
        price_open=price,
        sl=sl,
        tp=tp,
        price_current=price,
        swap=-volume,
        profit=0.0,
        symbol=name,
        comment="",
    )


def order(
    ticket: int, kind: int, name: str, volume: float, price: float, *, state: int = 1, expires_s: int = 0
) -> Order:
    return Order(
        ticket=ticket,
        time_setup=0,
        time_setup_msc=0,
        time_expiration=expires_s,
        type=kind,
        state=state,
        reason=0,
        volume_initial=volume,
        volume_current=volume,
        price_open=price,
        symbol=name,
    )


def reckoned(account: Account, name: str) -> tuple[Any, ...]:
    """Return everything that is kept of a symbol."""
    book = account.books[name]
    volumes, triggers = book.volumes(netting=False), book.triggers
    lots = [(kind, each.lots, each.price) for kind, each in (*volumes.sides.items(), *volumes.waiting.items())]
    nearest = (triggers.bid_floor, triggers.bid_ceiling, triggers.ask_floor, triggers.ask_ceiling, triggers.always)
    return list(book.positions), list(book.orders), list(book.by_identifier), lots, nearest


@given(CHANGES)
def test_kept_values_are_those_of_a_book_loaded_afresh(changes: list[tuple[Any, ...]]) -> None:
    account = Account(AccountSettings(), Loaded([], [], [], []), [])
    for ticket, (what, kind, name, volume, price, sl, tp) in enumerate(changes, start=1):
        if what == "position":
            account.put_position(position(ticket, kind % 2, name, volume, price, sl, tp))
        elif what == "order":
            account.put_order(order(ticket, kind, name, volume, price, expires_s=round(sl * 100)))
        elif what == "change" and account.positions:
            changed = list(account.positions.values())[kind % len(account.positions)]
            changed.volume, changed.sl, changed.swap = volume, sl, -price
            account.put_position(changed)
        elif what == "drop" and kind % 2 and account.positions:
            account.drop_position(list(account.positions)[kind % len(account.positions)])
        elif what == "drop" and account.orders:
            account.finish_order(list(account.orders.values())[kind % len(account.orders)])
        positions, orders = list(account.positions.values()), list(account.orders.values())
        fresh = Account(AccountSettings(), Loaded(positions, orders, [], []), [])
        assert account.symbols == fresh.symbols
        assert set(account.books) == set(account.symbols)
        assert (account.swap, account.next_expiry_s) == (fresh.swap, fresh.next_expiry_s)
        for each in account.symbols:
            assert reckoned(account, each) == reckoned(fresh, each)


@given(
    st.lists(st.tuples(st.integers(0, 1), PRICES, STOPS, STOPS), max_size=4),
    st.lists(st.tuples(st.integers(0, 7), PRICES, st.sampled_from([1, 3])), max_size=4),
    st.tuples(PRICES, PRICES, STOPS),
    st.booleans(),
)
def test_triggers_are_hit_when_any_stop_or_order_is(
    held: list[tuple[int, float, float, float]],
    waiting: list[tuple[int, float, int]],
    prices: tuple[float, float, float],
    exchange: bool,
) -> None:
    symbol, book = EXCHANGE if exchange else EURUSD, SymbolBook()
    quote = Quote(prices[0], prices[1], 0, prices[2])
    positions = [position(at, kind, "EURUSD", 0.1, price, sl, tp) for at, (kind, price, sl, tp) in enumerate(held)]
    orders = [order(at, kind, "EURUSD", 0.1, price, state=state) for at, (kind, price, state) in enumerate(waiting)]
    for each in positions:
        book.put_position(each)
    for waits in orders:
        book.put_order(waits)
    filling = any(each.type in {0, 1} or (each.type in {4, 5} and each.state == 3) for each in orders)
    stopped = any(stop_hit(symbol, each, quote) for each in positions)
    reached = any(order_hit(each, trigger_price(symbol, each, quote)) for each in orders if each.type not in {0, 1})
    assert book.triggers.hit(symbol, quote) == (filling or stopped or reached)


def test_stop_that_has_begun_to_fill_goes_on_at_each_tick_of_a_block() -> None:
    broker = Broker(symbols=(EXCHANGE,), account=AccountSettings(balance=1e6))
    placed = broker.send(action=api.TRADE_ACTION_PENDING, type=4, volume=0.5, price=1.102, type_filling=2)
    broker.quote("EURUSD", 1.1020, 1.1021)
    assert broker.account.orders[placed.order].state == api.ORDER_STATE_PARTIAL
    begun = broker.now_ms
    block = ticks(*((begun + each * 1000, 1.1000, 1.1001) for each in range(1, 200)))
    broker.engine.on_ticks([("EURUSD", block)], begun + 300_000)
    assert not broker.account.orders
    filled_ms = [each.time_msc for each in broker.account.deals.all() if each.order == placed.order]
    assert np.diff(filled_ms).tolist() == [1000] * 4


def test_order_check_leaves_every_position_as_it_is() -> None:
    broker = Broker(account=AccountSettings(balance=1e6))
    yen, euro = broker.buy(0.5, symbol="USDJPY"), broker.buy(0.5)
    broker.quote("USDJPY", 149.0, 149.01)
    before = msgspec.msgpack.encode(list(broker.account.positions.values()))
    closing: dict[str, Any] = {"type": 1, "symbol": "EURUSD", "volume": 0.5, "position": euro.ticket}
    broker.engine.quotes["USDJPY"] = Quote(140.0, 140.01, START_MS)  # a rate that no position has been priced at
    request = TradeRequest(action=api.TRADE_ACTION_DEAL, **closing)
    assert broker.desk.check(broker.account, request).retcode == 0
    assert msgspec.msgpack.encode(list(broker.account.positions.values())) == before
    assert yen.profit < 0
