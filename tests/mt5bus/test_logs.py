"""JSON logs: fields, days, secrets, lost records."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mt5bus import logs
from mt5bus.home import Home
from mt5bus.logs import DailyFile, JsonFormatter
from mt5bus.secret import MASK, Secret
from tests.held import held


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers = []
    yield Home(tmp_path)
    logs.shutdown()
    root.handlers = before
    root.setLevel(level)


def records(home: Home) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for path, _ in logs.log_files(home.logs):
        lines += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return lines


def test_a_record_is_a_line_with_its_fields(home: Home) -> None:
    logs.setup("adapter", home)
    logging.getLogger("x.y").warning("gap of %d", 3, extra={"symbol": "EURUSD", "detail": {"a": [1]}, "node": "mine"})
    (record,) = records(home)
    assert record["event"] == "gap of 3"
    assert (record["level"], record["node"], record["logger"]) == ("warning", "adapter", "x.y")
    assert (record["symbol"], record["detail"], record["node_"]) == ("EURUSD", {"a": [1]}, "mine")
    assert datetime.fromisoformat(record["time"]).tzinfo is UTC


def test_the_level_is_the_least_kept(home: Home) -> None:
    logs.setup("adapter", home, level="warning")
    logging.getLogger("x").info("no")
    logging.getLogger("x").error("yes")
    assert [record["event"] for record in records(home)] == ["yes"]


def test_no_secret_reaches_a_line(home: Home) -> None:
    formatter = logs.setup("adapter", home, secrets=[Secret("ca'na\"ry-1")])
    formatter.hide(Secret("canary-2"))
    try:
        int("with canary-2 inside")
    except ValueError:
        logging.getLogger("x").exception("said ca'na\"ry-1", extra={"f": ["ca'na\"ry-1"], "object": Path("canary-2")})
    text = (home.logs / f"adapter-{datetime.now(UTC).date()}.jsonl").read_text(encoding="utf-8")
    assert "canary-2" not in text
    (record,) = records(home)
    assert record["event"] == "said ********"
    assert record["f"] == ["********"]
    assert "Traceback" in record["error"]


def test_a_new_day_is_a_new_file_and_old_files_go(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
    (tmp_path / "node-2026-01-01.jsonl").touch()
    (tmp_path / "node-2026-01-25.jsonl").touch()
    (tmp_path / "node-b-2026-01-01.jsonl").touch()
    handler = DailyFile(tmp_path, "node", keep_days=7, now=lambda: now)
    handler.setFormatter(JsonFormatter("node"))
    handler.handle(logging.makeLogRecord({"msg": "one", "levelname": "INFO"}))
    now += timedelta(minutes=2)
    handler.handle(logging.makeLogRecord({"msg": "two", "levelname": "INFO"}))
    handler.close()
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [
        "node-2026-01-25.jsonl",
        "node-2026-01-31.jsonl",
        "node-2026-02-01.jsonl",
        "node-b-2026-01-01.jsonl",
    ]


def test_what_cannot_be_written_is_counted_and_told_later(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    handler = DailyFile(folder, "node")
    handler.setFormatter(JsonFormatter("node"))
    for n in range(3):
        handler.handle(logging.makeLogRecord({"msg": f"lost {n}", "levelname": "INFO"}))
    assert handler.dropped == 3
    folder.mkdir()
    handler.handle(logging.makeLogRecord({"msg": "kept", "levelname": "INFO"}))
    handler.close()
    ((path, _),) = logs.log_files(folder)
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (first["event"], first["count"]) == ("log records were lost", 3)
    assert second["event"] == "kept"


def test_a_lone_surrogate_does_not_lose_the_record(home: Home) -> None:
    logs.setup("adapter", home)
    logging.getLogger("x").error("name %s", "a\udc80b")
    assert [record["event"] for record in records(home)] == ["name a\\udc80b"]


def test_a_crash_leaves_its_last_words_in_a_file(home: Home) -> None:
    logs.setup("adapter", home)
    assert (home.logs / "adapter-faults.txt").exists()


def test_a_secret_that_is_hidden_again_and_again_is_held_once() -> None:
    formatter = JsonFormatter("link")
    for _ in range(100):
        formatter.hide(Secret("canary"))
    formatter.hide(Secret("other"))
    assert held(formatter) == 2
    line = formatter.format(logging.LogRecord("x", logging.INFO, "", 0, "canary and other", (), None))
    assert json.loads(line)["event"] == f"{MASK} and {MASK}"
