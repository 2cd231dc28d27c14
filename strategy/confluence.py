"""The reference strategy: trend, momentum and volatility have to agree.

On every completed bar of a symbol the features of `market.features` (TA-Lib; the same that training uses) become three
votes from -1 to 1:

- trend: how far the fast EMA is from the slow one, in ATRs, weakened while ADX shows no trend;
- momentum: RSI away from 50, the MACD histogram and the place of the close within the Bollinger bands;
- volatility is no vote but a gate: where the spread eats the bar's range (`max_spread_ratio`) nothing is a signal.

The score is the mean of the two votes. Beyond `threshold`, with both votes on one side, it is a signal, and it is
published with the exact features, taken or not.

The defaults are for the synthetic market on five-second bars, where a spread is several ATRs and a newcomer wants to
see a trade within a minute: there about half of the bars are signals. On bars of a minute or more and with real money,
raise `threshold` (0.75) and lower `max_spread_ratio` (0.5).

A signal is taken if the symbol is free: at most one position a symbol, sized so that its stop loses `risk_fraction`
of the equity, SL and TP by ATR on every order. A position ends by SL, TP, an opposite signal, or after
`max_holding_bars`. Everything it needs to know it finds in the bars and the open positions: it saves no state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from market.bars import Bar, Timeframe
from market.features import BarArrays, FeatureParams, compute_features
from market.instrument import Instrument, round_price
from market.sizing import volume_for_risk
from protocol.messages import Position, Quote
from strategy.sdk import Context, Strategy

_STRONG_ADX = 25.0  # Wilder: from here on a market trends
_RSI_REACH = 20.0  # RSI 70 and 30 are a full vote
_FULL_TREND_ATR = 1.0
_FULL_HISTOGRAM_ATR = 0.3
_STOPS_MARGIN_POINTS = 2  # beyond the broker's stops level: the price moves while the order travels
_BUY_TYPE = 0


class Confluence(Strategy):
    """Trades where trend and momentum agree and the spread allows it."""

    class Parameters(Strategy.Parameters):
        """Keys of ``params`` in the strategy's table."""

        threshold: Annotated[float, Meta(gt=0, le=1, description="least score that is a signal")] = 0.5
        max_spread_ratio: Annotated[float, Meta(gt=0, description="spread over ATR, above it no signal")] = 20.0
        sl_atr: Annotated[float, Meta(gt=0, le=1000, description="stop, in ATRs")] = 6.0
        tp_atr: Annotated[float, Meta(gt=0, le=1000, description="target, in ATRs")] = 9.0
        min_stop_spreads: Annotated[float, Meta(ge=1, description="stop is at least so many spreads away")] = 2.0
        risk_fraction: Annotated[float, Meta(gt=0, le=0.1, description="of the equity, lost at the stop")] = 0.002
        max_volume: Annotated[float, Meta(gt=0, description="lots, the most in one order")] = 0.5
        max_holding_bars: Annotated[int, Meta(ge=1, description="a position is closed after so many bars")] = 36
        features: FeatureParams = FeatureParams()

    parameters: Parameters

    def __init__(self) -> None:
        self._bars: dict[str, deque[Bar]] = {}

    def warmup_bars(self) -> int:
        """Return the features' window."""
        return self.parameters.features.window

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        """Keep the window; once warm, judge the bar."""
        window = self._bars.setdefault(symbol, deque(maxlen=self.parameters.features.window))
        window.append(bar)
        instrument = context.instruments.get(symbol)
        if not context.warm or instrument is None:
            return
        position = context.position(symbol)
        overdue = position is not None and self._is_overdue(context, position, bar)
        if position is not None and overdue and not context.busy(symbol):
            context.close(position)
        if len(window) < self.parameters.features.window:
            return
        features = compute_features(BarArrays.of(list(window), point=instrument.point), self.parameters.features)
        score = self.score(features)
        if abs(score) >= self.parameters.threshold:
            self._on_signal(context, instrument, 1 if score > 0 else -1, abs(score), features)

    def on_bar_revised(self, context: Context, symbol: str, bar: Bar) -> None:  # noqa: ARG002  the SDK names it
        """Put the terminal's own bar in the place of ours."""
        window = self._bars.get(symbol, deque())
        for place, known in enumerate(window):
            if known.open_time_ms == bar.open_time_ms:
                window[place] = bar

    def score(self, features: Mapping[str, float]) -> float:
        """Return -1 (sell) to 1 (buy); 0 where the votes disagree or the spread is too wide."""
        votes = votes_of(features)
        if features["atr"] <= 0 or features["spread_ratio"] > self.parameters.max_spread_ratio:
            return 0.0
        if votes.trend * votes.momentum <= 0:
            return 0.0
        return (votes.trend + votes.momentum) / 2

    def _on_signal(
        self,
        context: Context,
        instrument: Instrument,
        direction: Literal[1, -1],
        strength: float,
        features: Mapping[str, float],
    ) -> None:
        symbol = instrument.symbol
        position = context.position(symbol)
        order, reason = "", ""
        if context.busy(symbol):
            reason = "an order is on its way"
        elif position is not None:
            reason = "a position is open"
            if (position.type == _BUY_TYPE) != (direction > 0):
                context.close(position)
                reason = "the opposite position is closed first"
        else:
            order, reason = self._open(context, instrument, direction, features["atr"])
        context.signal(
            symbol, direction=direction, strength=min(1.0, strength), features=features, order=order, reason=reason
        )

    def _open(self, context: Context, instrument: Instrument, direction: int, atr: float) -> tuple[str, str]:
        """Return the order's id, or an empty one and why there is none."""
        quote = context.quote(instrument.symbol)
        if quote is None:
            return "", "no quote yet"
        if instrument.tick_value <= 0:
            return "", "the terminal has no tick value yet"
        sl, tp, risk = self._levels(instrument, quote, direction, atr)
        if sl <= 0 or tp <= 0:
            return "", "the stop would be below zero"
        volume = min(
            volume_for_risk(
                instrument,
                equity=context.account.equity,
                risk_fraction=self.parameters.risk_fraction,
                stop_distance=risk,
            ),
            self.parameters.max_volume,
        )
        if volume < instrument.volume_min:
            return "", "the least volume would risk too much"
        send = context.buy if direction > 0 else context.sell
        return send(instrument.symbol, volume, sl=sl, tp=tp), ""

    def _levels(self, instrument: Instrument, quote: Quote, direction: int, atr: float) -> tuple[float, float, float]:
        """Return SL, TP and the distance from entry to SL, all prices.

        SL and TP of a buy are watched on the bid, those of a sell on the ask: the distances count from there.
        """
        spread = quote.ask - quote.bid
        least = (instrument.stops_level_points + _STOPS_MARGIN_POINTS) * instrument.point + spread
        stop = max(self.parameters.sl_atr * atr, self.parameters.min_stop_spreads * spread, least)
        target = max(self.parameters.tp_atr * atr, stop, least)
        if direction > 0:
            sl = round_price(instrument, quote.bid - stop, "down")
            return sl, round_price(instrument, quote.ask + target, "up"), quote.ask - sl
        sl = round_price(instrument, quote.ask + stop, "up")
        return sl, round_price(instrument, quote.bid - target, "down"), sl - quote.bid

    def _is_overdue(self, context: Context, position: Position, bar: Bar) -> bool:
        held_ms = bar.open_time_ms - position.time_ms
        return held_ms >= self.parameters.max_holding_bars * Timeframe.parse(context.timeframe).milliseconds


class Votes(NamedTuple):
    """What each side of the confluence says, -1 to 1."""

    trend: float
    momentum: float


def votes_of(features: Mapping[str, float]) -> Votes:
    """Return the votes that the features of one bar give."""
    trend = _clip(features["ema_gap"] / _FULL_TREND_ATR) * min(1.0, features["adx"] / _STRONG_ADX)
    rsi = _clip((features["rsi"] - 50.0) / _RSI_REACH)
    histogram = _clip(features["macd_hist"] / _FULL_HISTOGRAM_ATR)
    band = _clip(2.0 * features["bollinger_position"] - 1.0)
    return Votes(trend, (rsi + histogram + band) / 3.0)


def _clip(value: float) -> float:
    return max(-1.0, min(1.0, value))
