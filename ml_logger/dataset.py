"""One row for each signal: what was seen, what was ordered, what came of it. See docs/dataset.md.

pandas and pyarrow are needed here only; the node never imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Boolean, ColumnElement, Connection, Double, Integer, Select, and_, func, select
from sqlalchemy.types import TypeEngine

from ml_logger import schema
from ml_logger.errors import DatasetError
from ml_logger.store import Store

FORMATS = (".parquet", ".csv")
FEATURE_PREFIX = "f_"

NO_POSITION, OPEN, CLOSED = "none", "open", "closed"

# DEAL_REASON_... of the deal that closed the position.
EXIT_REASONS = {
    0: "client",
    1: "mobile",
    2: "web",
    3: "expert",
    4: "sl",
    5: "tp",
    6: "stop_out",
    7: "rollover",
    8: "variation_margin",
    9: "split",
}
_DEAL_BUY, _DEAL_SELL = 0, 1
_ENTRY_IN = 0
# Volumes are lots on a step of 0.01 or coarser: a smaller remainder is rounding.
_NO_VOLUME = 1e-8

_KEY = ["server", "login", "signal_id"]
_POSITION_KEY = ["server", "login", "position"]
_MONEY = ["profit", "commission", "swap", "fee"]
_OUTCOME = ["open_time", "close_time", "holding_s", "exit_price", *_MONEY, "realised"]

COLUMNS = (
    "server",
    "login",
    "signal_id",
    "strategy",
    "symbol",
    "timeframe",
    "time",
    "bar_open_time",
    "direction",
    "strength",
    "price",
    "taken",
    "reason",
    "model_version",
    "model_score",
    "client_order_id",
    "order_state",
    "order_code",
    "volume",
    "sl",
    "tp",
    "filled_volume",
    "fill_price",
    "slippage",
    "position",
    "outcome",
    *_OUTCOME,
    "exit_reason",
)
"""The columns before the features, in order."""


def check_file(path: Path) -> None:
    """Check that a data set can be written to `path`, before the work is done.

    Raises:
        DatasetError: The ending is neither .parquet nor .csv, or the folder is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise DatasetError(f"{path} ends in {path.suffix or 'nothing'}: give the file the ending .parquet or .csv")
    if not path.absolute().parent.is_dir():
        raise DatasetError(f"there is no folder {path.absolute().parent} for the data set: make it, or name another")


