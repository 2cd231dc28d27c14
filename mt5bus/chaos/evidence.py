"""Reading the records of all sides once the system has come to rest: broker, event log, store, dispatch log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import select

from ml_logger import schema
from ml_logger.store import open_store, store_url
from mt5bus.chaos.audit import BrokerDeal, BrokerOrder, BrokerPosition, Decided, Evidence
from mt5bus.chaos.watch import Watch
from mt5bus.config import Loaded, paper_folder
from mt5bus.connect import client_of
from mt5bus.errors import ProcessError
from mt5bus.home import file_name
from paper_terminal import client as terminal_api
from protocol.messages import OrderRequest
from protocol.ticks import TickArray, ticks_array
from strategy.dispatch_log import read_log
from strategy.inputs import Began, Fired, Input, Joined, Occurred, Record, Refused
from strategy.replay import first_difference, logged, replay

_ALL_TIME = (0, 2_000_000_000)  # seconds, server time


def collect(loaded: Loaded, watch: Watch, *, not_settled: str) -> Evidence:
    """Read everything.

    Raises:
        ProcessError: The terminal does not answer.
        BusError: The adapter does not answer.
        StoreError: The store cannot be read.
        OSError: The dispatch log cannot be read.
        DataInvalid: It begins in the middle of a life.
    """
    if not terminal_api.initialize(str(paper_folder(loaded))):
        raise ProcessError(f"the paper terminal cannot be asked for its records: {terminal_api.last_error()}")
    try:
        orders, deals, positions = _at_broker()
        received, unseen, wrong = _ticks(watch)
    finally:
        terminal_api.shutdown()
    with client_of(loaded) as bus:
        entries = tuple(bus.events(0))
        ours = tuple(BrokerPosition(each.ticket, each.volume, each.sl, each.tp) for each in bus.positions())
    decisions: list[Decided] = []
    told_refused: set[str] = set()
    dispatched: dict[str, tuple[tuple[int, ...], ...]] = {}
    differences = ""
    for settings in loaded.settings.strategy:
        lives: list[list[int]] = []
        for record in (record for _, record in read_log(loaded.home.strategy / file_name(settings.name))):
            decisions += _decided(record)
            told = record.input
            if isinstance(told, Refused):
                told_refused.add(told.outcome.client_order_id)
            elif isinstance(told, Began):
                lives.append([])
            elif isinstance(told, Occurred):
                lives[-1].append(told.event.offset)
            elif isinstance(told, Joined) and not any(lives):
                lives[-1].append(told.snapshot.offset)
        dispatched[settings.name] = tuple(map(tuple, lives))
        differences += _replayed_otherwise(loaded, settings.name)
    return Evidence(
        followed=tuple(watch.events),
        resyncs=watch.resyncs,
        ticks=received,
        ticks_given_up=watch.ticks_lost,
        ticks_unseen=unseen,
        ticks_wrong=wrong,
        logged=entries,
        decisions=tuple(decisions),
        dispatched=dispatched,
        told_refused=frozenset(told_refused),
        broker_orders=orders,
        broker_deals=deals,
        broker_positions=positions,
        our_positions=ours,
        stored_deals=_in_store(loaded),
        replayed_otherwise=differences,
        not_settled=not_settled,
    )


def _at_broker() -> tuple[tuple[BrokerOrder, ...], tuple[BrokerDeal, ...], tuple[BrokerPosition, ...]]:
    """Return the broker's orders, deals of symbols, and open positions, through the terminal's own client module."""
    active, done = terminal_api.orders_get(), terminal_api.history_orders_get(*_ALL_TIME)
    deals, positions = terminal_api.history_deals_get(*_ALL_TIME), terminal_api.positions_get()
    failed = terminal_api.last_error()
    if active is None or done is None or deals is None or positions is None:
        raise ProcessError(f"the paper terminal did not give all its records: {failed}")
    orders = [_order(each, final=False) for each in active] + [_order(each, final=True) for each in done]
    found = (_deal(each) for each in deals)
    return tuple(orders), tuple(deal for deal in found if deal is not None), tuple(map(_position, positions))


def _ticks(watch: Watch) -> tuple[int, int, int]:
    """Return how many ticks the subscriber got, how many of the broker's it did not, and how many too often or late.

    Looked at is all from the first tick on, over every life of the adapter.
    """
    received = unseen = wrong = 0
    offset_s = 60 * watch.health.server_offset_minutes if watch.health is not None else 0
    for symbol, records in watch.ticks.items():
        ours = ticks_array(b"".join(records))
        received += len(ours)
        wrong += int((np.diff(ours["time_msc"]) < 0).sum())
        first_ms, last_ms = int(ours["time_msc"][0]), int(ours["time_msc"][-1])
        span_s = (first_ms // 1000 + offset_s, last_ms // 1000 + 1 + offset_s)
        theirs = terminal_api.copy_ticks_range(symbol, *span_s, terminal_api.COPY_TICKS_ALL)
        if theirs is None:
            raise ProcessError(f"the paper terminal did not give its {symbol} ticks: {terminal_api.last_error()}")
        # The first and the last millisecond may have had more than was told of them.
        at_broker = _counted(theirs, offset_ms=1000 * offset_s, from_ms=first_ms + 1, to_ms=last_ms - 1)
        told = _counted(ours, offset_ms=0, from_ms=first_ms + 1, to_ms=last_ms - 1)
        unseen += (at_broker - told).total()
        wrong += (told - at_broker).total()
    return received, unseen, wrong


def _counted(ticks: TickArray, *, offset_ms: int, from_ms: int, to_ms: int) -> Counter[tuple[int, float, float]]:
    rows = zip((ticks["time_msc"] - offset_ms).tolist(), ticks["bid"].tolist(), ticks["ask"].tolist(), strict=True)
    return Counter(row for row in rows if from_ms <= row[0] <= to_ms)


def _order(order: Any, *, final: bool) -> BrokerOrder:
    return BrokerOrder(
        order.ticket, order.state, order.reason, order.magic, order.position_id, final, order.sl, order.tp
    )


def _deal(deal: Any) -> BrokerDeal | None:
    """Return a deal of a symbol; None for a balance operation."""
    if not deal.symbol:
        return None
    return BrokerDeal(deal.ticket, deal.order, deal.position_id, deal.volume, deal.price, deal.profit)


def _position(position: Any) -> BrokerPosition:
    return BrokerPosition(position.ticket, position.volume, position.sl, position.tp)


def _in_store(loaded: Loaded) -> tuple[BrokerDeal, ...]:
    deals = schema.deals.c
    query = select(deals.ticket, deals.order, deals.position_id, deals.volume, deals.price, deals.profit).where(
        deals.symbol != ""
    )
    url = store_url(loaded.settings.logger.url, loaded.home.store)
    with open_store(url, writing=False) as store, store.reading() as connection:
        return tuple(BrokerDeal(*row) for row in connection.execute(query))


def _decided(record: Record) -> Iterator[Decided]:
    """Yield the orders that a strategy decided on at one input."""
    for decision in record.decisions:
        request = decision.request()
        if isinstance(request, OrderRequest):
            anonymous = msgspec.structs.replace(request, client_order_id="")
            content = msgspec.msgpack.encode(anonymous)
            yield Decided(_trigger(record.input, record.now_ms), content, request.client_order_id)


def _replayed_otherwise(loaded: Loaded, strategy: str) -> str:
    folder = loaded.home.strategy / file_name(strategy)
    difference = first_difference(logged(folder), replay(logged(folder)))
    return "" if difference is None else f"{strategy}: {difference}"


def _trigger(told: Input, now_ms: int) -> str:
    """Return what names the thing that was decided on, the same in every life of the strategy."""
    if isinstance(told, Fired):
        return f"timer {told.name} {told.due_ms}"
    if isinstance(told, Occurred):
        return f"event {told.event.log_id} {told.event.offset}"
    return f"{type(told).__name__} {now_ms}"
