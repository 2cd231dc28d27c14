"""The adapter as a process on a real paper terminal, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zmq

from broker_adapter.bar_reader import bars_from
from market.bars import Bar, Timeframe
from mt5bus.settings import Bus
from protocol.errors import BusError, NotFound, ValidationFailed
from protocol.keys import KeyStore, new_identity
from protocol.messages import (
    AlertEvent,
    BarUpdate,
    Beacon,
    CalculateMargin,
    FindSymbols,
    GetAccount,
    GetDeals,
    GetEvents,
    GetHealth,
    GetHistoryOrders,
    GetInstrument,
    GetIntent,
    GetOrders,
    GetPositions,
    GetPrices,
    GetRates,
    GetSnapshot,
    GetTickRange,
    GetTicks,
    Health,
    TickBatch,
)
from protocol.sockets import connect_dealer
from protocol.ticks import rates_array, ticks_array
from tests.broker_adapter.paper import PaperSystem

LIVELY = "suffix = '.m'\nhistory_days = 0.05\n[feed]\nticks_per_second = 20.0\n"
ADAPTER = """[adapter]
timeframes = ['S1', 'S5', 'M1']
symbols = ['EURUSD', 'GBPUSD', 'USDJPY', 'XAUUSD', 'NOSUCH']
[adapter.deadlines]
query_s = 2.0
"""
CANARY = "c4n4ry-p4ssw0rd"
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperSystem]:
    with PaperSystem(tmp_path_factory.mktemp("node"), paper=LIVELY, adapter=ADAPTER) as made:
        made.start_terminal()
        made.start_adapter()
        made.subscribe()
        made.until(lambda: made.of(TickBatch) and made.of(Beacon), what="ticks and beacons")
        made.until(
            lambda: made.of(Beacon)[-1].server_time_status == "measured", timeout_s=30, what="the server time measured"
        )
        yield made


def test_ticks_are_numbered_in_utc_and_canonical(system: PaperSystem) -> None:
    topics = {each.topic.symbol for each in system.received if isinstance(each.message, TickBatch)}
    assert topics <= {"EURUSD", "GBPUSD", "USDJPY", "XAUUSD"}
    batches = [
        each.message
        for each in system.received
        if isinstance(each.message, TickBatch) and each.topic.symbol == "EURUSD"
    ]
    for before, after in pairwise(batches):
        assert after.first == before.first + len(before)
    newest = ticks_array(batches[-1].records)[-1]
    assert abs(int(newest["time_msc"]) - time.time() * 1000) < 10_000


def test_queries_from_memory(system: PaperSystem) -> None:
    account = system.eventually_ok(GetAccount).account
    assert account.currency == "USD"
    assert system.eventually_ok(GetPositions).positions == ()
    assert system.eventually_ok(GetOrders).orders == ()
    quotes = system.eventually_ok(GetPrices).quotes
    assert {quote.symbol for quote in quotes} == {"EURUSD", "GBPUSD", "USDJPY", "XAUUSD"}
    instrument = system.eventually_ok(lambda i: GetInstrument(i, "EURUSD")).instrument
    assert (instrument.symbol, instrument.broker_symbol) == ("EURUSD", "EURUSD.m")
    found = system.eventually_ok(lambda i: FindSymbols(i, "eur"))
    assert any(each.symbol == "EURUSD" for each in found.symbols)
    snapshot = system.eventually_ok(GetSnapshot)
    assert len(snapshot.instruments) == 4
    assert snapshot.connection == "attached"
    events = system.eventually_ok(lambda i: GetEvents(i, 0))
    assert events.log_id == snapshot.log_id


def test_errors_are_what_they_are(system: PaperSystem) -> None:
    def error(make: Any) -> BusError:
        answer = system.ask(make)
        assert isinstance(answer, BusError)
        return answer

    assert isinstance(error(lambda i: GetPrices(i, ("NOSUCH",))), NotFound)
    assert isinstance(error(lambda i: GetInstrument(i, "NOSUCH")), NotFound)
    assert isinstance(error(lambda i: GetIntent(i, "none")), NotFound)
    assert isinstance(error(lambda i: GetRates(i, "EURUSD", "M7", count=3)), ValidationFailed)
    assert isinstance(error(lambda i: GetTicks(i, "EURUSD", 5, 1)), ValidationFailed)
    assert isinstance(error(lambda i: GetTicks(i, "EURUSD", 0, 2**62)), ValidationFailed)
    assert isinstance(error(lambda i: CalculateMargin(i, "EURUSD", "up", 1.0)), ValidationFailed)
    assert isinstance(error(lambda i: CalculateMargin(i, "EURUSD", "buy", float("nan"))), ValidationFailed)
    assert isinstance(error(lambda i: GetTickRange(i, "EURUSD", 1, 1, 1)), NotFound)
    assert isinstance(error(lambda i: GetEvents(i, 0, "another log")), NotFound)


def test_history_in_pages(system: PaperSystem) -> None:
    now_ms = time.time_ns() // 1_000_000
    begin_ms, skip, ticks = now_ms - 10_000, 0, []
    while True:
        make = partial(GetTicks, symbol="EURUSD", from_ms=begin_ms, to_ms=now_ms, skip=skip, limit=50)
        page = system.eventually_ok(make)
        assert len(page.records) <= 50 * 60
        ticks += ticks_array(page.records)["time_msc"].tolist()
        if not page.more:
            break
        begin_ms, skip = page.next_ms, page.next_skip
    whole = system.eventually_ok(lambda i: GetTicks(i, "EURUSD", now_ms - 10_000, now_ms))
    assert ticks == ticks_array(whole.records)["time_msc"].tolist()
    assert ticks == sorted(ticks)
    assert ticks[0] >= now_ms - 10_000
    assert ticks[-1] <= now_ms
    deals = system.eventually_ok(lambda i: GetDeals(i, now_ms - DAY_MS, now_ms + 60_000)).deals
    assert deals[0].profit == 10_000.0  # the deposit
    assert system.eventually_ok(lambda i: GetHistoryOrders(i, now_ms - DAY_MS, now_ms)).orders == ()


@pytest.mark.parametrize("name", ["M1", "S5"])
def test_newest_rates_are_completed_bars(system: PaperSystem, name: str) -> None:
    reply = system.eventually_ok(lambda i: GetRates(i, "EURUSD", name, count=20))
    rates = rates_array(reply.records)
    assert len(rates) == 20
    seconds = Timeframe.parse(name).seconds
    assert (np.diff(rates["time"]) >= seconds).all()
    assert (rates["time"] % seconds == 0).all()
    assert rates["time"][-1] + seconds <= time.time() + 1
    assert (rates["high"] >= rates["low"]).all()


def test_rates_from_ticks_equal_the_terminals(system: PaperSystem) -> None:
    """S30 is built here, M1 by the terminal: two S30 make one M1."""
    to_ms = (time.time_ns() // 1_000_000_000 - 60) // 60 * 60_000
    from_ms = to_ms - 300_000
    minutes = rates_array(system.eventually_ok(lambda i: GetRates(i, "EURUSD", "M1", from_ms, to_ms - 1)).records)
    halves = rates_array(system.eventually_ok(lambda i: GetRates(i, "EURUSD", "S30", from_ms, to_ms - 1)).records)
    assert len(minutes) == 5
    assert int(minutes["tick_volume"].sum()) == int(halves["tick_volume"].sum())
    assert minutes["high"].max() == halves["high"].max()
    assert minutes["open"][0] == halves["open"][0]
    assert minutes["close"][-1] == halves["close"][-1]


def test_margin_and_profit(system: PaperSystem) -> None:
    reply = system.eventually_ok(lambda i: CalculateMargin(i, "EURUSD", "buy", 0.1, 1.1, 1.2))
    assert reply.margin == pytest.approx(0.1 * 100_000 * 1.1 / 100, rel=0.01)
    assert reply.profit == pytest.approx(1000.0)


def test_bars_are_published_whole(system: PaperSystem) -> None:
    system.until(lambda: any(bar.timeframe == "S1" for bar in system.of(BarUpdate)), what="a bar of S1")
    bar = next(bar for bar in system.of(BarUpdate) if bar.timeframe == "S1")
    assert bar.bar.open_time_ms % 1000 == 0
    assert bar.revision == 0


def test_strangers_and_garbage_are_counted_logged_and_disturb_nobody(system: PaperSystem) -> None:
    store, bus = KeyStore(system.home.keys), Bus(port=system.port)
    server_key = store.server_key("adapter")
    before = system.eventually_ok(GetHealth).counters
    context = system.loop.context
    known = connect_dealer(context, bus.queries, identity=store.identity("client"), server_key=server_key)
    stranger = connect_dealer(context, bus.queries, identity=new_identity("stranger"), server_key=server_key)
    subscriber = connect_dealer(context, bus.orders, identity=store.identity("ml_logger"), server_key=server_key)
    try:
        system.until(lambda: known.poll(0, zmq.POLLOUT), what="a connection")
        for garbage in (b"", b"\x93\x01", b"v1/query\0" + b"\xff" * 100):
            known.send_multipart([b"", garbage])

        def counted() -> bool:
            now.update(system.eventually_ok(GetHealth).counters)
            refused = now["keys_refused"] - before["keys_refused"] >= 2
            return bool(refused and now["malformed_requests"] - before["malformed_requests"] == 3)

        now: dict[str, int] = {}
        system.until(counted, timeout_s=10, what="refusals and garbage counted")
    finally:
        for socket in (known, stranger, subscriber):
            socket.close(linger=0)
    log = next(iter(system.home.logs.glob("adapter-*.jsonl"))).read_text(encoding="utf-8")
    assert log.count("a key without the role was refused") == 2, "each key once"
    assert log.count("a malformed request was refused") == 3


def test_a_hung_link_is_replaced_while_queries_are_served(system: PaperSystem) -> None:
    """A stopped process is a hang that no call can end; the feed link's next poll runs into its deadline."""
    feed = system.link_pids()[1]
    psutil.Process(feed).suspend()
    answered = 0
    started = time.monotonic()

    def replaced() -> bool:
        nonlocal answered
        asked = time.monotonic()
        assert not isinstance(system.ask(GetAccount), BusError)
        assert time.monotonic() - asked < 1.0
        answered += 1
        return feed not in system.link_pids() and len(system.link_pids()) == 3

    system.until(replaced, timeout_s=20, what="the hung link replaced")
    assert answered > 10
    assert not psutil.pid_exists(feed)
    assert time.monotonic() - started < 10
    epoch_ticks = system.of(Beacon)[-1].ticks["EURUSD"]
    system.until(lambda: system.of(Beacon)[-1].ticks["EURUSD"] > epoch_ticks, what="ticks again")
    health = system.eventually_ok(GetHealth)
    assert isinstance(health, Health)
    assert sum(link.timeouts for link in health.links) == 1


