"""Record arrays as pandas DataFrames. pandas is imported when it is asked for: the bus itself does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.ticks import TickArray

if TYPE_CHECKING:
    import pandas as pd


def rates_frame(rates: TickArray) -> pd.DataFrame:
    """Return bars as a table: UTC index ``time`` (open time), columns open, high, low, close, tick_volume, spread
    (points) and real_volume.

    Raises:
        ImportError: pandas is not installed.
    """
    return _frame(rates, rates["time"], "s", leave_out=("time",))


def ticks_frame(ticks: TickArray) -> pd.DataFrame:
    """Return ticks as a table: UTC index ``time`` (milliseconds), columns bid, ask, last, volume, flags, volume_real.

    Raises:
        ImportError: pandas is not installed.
    """
    return _frame(ticks, ticks["time_msc"], "ms", leave_out=("time", "time_msc"))


def _frame(records: TickArray, times: TickArray, unit: str, *, leave_out: tuple[str, ...]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "a DataFrame needs pandas, which is not installed: `pip install pandas`, or use rates() and tick_records(),"
            " which return numpy arrays"
        ) from error
    names = [name for name in records.dtype.names or () if name not in leave_out]
    index = pd.DatetimeIndex(times.astype(f"datetime64[{unit}]"), name="time").tz_localize("UTC")
    return pd.DataFrame({name: records[name] for name in names}, index=index)
