"""The reference strategy on real bars: deterministic signals, and orders that obey its own rules."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.bars import Bar
from market.features import FEATURE_NAMES, BarArrays, compute_features
from protocol.messages import ClosePosition, PositionEvent, Quote, ReportSignal, Request, SignalEvent, SubmitOrder
from strategy.confluence import Confluence, votes_of
from strategy.dispatch import Dispatcher
from strategy.inputs import BarArrived, History, Joined, Observed, Occurred, Record, SymbolBars
from strategy.replay import first_difference, replay
from tests.strategy.samples import account, began, event, instrument, position, rates, snapshot
from tests.strategy.test_dispatch import make

POINT = 0.00001
FILE = Path("bars_m1") / "mt5_icmarkets" / "EURUSD_M1_202510010000_202511282356.csv.gz"
features_of_a_bar = st.fixed_dictionaries({
    name: st.floats(0, 100) if name == "adx" else st.floats(-1e6, 1e6) for name in FEATURE_NAMES
})


def real_bars(market_data: Path, count: int) -> list[Bar]:
    bars = []
    with gzip.open(market_data / FILE, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            opened = datetime.strptime(f"{row['<DATE>']} {row['<TIME>']}", "%Y.%m.%d %H:%M:%S").replace(tzinfo=UTC)
            first, high, low, close = (float(row[f"<{name}>"]) for name in ("OPEN", "HIGH", "LOW", "CLOSE"))
            ticks, spread = int(row["<TICKVOL>"]), int(row["<SPREAD>"])
            bars.append(Bar(int(opened.timestamp()) * 1000, first, high, low, close, ticks, spread))
            if len(bars) == count:
                break
    return bars


class Run:
    """The strategy on bars, one symbol, a quote with each bar."""

    def __init__(self, **parameters: object) -> None:
        self.strategy = make(Confluence, **parameters)
        start = began(self.strategy, timeframe="M1")
        self.dispatcher = Dispatcher(self.strategy, start)
        self.records: list[Record] = [self.dispatcher.dispatch(0, start)]
        self.feed(Joined(snapshot()))

    def feed(self, item: Joined | History | Observed | BarArrived | Occurred, now_ms: int = 0) -> list[Request]:
        self.records.append(self.dispatcher.dispatch(now_ms, item))
        return [decision.request() for decision in self.records[-1].decisions]

    def bar(self, bar: Bar) -> list[Request]:
        now_ms = bar.open_time_ms + 60_000
        quote = Quote("EURUSD", now_ms, bar.close, round(bar.close + bar.spread_points * POINT, 5))
        self.feed(Observed(account(), (), (quote,)), now_ms)
        return self.feed(BarArrived("EURUSD", "M1", 0, bar), now_ms)


def signals(records: list[Record]) -> list[SignalEvent]:
    requests = [decision.request() for record in records for decision in record.decisions]
    return [request.signal for request in requests if isinstance(request, ReportSignal)]


@pytest.fixture(scope="module")
def bars(market_data: Path) -> list[Bar]:
    return real_bars(market_data, 1_500)


def warmed(bars: list[Bar], **parameters: object) -> Run:
    run = Run(**parameters)
    run.feed(History((SymbolBars("EURUSD", rates(bars[:200])),)))
    return run


def test_signals_on_real_bars_are_the_same_every_time_and_carry_their_features(bars: list[Bar]) -> None:
    run = warmed(bars)
    for each in bars[200:500]:
        run.bar(each)
    found = signals(run.records)
    assert 50 < len(found) < 250
    assert {signal.direction for signal in found} == {1, -1}
    assert len({signal.signal_id for signal in found}) == len(found)
    assert first_difference(run.records, replay(run.records)) is None
    last = found[-1]
    place = next(n for n, each in enumerate(bars) if each.open_time_ms == last.bar_open_time_ms)
    window = BarArrays.of(bars[place - 138 : place + 1], point=POINT)
    assert last.features == compute_features(window)


def test_features_do_not_depend_on_how_long_it_ran(bars: list[Bar]) -> None:
    """A strategy that has just been started publishes the same signals as one that never stopped."""
    long, short = warmed(bars), Run()
    for each in bars[200:400]:
        long.bar(each)
    short.feed(History((SymbolBars("EURUSD", rates(bars[261:400])),)))
    for each in bars[400:450]:
        long.bar(each)
        short.bar(each)
    late = [s for s in signals(long.records) if s.bar_open_time_ms >= bars[400].open_time_ms]
    assert [(s.signal_id, s.features) for s in late] == [(s.signal_id, s.features) for s in signals(short.records)]


def test_every_order_has_stops_on_its_side_and_a_volume_that_risks_little(bars: list[Bar]) -> None:
    run = warmed(bars, max_volume=50.0)
    for each in bars[200:260]:
        for order in run.bar(each):
            if isinstance(order, SubmitOrder):
                quote = run.dispatcher.context.quote("EURUSD")
                assert quote is not None
                entry, sign = (quote.ask, 1) if order.side == "buy" else (quote.bid, -1)
                assert sign * (entry - order.sl) > 0
                assert sign * (order.tp - entry) > 0
                loss = abs(entry - order.sl) / POINT * order.volume
                assert loss <= 10_000 * 0.002 + 1e-6
                assert instrument().volume_min <= order.volume <= 50.0
                return
    pytest.fail("no order on sixty bars")


def test_one_position_a_symbol_which_an_opposite_signal_closes(bars: list[Bar]) -> None:
    run = warmed(bars, max_holding_bars=100_000)
    held = msgspec.structs.replace(position(), time_ms=bars[200].open_time_ms)
    run.feed(Occurred(event(1, PositionEvent("opened", held))))
    requests = [request for each in bars[200:700] for request in run.bar(each)]
    assert not any(isinstance(request, SubmitOrder) for request in requests)
    closes = [request for request in requests if isinstance(request, ClosePosition)]
    assert len(closes) == 1, "the close is on its way: no second one"
    reasons = {signal.reason for signal in signals(run.records)}
    assert reasons == {"a position is open", "the opposite position is closed first", "an order is on its way"}


def test_position_is_closed_after_its_time(bars: list[Bar]) -> None:
    run = warmed(bars, max_holding_bars=10, threshold=1.0)
    held = msgspec.structs.replace(position(), time_ms=bars[200].open_time_ms)
    run.feed(Occurred(event(1, PositionEvent("opened", held))))
    closed_at = [n for n, each in enumerate(bars[200:230]) if any(isinstance(r, ClosePosition) for r in run.bar(each))]
    assert closed_at == [10]


def test_nothing_is_decided_without_enough_bars(bars: list[Bar]) -> None:
    run = Run()
    run.feed(History((SymbolBars("EURUSD", rates(bars[:100])),)))
    assert [request for each in bars[100:138] for request in run.bar(each)] == []


def test_equity_too_small_for_the_least_volume_gives_a_signal_without_an_order(bars: list[Bar]) -> None:
    run = warmed(bars, risk_fraction=0.0000001)
    requests = [request for each in bars[200:260] for request in run.bar(each)]
    assert requests
    assert {signal.reason for signal in signals(run.records)} == {"the least volume would risk too much"}
    assert not any(signal.taken for signal in signals(run.records))


def test_wide_spread_is_no_signal() -> None:
    strategy = make(Confluence, max_spread_ratio=1.0)
    assert isinstance(strategy, Confluence)
    features = dict.fromkeys(FEATURE_NAMES, 0.0) | {
        "ema_gap": 2.0, "adx": 40.0, "rsi": 80.0, "macd_hist": 1.0, "atr": 0.001, "bollinger_position": 1.0,
    }  # fmt: skip
    assert strategy.score(features | {"spread_ratio": 0.9}) == 1.0
    assert strategy.score(features | {"spread_ratio": 1.1}) == 0.0


@given(features_of_a_bar)
def test_votes_and_score_stay_in_their_range(features: dict[str, float]) -> None:
    votes = votes_of(features)
    strategy = make(Confluence)
    assert isinstance(strategy, Confluence)
    assert -1 <= strategy.score(features) <= 1
    assert -1 <= votes.momentum <= 1