def test_a_killed_terminal_is_attached_to_again(system: PaperSystem) -> None:
    assert system.terminal is not None
    system.terminal.kill()
    system.terminal.wait(10)
    system.until(lambda: system.of(Beacon)[-1].connection == "no_terminal", what="the loss noticed")
    system.start_terminal()
    system.until(lambda: system.of(Beacon)[-1].connection == "attached", what="attached again")
    ticks = sum(system.of(Beacon)[-1].ticks.values())
    system.until(lambda: sum(system.of(Beacon)[-1].ticks.values()) > ticks, what="ticks again")


def test_a_killed_adapters_successor_publishes_the_bar_that_is_forming_whole(system: PaperSystem) -> None:
    assert system.adapter is not None
    system.adapter.kill()
    system.adapter.wait(10)
    died_with = system.of(Beacon)[-1].epoch
    system.start_adapter()

    def bars(name: str) -> list[Bar]:
        return [
            each.message.bar
            for each in system.received
            if isinstance(each.message, BarUpdate)
            and (each.message.epoch > died_with and each.topic.symbol == "EURUSD" and each.message.timeframe == name)
        ]

    def first_tick_ms() -> int:
        own = [
            each.message
            for each in system.received
            if isinstance(each.message, TickBatch) and each.topic.symbol == "EURUSD" and each.message.epoch > died_with
        ]
        return int(ticks_array(own[0].records)["time_msc"][0])

    system.until(lambda: len(bars("S5")) >= 1 and len(bars("S1")) >= 3, what="bars of the next life")
    for name in ("S1", "S5"):
        published = bars(name)
        first_ms, last_ms = published[0].open_time_ms, published[-1].open_time_ms
        assert first_ms == first_tick_ms() // (int(name[1:]) * 1000) * int(name[1:]) * 1000
        reply = system.eventually_ok(
            partial(GetRates, symbol="EURUSD", timeframe=name, from_ms=first_ms, to_ms=last_ms)
        )
        assert published == bars_from(rates_array(reply.records))


