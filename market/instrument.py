"""The specification of a symbol, and the rules that follow from it alone: volumes, prices, filling.

An `Instrument` is what the terminal's `symbol_info` says about a symbol, reduced to what trading needs, under
the canonical name. It travels on the wire as it stands (an array of its fields in this order); new fields go
to the end and have defaults.
"""

from __future__ import annotations

import math
from decimal import Decimal
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Literal

import msgspec

# How far a number may lie off its grid and still count as on it, in grid steps: the noise of binary floats alone.
# 0.3 / 0.1 is 2.9999999999999996 and means 3; 1.0950000000000002 is how 1.1 - 0.005 comes out.
_NOISE_STEPS = 1e-9
_NOISE_RELATIVE = 1e-13


class Execution(IntEnum):
    """How the broker executes market orders (`trade_exemode`)."""

    REQUEST = 0
    INSTANT = 1
    MARKET = 2
    EXCHANGE = 3


class FillingFlag(IntFlag):
    """The bits of `filling_mask`. They are not the values of `Filling`."""

    NONE = 0
    FOK = 1
    IOC = 2
    BOC = 4


class Filling(IntEnum):
    """What an order carries as `type_filling`."""

    FOK = 0
    IOC = 1
    RETURN = 2
    BOC = 3


class OrderFlag(IntFlag):
    """The bits of `order_mask`: which kinds of order the symbol takes."""

    MARKET = 1
    LIMIT = 2
    STOP = 4
    STOP_LIMIT = 8
    SL = 16
    TP = 32
    CLOSE_BY = 64
    ALL = 127


class ExpirationFlag(IntFlag):
    """The bits of `expiration_mask`: which lifetimes a pending order may have."""

    GTC = 1
    DAY = 2
    SPECIFIED = 4
    SPECIFIED_DAY = 8
    ALL = 15


class TradeMode(IntEnum):
    """What may be done with the symbol (`trade_mode`)."""

    DISABLED = 0
    LONG_ONLY = 1
    SHORT_ONLY = 2
    CLOSE_ONLY = 3
    FULL = 4


class CalcMode(IntEnum):
    """How margin and profit are computed (`trade_calc_mode`)."""

    FOREX = 0
    FUTURES = 1
    CFD = 2
    CFD_INDEX = 3
    CFD_LEVERAGE = 4
    FOREX_NO_LEVERAGE = 5
    EXCH_STOCKS = 32
    EXCH_FUTURES = 33
    EXCH_OPTIONS = 34
    EXCH_OPTIONS_MARGIN = 36
    EXCH_BONDS = 37
    EXCH_STOCKS_MOEX = 38
    EXCH_BONDS_MOEX = 39
    SERV_COLLATERAL = 64


class Instrument(msgspec.Struct, frozen=True, array_like=True):
    """The specification of one symbol. Codes are plain ints on the wire; the enums above name them."""

    symbol: str
    """Canonical name, such as EURUSD."""
    broker_symbol: str
    """The broker's own name, such as EURUSD.m."""
    digits: int
    """Decimals of a price."""
    point: float
    """Price of one point (10 ** -digits)."""
    tick_size: float
    """Grid of prices; not always one point."""
    tick_value: float
    """Worth of one tick_size for one lot, in the account's currency."""
    contract_size: float
    """Units of the base per lot."""
    volume_min: float
    """Lots."""
    volume_max: float
    """Lots in one order."""
    volume_step: float
    """Lots."""
    volume_limit: float
    """Lots of position and pending orders in one direction; 0 = none."""
    stops_level_points: int
    """Least distance of SL, TP and pending prices from the current price; 0 = no fixed limit."""
    freeze_level_points: int
    """Inside this distance nothing can be modified, removed or closed; 0 = none."""
    execution: int
    """`Execution`."""
    filling_mask: int
    """`FillingFlag` bits."""
    order_mask: int
    """`OrderFlag` bits."""
    expiration_mask: int
    """`ExpirationFlag` bits."""
    trade_mode: int
    """`TradeMode`."""
    calc_mode: int
    """`CalcMode`."""
    currency_base: str
    currency_profit: str
    currency_margin: str
    description: str
    path: str
    """Place in the broker's symbol tree, such as Forex\\Majors\\EURUSD."""
    margin_initial: float = 0.0
    """Margin of one lot in currency_margin, where the calculation mode uses it; 0 for forex."""
    swap_long: float = 0.0
    swap_short: float = 0.0


class VolumeError(ValueError):
    """A volume that the symbol does not take."""


class FillingError(ValueError):
    """The symbol allows no filling for this kind of order."""


