"""Data sets: what was seen, ordered and realised, in one row for each signal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from ml_logger import dataset
from ml_logger.cli import dataset as command
from ml_logger.rows import Account, Batch
from ml_logger.store import Store, open_store, store_url
from mt5bus.home import Home
from protocol.messages import Deal, EventBody
from protocol.numbering import EventPosition
from tests.ml_logger import facts

ROOT = Path(__file__).resolve().parents[2]
SECOND_MS = 1000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with open_store(store_url("", home.store)) as opened:
        yield opened


def record(store: Store, *bodies: EventBody, deals: tuple[Deal, ...] = ()) -> None:
    batch = Batch("main")
    number = store.enter_log("main", EventPosition(facts.LOG, 0))
    for offset, body in enumerate(bodies, 1):
        batch.add_event(facts.event(offset, body, market_ms=facts.NOW_MS + offset * SECOND_MS), number)
    batch.add_deals(Account(facts.SERVER, facts.LOGIN), deals)
    store.write(batch)


def only(store: Store) -> pd.Series:
    data = dataset.frame(store)
    assert len(data) == 1
    return data.iloc[0]


def opened(ticket: int, position: int, client_order_id: str, *, volume: float = 0.1, price: float = 1.1) -> Deal:
    return facts.deal(
        ticket,
        position=position,
        volume=volume,
        price=price,
        commission=-0.35,
        time_ms=facts.NOW_MS + SECOND_MS,
        client_order_id=client_order_id,
    )


def closed(
    ticket: int, position: int, *, profit: float, at_s: int, volume: float = 0.1, reason: int = 3, price: float = 1.11
) -> Deal:
    return facts.deal(
        ticket,
        position=position,
        entry=1,
        type_=1,
        volume=volume,
        price=price,
        profit=profit,
        commission=-0.35,
        swap=-0.1,
        fee=-0.05,
        reason=reason,
        time_ms=facts.NOW_MS + at_s * SECOND_MS,
    )


def test_taken_signal_has_its_order_and_its_outcome(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1", price=1.1),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1002),
        deals=(opened(1, 41, "o1"), closed(2, 41, profit=10.0, at_s=61, reason=5)),
    )
    row = only(store)
    assert (row["order_state"], row["fill_price"], row["position"]) == ("done", 1.1002, 41)
    assert row["slippage"] == pytest.approx(0.0002)
    assert (row["outcome"], row["exit_reason"], row["holding_s"]) == ("closed", "tp", 60.0)
    assert (row["profit"], row["commission"], row["swap"], row["fee"]) == (10.0, -0.7, -0.1, -0.05)
    assert row["realised"] == pytest.approx(9.15)
    assert row["exit_price"] == pytest.approx(1.11)
    assert row["close_time"] == pd.Timestamp(facts.NOW_MS + 61_000, unit="ms", tz="UTC")
    assert (row["f_atr"], row["f_rsi"]) == (0.001, 61.5)
    assert math.isnan(row["model_score"]) and math.isnan(row["tp"]) and row["sl"] == 1.05


def test_signal_not_taken_is_there_without_an_outcome(store: Store) -> None:
    record(store, facts.signal("s1", reason="risk_refused"))
    row = only(store)
    assert (row["taken"], row["reason"], row["outcome"], row["order_state"]) == (False, "risk_refused", "none", "")
    assert math.isnan(row["realised"]) and math.isnan(row["fill_price"]) and row["position"] is pd.NA
    assert row["close_time"] is pd.NaT


def test_open_and_partly_closed_positions_have_no_outcome_yet(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1),
        deals=(opened(1, 41, "o1"), closed(2, 41, profit=4.0, volume=0.04, at_s=10)),
    )
    row = only(store)
    assert row["outcome"] == "open"
    assert math.isnan(row["realised"]) and row["exit_reason"] == ""
    assert row["open_time"] == pd.Timestamp(facts.NOW_MS + 1000, unit="ms", tz="UTC")


def test_partial_closes_are_summed_and_the_last_one_gives_the_reason(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1),
        deals=(
            opened(1, 41, "o1"),
            closed(2, 41, profit=4.0, volume=0.04, at_s=10, price=1.2),
            closed(3, 41, profit=-6.0, volume=0.06, at_s=20, price=1.0, reason=4),
        ),
    )
    row = only(store)
    assert row["outcome"] == "closed" and row["exit_reason"] == "sl"
    assert row["realised"] == pytest.approx(4.0 - 6.0 - 3 * 0.35 - 2 * 0.15)
    assert row["exit_price"] == pytest.approx(1.08)


def test_order_whose_record_is_incomplete_is_told_by_its_deals(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1", direction=-1),
        facts.intent("o1", "unknown", side="sell"),
        deals=(
            opened(1, 41, "o1", volume=0.04, price=1.10),
            opened(2, 41, "o1", volume=0.06, price=1.09),
            closed(3, 41, profit=1.0, at_s=10),
        ),
    )
    row = only(store)
    assert (row["order_state"], row["position"], row["outcome"]) == ("unknown", 41, "closed")
    assert row["filled_volume"] == pytest.approx(0.1)
    assert row["fill_price"] == pytest.approx(1.094)
    assert row["slippage"] == pytest.approx(0.006)  # sold lower than decided on: worse


def test_tickets_of_many_digits_stay_exact(store: Store) -> None:
    position = 2**60 + 1
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=position, filled=0.1, fill_price=1.1),
        facts.signal("s2", client_order_id="o2"),
        deals=(opened(1, position, "o1"), opened(2, position + 2, "o2"), closed(3, position, profit=1.0, at_s=9)),
    )
    data = dataset.frame(store)
    assert data["position"].tolist() == [position, position + 2]
    assert data["outcome"].tolist() == ["closed", "open"]


def test_netting_reversal_closes_when_all_is_bought_and_sold(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1),
        deals=(
            opened(1, 41, "o1"),
            facts.deal(2, position=41, entry=2, type_=1, volume=0.3, profit=5.0, time_ms=facts.NOW_MS + 5000),
            facts.deal(3, position=41, entry=1, type_=0, volume=0.2, profit=-1.0, time_ms=facts.NOW_MS + 9000),
        ),
    )
    row = only(store)
    assert row["outcome"] == "closed"
    assert row["profit"] == pytest.approx(4.0)


def test_position_whose_opening_is_not_on_record_is_not_judged(store: Store) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1),
        deals=(closed(2, 41, profit=4.0, at_s=10),),
    )
    assert only(store)["outcome"] == "open"


def test_one_column_for_each_feature_in_order_and_nan_where_a_signal_lacks_it(store: Store) -> None:
    record(
        store,
        facts.signal("s1", features={"b": 1.0, "a": float("nan")}),
        facts.signal("s2", features={"c": 3.0}),
        facts.signal("s3", features={}),
    )
    data = dataset.frame(store)
    assert list(data.columns) == [*dataset.COLUMNS, "f_a", "f_b", "f_c"]
    assert data["f_b"].iloc[0] == 1.0
    assert data["f_c"].isna().tolist() == [True, False, True]
    assert data["f_a"].isna().all()


def test_range_and_strategies_select(store: Store) -> None:
    record(store, *(facts.signal(f"s{n}", strategy="odd" if n % 2 else "even") for n in range(1, 7)))
    from_ms, to_ms = facts.NOW_MS + 2 * SECOND_MS, facts.NOW_MS + 5 * SECOND_MS
    assert dataset.frame(store, from_ms=from_ms, to_ms=to_ms)["signal_id"].tolist() == ["s2", "s3", "s4"]
    assert dataset.frame(store, strategies=("odd",))["signal_id"].tolist() == ["s1", "s3", "s5"]


def test_empty_store_gives_an_empty_frame_with_all_columns(store: Store) -> None:
    data = dataset.frame(store)
    assert list(data.columns) == list(dataset.COLUMNS)
    assert data.empty


def invoke(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--home", str(home.path), *arguments])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_command_writes_a_file_that_reads_back_equal(store: Store, home: Home, tmp_path: Path, ending: str) -> None:
    record(
        store,
        facts.signal("s1", client_order_id="o1"),
        facts.intent("o1", position=41, filled=0.1, fill_price=1.1002),
        facts.signal("s2"),
        deals=(opened(1, 41, "o1"), closed(2, 41, profit=10.0, at_s=61)),
    )
    out = tmp_path / f"set.{ending}"
    result = invoke(home, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"{out}: 2 signals, 1 taken, 1 with a realised outcome"
    data = dataset.frame(store)
    if ending == "parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(out), data)
    else:
        back = pd.read_csv(out, dtype={"position": "Int64"}, parse_dates=["time", "close_time"])
        assert list(back.columns) == list(data.columns)
        for name in ("realised", "f_rsi", "position", "slippage"):
            pd.testing.assert_series_equal(back[name], data[name])
        assert back["close_time"].iloc[0] == data["close_time"].iloc[0]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [out.name]


def test_command_says_what_is_wrong_in_one_line(home: Home, store: Store, tmp_path: Path) -> None:
    for arguments, text in (
        (("--out", str(tmp_path / "set.xls")), "ending .parquet or .csv"),
        (("--out", str(tmp_path / "absent" / "set.csv")), "there is no folder"),
    ):
        result = invoke(home, *arguments)
        assert result.exit_code == 1
        assert text in result.output
        assert len(result.output.strip().splitlines()) == 1
    empty = Home(tmp_path / "other").create()
    result = invoke(empty, "--out", str(tmp_path / "set.csv"))
    assert result.exit_code == 1
    assert "there is no store" in result.output


def test_documentation_names_every_column() -> None:
    text = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    missing = [name for name in dataset.COLUMNS if f"`{name}`" not in text]
    assert not missing