def test_an_unusable_symbol_is_alerted_once_in_both_lives(system: PaperSystem) -> None:
    events = system.eventually_ok(lambda i: GetEvents(i, 0)).events
    alerts = [event.body for event in events if isinstance(event.body, AlertEvent)]
    assert [(alert.code, alert.fields) for alert in alerts] == [("symbol_unusable", {"symbol": "NOSUCH"})]
    assert "NOSUCH" in system.eventually_ok(GetHealth).text


def test_the_password_is_visible_nowhere(tmp_path: Path) -> None:
    """A wrong, marked password goes through configuration, login and its failure."""
    account = "[terminal]\nlogin = 4711\nserver = 'Paper-Demo'\n[adapter.connection]\nretry_delay_s = 0.1\n"
    with PaperSystem(tmp_path, paper=LIVELY, adapter=account, environment={"MT5_PASSWORD": CANARY}) as system:
        system.start_terminal()
        system.start_adapter()
        health = system.eventually_ok(GetHealth)

        def refused() -> Any:
            nonlocal health
            health = system.ask(GetHealth)
            return isinstance(health, Health) and ("-6" in health.text or health.connection == "wrong_account")

        system.until(refused, what="the login refused")
        assert CANARY not in repr(health)
        for pid in system.link_pids():
            process = psutil.Process(pid)
            assert CANARY not in str(process.cmdline()) + str(process.environ())
        assert system.adapter is not None
        assert CANARY not in str(psutil.Process(system.adapter.pid).cmdline())
        system.adapter.terminate()
        system.adapter.wait(10)
        searched = 0
        for path in [system.output, *system.home.path.rglob("*")]:
            if path.is_file() and system.home.terminal not in path.parents:
                assert CANARY.encode() not in path.read_bytes(), path
                searched += 1
        assert searched > 5