@lru_cache(maxsize=1024)
def decimals_of(step: float) -> int:
    """Return how many decimals a multiple of `step` needs: 2 for 0.01 and for 0.25, 0 for 1.0.

    Raises:
        ValueError: `step` is not a positive finite number.
    """
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"a grid step must be a positive number, got {step!r}")
    exponent = Decimal(repr(step)).normalize().as_tuple().exponent
    return max(0, -int(exponent))


def on_grid(value: float, step: float) -> bool:
    """Say whether `value` is a multiple of `step`, but for the noise of binary floats."""
    steps = value / step
    return abs(steps - round(steps)) <= _noise(steps)


def floor_to_step(value: float, step: float) -> float:
    """Return the largest multiple of `step` not above `value` (but for the noise of binary floats)."""
    steps = value / step
    return round(math.floor(steps + _noise(steps)) * step, decimals_of(step))


def _noise(steps: float) -> float:
    return _NOISE_STEPS + _NOISE_RELATIVE * abs(steps)


def normalize_volume(instrument: Instrument, volume: float) -> float:
    """Return `volume` in lots, rounded down to the symbol's step. Never more than asked for.

    Raises:
        VolumeError: not a positive number, or (rounded) below the symbol's least or above its largest volume.
    """
    if not (math.isfinite(volume) and volume > 0):
        raise VolumeError(f"{instrument.symbol}: volume must be a positive number of lots, got {volume!r}")
    rounded = floor_to_step(volume, instrument.volume_step)
    half_step = instrument.volume_step / 2
    if rounded < instrument.volume_min - half_step:
        raise VolumeError(
            f"{instrument.symbol}: volume {volume:g} is below the least volume {instrument.volume_min:g} "
            f"(step {instrument.volume_step:g}): ask for more or leave the order out"
        )
    if rounded > instrument.volume_max + half_step:
        raise VolumeError(
            f"{instrument.symbol}: volume {volume:g} is above the largest volume of one order "
            f"{instrument.volume_max:g}: split the order"
        )
    return rounded


def price_step(instrument: Instrument) -> float:
    """Return the grid of prices: the tick size, or one point where the broker reports no tick size."""
    return instrument.tick_size if instrument.tick_size > 0 else instrument.point


def round_price(instrument: Instrument, price: float, rounding: Literal["nearest", "down", "up"] = "nearest") -> float:
    """Return `price` on the symbol's tick grid.

    Raises:
        ValueError: `price` is not a finite number.
    """
    if not math.isfinite(price):
        raise ValueError(f"{instrument.symbol}: price must be a finite number, got {price!r}")
    step = price_step(instrument)
    steps = price / step
    if rounding == "down":
        whole = math.floor(steps + _noise(steps))
    elif rounding == "up":
        whole = math.ceil(steps - _noise(steps))
    else:
        whole = round(steps)
    return round(whole * step, max(decimals_of(step), instrument.digits))


def allowed_fillings(instrument: Instrument) -> tuple[Filling, ...]:
    """Return the fillings a market order may carry.

    Source: MQL5 documentation, order properties. Request and Instant execution take every filling; Market
    takes what the mask names and never RETURN; Exchange takes what the mask names and always RETURN.
    """
    if instrument.execution in {Execution.REQUEST, Execution.INSTANT}:
        return (Filling.FOK, Filling.IOC, Filling.RETURN)
    allowed = []
    if instrument.filling_mask & FillingFlag.FOK:
        allowed.append(Filling.FOK)
    if instrument.filling_mask & FillingFlag.IOC:
        allowed.append(Filling.IOC)
    if instrument.execution == Execution.EXCHANGE:
        allowed.append(Filling.RETURN)
    return tuple(allowed)


def choose_filling(instrument: Instrument, *, pending: bool = False, preferred: Filling | None = None) -> Filling:
    """Return the filling an order shall carry.

    A pending order takes RETURN whatever the execution (BOC when preferred and allowed by the mask). A market
    order takes `preferred` where it is allowed, else the first allowed of FOK, IOC, RETURN: an order that is
    filled whole or not at all is the easiest to account for.

    Raises:
        FillingError: the symbol allows none (Market execution with neither FOK nor IOC in its mask).
    """
    if pending:
        boc_allowed = bool(instrument.filling_mask & FillingFlag.BOC)
        return Filling.BOC if preferred is Filling.BOC and boc_allowed else Filling.RETURN
    allowed = allowed_fillings(instrument)
    if not allowed:
        raise FillingError(
            f"{instrument.symbol}: market execution with filling mask {instrument.filling_mask} allows "
            "neither FOK nor IOC, so no market order can be sent: ask the broker which filling it takes"
        )
    return preferred if preferred in allowed else allowed[0]
