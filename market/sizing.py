"""Volume from the account's risk: how many lots lose no more than a given part of the equity at the stop."""

from __future__ import annotations

import math

from market.instrument import Instrument, floor_to_step, price_step


def loss_per_lot(instrument: Instrument, distance: float) -> float:
    """Return what one lot loses over `distance` (price units), account currency.

    Raises:
        ValueError: the instrument has no tick value: the terminal gives none for a symbol not in Market Watch.
    """
    if not (math.isfinite(instrument.tick_value) and instrument.tick_value > 0):
        raise ValueError(
            f"{instrument.symbol} has no tick value ({instrument.tick_value!r}), so a loss cannot be computed: "
            "select the symbol in Market Watch and read its specification again"
        )
    return distance / price_step(instrument) * instrument.tick_value


def volume_for_risk(instrument: Instrument, *, equity: float, risk_fraction: float, stop_distance: float) -> float:
    """Return the largest volume whose loss at the stop is no more than a fraction of the equity.

    Rounded down to the symbol's step and capped at its largest volume; 0.0 when even the least volume risks
    more. Commission, swap and slippage beyond the stop are not counted.

    Args:
        instrument: Symbol to trade.
        equity: Account currency; at 0 or less the volume is 0.
        risk_fraction: Of the equity, above 0 and at most 1 (0.01 = one percent).
        stop_distance: From entry to stop, price units, above 0.

    Raises:
        ValueError: an argument is out of range, or the instrument has no tick value.
    """
    if not math.isfinite(equity):
        raise ValueError(f"equity must be a number, got {equity!r}")
    if not 0 < risk_fraction <= 1:
        raise ValueError(f"risk_fraction must be above 0 and at most 1, got {risk_fraction!r}")
    if not 0 < stop_distance < math.inf:
        raise ValueError(f"stop_distance must be a positive number, got {stop_distance!r}")
    if equity <= 0:
        return 0.0
    lots = equity * risk_fraction / loss_per_lot(instrument, stop_distance)
    volume = floor_to_step(min(lots, instrument.volume_max), instrument.volume_step)
    # Both lie on the same grid: half a step tells them apart without the noise of binary floats.
    least = instrument.volume_min - instrument.volume_step / 2
    return volume if volume > 0 and volume >= least else 0.0
