"""The guide's example is a working strategy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from market.bars import Bar
from mt5bus.settings import StrategySettings
from protocol.messages import IntentEvent, ReportSignal, SubmitOrder
from strategy.dispatch import Dispatcher
from strategy.inputs import BarArrived, Fired, History, Joined, Observed, Occurred, SymbolBars
from strategy.loading import load_strategy
from strategy.sdk import Strategy
from tests.strategy.samples import START_MS, TIMEFRAME, account, bar, began, event, quote, rates, snapshot

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "strategies.md"


@pytest.fixture
def strategy(tmp_path: Path) -> Strategy:
    (example, *_) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "crossing.py"
    path.write_text(example, encoding="utf-8")
    return load_strategy(StrategySettings(name="crossing", class_path=f"{path}:Crossing", params={"period": 5}))


def wave(count: int) -> list[Bar]:
    """Return bars whose close goes up and down."""
    return [bar(number, 1.1 + 0.001 * ((number // 8) % 2), open_=1.1) for number in range(count)]


def test_example_of_the_guide_trades_with_stops_and_signals(strategy: Strategy) -> None:
    start = began(strategy, name="crossing")
    dispatcher = Dispatcher(strategy, start)
    bars = wave(40)
    requests = []
    for item in (start, Joined(snapshot()), History((SymbolBars("EURUSD", rates(bars[:6])),))):
        assert dispatcher.dispatch(START_MS, item).decisions == ()
    dispatcher.dispatch(START_MS, Observed(account(), (), (quote(),)))
    for each in bars[6:]:
        record = dispatcher.dispatch(each.open_time_ms, BarArrived("EURUSD", TIMEFRAME, 0, each))
        assert not record.error
        requests += [decision.request() for decision in record.decisions]
    (order,) = [request for request in requests if isinstance(request, SubmitOrder)]
    assert order.side == "buy"
    assert order.sl < quote().bid < quote().ask < order.tp
    signals = [request.signal for request in requests if isinstance(request, ReportSignal)]
    assert len(signals) >= 2
    assert signals[0].client_order_id == order.client_order_id
    assert signals[1].reason == "an order is on its way"


def test_example_of_the_guide_hears_of_refusals_and_timers(strategy: Strategy) -> None:
    start = began(strategy, name="crossing")
    dispatcher = Dispatcher(strategy, start)
    refusal = IntentEvent("x", "crossing", "open", "refused", "EURUSD", "buy", 0.1, 0.0, 0.0, 0.0, text="too large")
    for item in (start, Joined(snapshot()), History(()), Occurred(event(1, refusal))):
        assert not dispatcher.dispatch(START_MS, item).error
    assert dispatcher.due(START_MS + 60_000) == [Fired("report", START_MS // 60_000 * 60_000 + 60_000)]
    assert strategy.refused == 1  # type: ignore[attr-defined]