def frame(
    store: Store, *, from_ms: int | None = None, to_ms: int | None = None, strategies: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the data set: `COLUMNS`, then one column ``f_NAME`` for each feature, sorted by time.

    Args:
        from_ms: First signal's market time, UTC milliseconds, inclusive; None for all.
        to_ms: Last signal's, exclusive.
        strategies: Only of these; none named means all.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = _wanted(from_ms, to_ms, strategies)
    with store.reading() as connection:
        signals = _table(connection, _signals_query(wanted))
        features = _table(connection, _features_query(wanted))
        deals = _table(connection, _deals_query())
    signals["position"] = _positions(signals, deals)
    joined = signals.merge(_outcomes(deals), on=_POSITION_KEY, how="left")
    joined = _with_fills(joined, deals)
    joined["outcome"] = joined["outcome"].fillna(NO_POSITION)
    joined["exit_reason"] = joined["exit_reason"].fillna("")
    # 0 is what the wire says for "no model", "no stop" and "no price".
    joined["model_score"] = joined["model_score"].where(joined["model_version"] != "")
    for name in ("sl", "tp"):
        joined[name] = joined[name].where(joined[name] != 0)
    for name, source in (("time", "time_ms"), ("bar_open_time", "bar_open_time_ms")):
        joined[name] = _moments(joined[source])
    joined["position"] = joined["position"].astype("Int64").mask(joined["position"] == 0)
    return joined[list(COLUMNS)].merge(_wide(features), on=_KEY, how="left")


def write(data: pd.DataFrame, path: Path) -> None:
    """Write the data set; the file appears whole or not at all.

    Raises:
        DatasetError: It cannot be written, or the ending is neither .parquet nor .csv.
    """
    check_file(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix.lower() == ".parquet":
            data.to_parquet(draft, engine="pyarrow", index=False)
        else:
            data.to_csv(draft, index=False, encoding="utf-8", lineterminator="\n", date_format="%Y-%m-%dT%H:%M:%S.%fZ")
        draft.replace(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _wanted(from_ms: int | None, to_ms: int | None, strategies: Sequence[str]) -> ColumnElement[bool]:
    signals = schema.signals.c
    conditions: list[ColumnElement[bool]] = [signals.signal_id.is_not(None)]
    if from_ms is not None:
        conditions.append(signals.time_ms >= from_ms)
    if to_ms is not None:
        conditions.append(signals.time_ms < to_ms)
    if strategies:
        conditions.append(signals.strategy.in_(strategies))
    return and_(*conditions)


def _signals_query(wanted: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    signals, intents = schema.signals, schema.intents
    same = and_(
        intents.c.server == signals.c.server,
        intents.c.login == signals.c.login,
        intents.c.client_order_id == signals.c.client_order_id,
        signals.c.client_order_id != "",
    )
    return (
        select(
            *signals.c,
            func.coalesce(intents.c.state, "").label("order_state"),
            func.coalesce(intents.c.code, "").label("order_code"),
            intents.c.volume,
            intents.c.price.label("order_price"),
            intents.c.sl,
            intents.c.tp,
            intents.c.filled_volume,
            intents.c.fill_price,
            func.coalesce(intents.c.position, 0).label("intent_position"),
        )
        .select_from(signals.outerjoin(intents, same))
        .where(wanted)
        .order_by(signals.c.time_ms, signals.c.server, signals.c.login, signals.c.signal_id)
    )


def _features_query(wanted: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    signals, features = schema.signals, schema.signal_features
    same = and_(*(features.c[name] == signals.c[name] for name in _KEY))
    return select(*features.c).select_from(features.join(signals, same)).where(wanted)


def _deals_query() -> Select[tuple[object, ...]]:
    deals = schema.deals
    return (
        select(*deals.c)
        .where(deals.c.position_id != 0, deals.c.type.in_((_DEAL_BUY, _DEAL_SELL)))
        .order_by(deals.c.time_ms, deals.c.ticket)
    )


def _table(connection: Connection, query: Select[tuple[object, ...]]) -> pd.DataFrame:
    """Return the rows with the types that their columns are declared with, also where there are none."""
    types = {column.name: _type(column.type) for column in query.selected_columns}
    return pd.DataFrame.from_records(connection.execute(query).all(), columns=list(types)).astype(types)


def _type(declared: TypeEngine[Any]) -> str:
    if isinstance(declared, Double):
        return "float64"
    if isinstance(declared, Boolean):
        return "bool"
    return "int64" if isinstance(declared, Integer) else "str"


def _moments(milliseconds: pd.Series) -> pd.Series:
    return pd.to_datetime(milliseconds, unit="ms", utc=True).astype("datetime64[ms, UTC]")


def _positions(signals: pd.DataFrame, deals: pd.DataFrame) -> pd.Series:
    """Return the position that each signal's order opened or added to, 0 where there is none.

    The order's own record names it, or, where it was lost or late, the deal that bears the same client order id.
    """
    opening = deals[(deals["entry"] == _ENTRY_IN) & (deals["client_order_id"] != "")]
    by_order = opening.groupby(["server", "login", "client_order_id"])["position_id"].first()
    keys = pd.MultiIndex.from_frame(signals[["server", "login", "client_order_id"]])
    # Never through a float: a ticket may have more digits than one holds.
    from_deals = by_order.reindex(keys, fill_value=0).to_numpy()
    return signals["intent_position"].where(signals["intent_position"] != 0, from_deals)


def _outcomes(deals: pd.DataFrame) -> pd.DataFrame:
    """Return by position whether it is closed, and if so what was realised: the sum over all of its deals.

    Closed means that what was bought and sold is equal and that its opening is on record.
    """
    work = deals.rename(columns={"position_id": "position"})
    work["signed"] = work["volume"].where(work["type"] == _DEAL_BUY, -work["volume"])
    work["entered"] = work["entry"] == _ENTRY_IN
    closing = work[~work["entered"]]
    groups = work.groupby(_POSITION_KEY)
    table = groups.agg(net=("signed", "sum"), entered=("entered", "any"), open_ms=("time_ms", "min"))
    table = table.join(groups[_MONEY].sum())
    ends = closing.assign(turnover=closing["price"] * closing["volume"]).groupby(_POSITION_KEY)
    table = table.join(ends.agg(close_ms=("time_ms", "max"), last_reason=("reason", "last")))
    sums = ends[["turnover", "volume"]].sum()
    table["exit_price"] = sums["turnover"] / sums["volume"]
    closed = table["entered"] & (table["net"].abs() < _NO_VOLUME) & table["close_ms"].notna()
    table["outcome"] = np.where(closed, CLOSED, OPEN)
    table["realised"] = table[_MONEY].sum(axis=1)
    table["open_time"] = _moments(table["open_ms"])
    table["close_time"] = _moments(table["close_ms"])
    table["holding_s"] = (table["close_ms"] - table["open_ms"]) / 1000
    table["exit_reason"] = table["last_reason"].map(EXIT_REASONS).fillna("other")
    # What an open position has booked so far is no outcome.
    unfinished = [name for name in _OUTCOME if name != "open_time"]
    table[unfinished] = table[unfinished].where(closed)
    table["exit_reason"] = table["exit_reason"].where(closed, "")
    return table.reset_index()[[*_POSITION_KEY, "outcome", *_OUTCOME, "exit_reason"]]


def _with_fills(joined: pd.DataFrame, deals: pd.DataFrame) -> pd.DataFrame:
    """Complete fills from the deals and add the slippage: price units, positive is worse than the price decided on."""
    opening = deals[(deals["entry"] == _ENTRY_IN) & (deals["client_order_id"] != "")]
    opening = opening.assign(turnover=opening["price"] * opening["volume"])
    sums = opening.groupby(["server", "login", "client_order_id"])[["turnover", "volume"]].sum()
    keys = pd.MultiIndex.from_frame(joined[["server", "login", "client_order_id"]])
    dealt = sums.reindex(keys).set_index(joined.index)
    for name, from_deals in (
        ("filled_volume", dealt["volume"]),
        ("fill_price", dealt["turnover"] / dealt["volume"]),
    ):
        joined[name] = joined[name].where(joined[name] != 0).fillna(from_deals)
    # A market order names no price: then it is the bid at the decision, so that a buy's slippage holds the spread.
    asked = joined["order_price"]
    reference = asked.where(asked != 0).fillna(joined["price"])
    joined["slippage"] = (joined["fill_price"] - reference) * joined["direction"] + 0.0  # no minus zero
    return joined


def _wide(features: pd.DataFrame) -> pd.DataFrame:
    wide = features.pivot(index=_KEY, columns="name", values="value")
    wide = wide.astype("float64").sort_index(axis=1).add_prefix(FEATURE_PREFIX)
    wide.columns.name = None
    return wide.reset_index()
