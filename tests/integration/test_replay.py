"""A capture of the real system, replayed to the strategy node over real sockets: the same decisions every time."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strategy.replay import decisions, first_difference, logged, replay
from tests.integration.conftest import System

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

CONFIG = """
[bus]
port = PORT

[adapter]
symbols = ["EURUSD", "GBPUSD"]
timeframes = ["S5"]

[[strategy]]
name = "confluence"
class = "strategy.confluence:Confluence"
timeframe = "S5"
number = 1
"""


def played(system: System, capture: Path) -> str:
    """Replay `capture` to a strategy node on a home of its own; return what came back, one JSON line each."""
    results = capture.with_name(f"{system.port}.jsonl")
    replayer = subprocess.Popen(
        system.command("replay", str(capture), "--speed", "max", "--results", str(results)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    node = subprocess.Popen(system.command("strategy"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        output, _ = replayer.communicate(timeout=60)
        assert replayer.returncode == 0, output + system.tail_of_logs()
    finally:
        node.terminate()
        node.wait(10)
        if replayer.poll() is None:
            replayer.kill()
            replayer.communicate()
    return results.read_text(encoding="utf-8")


def ids(results: str) -> list[dict[str, Any]]:
    """Return what identifies each decision: a signal's id and its order's, an order's id and its terms."""
    found = []
    for line in results.splitlines():
        ((kind, body),) = json.loads(line).items()
        keys = ["signal_id", "client_order_id"] if kind == "signal" else ["client_order_id", "symbol", "side", "volume"]
        found.append({"kind": kind, **{key: body[key] for key in keys}})
    return found


def test_two_replays_of_a_real_capture_and_its_dispatch_log_decide_alike(
    tmp_path: Path, make_system: Callable[..., System]
) -> None:
    capture = tmp_path / "confluence.mt5cap"
    capture.write_bytes(base64.b64decode((FIXTURES / "confluence.mt5cap.base64").read_bytes()))
    first, second = make_system(CONFIG), make_system(CONFIG)
    results = played(first, capture)
    assert results == played(second, capture), "two replays of one capture"
    expected = json.loads((FIXTURES / "confluence.decisions.json").read_text(encoding="utf-8"))
    assert ids(results) == expected, "the decisions of the day it was recorded"
    logs = [list(logged(system.home / "strategy" / "confluence")) for system in (first, second)]
    assert logs[0], "the node logged what it dispatched"
    assert list(decisions(logs[0])) == list(decisions(logs[1])), "the dispatch logs of both"
    assert first_difference(logs[0], replay(logs[0])) is None, "the stored dispatch log, dispatched again"
