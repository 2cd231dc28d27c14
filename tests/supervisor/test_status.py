"""The status document: what it says, that it is documented, and how it is shown."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from protocol.messages import (
    AdapterReport,
    Deal,
    LoggerReport,
    OrderCounts,
    Position,
    Quote,
    StrategyReport,
    StreamReport,
)
from supervisor import status, view
from supervisor.status import ProcessStatus, SupervisorStatus, SystemStatus, TerminalStatus

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "status.md"
POSITION = Position(9, 9, "EURUSD", 1, 0.2, 1.1, 1.2, 0.0, 1.09, 3.5, 0.0, 1, "", 3, 5, 5, "confluence", "c-1")
DEAL = Deal(8, 7, 9, "EURUSD", 0, 1, 3, 0.2, 1.1, -2.5, 0.0, 0.0, 0.0, 1, "", 1000, "confluence")
ADAPTER = AdapterReport(
    "attached",
    77,
    "Paper-Demo",
    "USD",
    1000.0,
    1003.5,
    OrderCounts(4, 3, 1, 1),
    (POSITION,) * 10,
    (Quote("EURUSD", 900, 1.09, 1.0901),),
    (DEAL,),
    "reducing",
)


def process(name: str, state: str = "running") -> ProcessStatus:
    return ProcessStatus(
        name=name,
        state=state,
        pid=12,
        uptime_s=3725.0,
        restarts=1,
        pong_age_s=0.2,
        cpu_percent=3.0,
        memory_mb=50.0,
        lag_ms=2.0,
        reason="exit code 7" if state != "running" else "",
    )


@pytest.fixture
def document() -> SystemStatus:
    nodes = (process("adapter"), process("strategy", "backoff"))
    terminal = TerminalStatus(kind="paper", state="running", pid=3)
    return SystemStatus(
        time_ms=2000,
        state=status.system_state(nodes, terminal, stopping=False),
        supervisor=SupervisorStatus(pid=1, uptime_s=9.0, home="/h", config=None, version="1", port=17600),
        nodes=nodes,
        terminal=terminal,
        account=status.account_status(ADAPTER),
        streams=status.stream_status({"strategy": (StreamReport("ticks", 10, 1, 1, 2, 0.5),)}),
        orders=status.orders_status(ADAPTER.orders),
        store=status.store_status(LoggerReport(5, 4, 3, 2, 1)),
        prices=tuple(map(status.price_status, ADAPTER.quotes)),
        positions=tuple(map(status.position_status, ADAPTER.positions)),
        deals=tuple(map(status.deal_status, ADAPTER.last_deals)),
    )


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys(inner)}
    return {key for inner in value for key in keys(inner)} if isinstance(value, list) else set()


def test_every_field_is_documented(document: SystemStatus) -> None:
    named = set(re.findall(r"`([a-z_]+)(?:\[\])?`", DOCUMENTATION.read_text(encoding="utf-8")))
    assert keys(msgspec.to_builtins(document)) <= named


def test_the_document_reads_back_as_it_was(document: SystemStatus) -> None:
    assert msgspec.json.decode(msgspec.json.encode(document), type=SystemStatus) == document


@pytest.mark.parametrize(
    ("states", "terminal", "whole"),
    [
        (["running", "running"], "running", "running"),
        (["running", "running"], "unmanaged", "running"),
        (["starting", "stopped"], "running", "starting"),
        (["running", "backoff"], "running", "degraded"),
        (["running", "running"], "backoff", "degraded"),
        (["running", "failed"], "running", "failed"),
    ],
)
def test_the_state_of_the_whole_is_that_of_its_worst_part(states: list[str], terminal: str, whole: str) -> None:
    nodes = [process("n", state) for state in states]
    found = status.system_state(nodes, TerminalStatus(kind="paper", state=terminal), stopping=False)
    assert found == whole
    assert status.system_state(nodes, TerminalStatus(kind="paper", state=terminal), stopping=True) == "stopping"


def test_a_process_that_is_tried_again_during_the_first_start_is_still_starting() -> None:
    nodes = [process("n", "starting")]
    found = status.system_state(nodes, TerminalStatus(kind="paper", state="backoff"), stopping=False, first_start=True)
    assert found == "starting"


def test_what_is_not_known_is_null_and_not_zero() -> None:
    assert status.account_status(None).balance is None
    unattached = msgspec.structs.replace(ADAPTER, login=0, connection="no_terminal")
    assert status.account_status(unattached).login is None
    assert status.account_status(unattached).connection == "no_terminal"
    assert status.orders_status(None).submitted == 0
    assert status.store_status(None).bars == 0


def test_a_strategy_tells_what_it_did() -> None:
    report = StrategyReport(("s",), 4, 3, warm=False)
    assert status.report_detail(report) == "warming up, 4 signals, 3 orders"
    assert status.report_detail(None) == ""


def test_in_80_columns_only_the_remark_is_cut(document: SystemStatus) -> None:
    node = msgspec.structs.replace(
        process("ml_logger"), pid=1234567, cpu_percent=100.0, memory_mb=1024.0, detail="filling history: 10 to go"
    )
    document = msgspec.structs.replace(document, nodes=(node,))
    console = Console(file=StringIO(), width=80)
    console.print(view.render(document))
    assert isinstance(console.file, StringIO)
    line = next(line for line in console.file.getvalue().splitlines() if line.startswith("ml_logger"))
    assert line.split()[:3] == ["ml_logger", "running", "1234567"]
    assert "100 % 1024 MB f" in line
    assert line.rstrip().endswith("…")


def test_the_view_shows_what_matters(document: SystemStatus) -> None:
    console = Console(file=StringIO(), width=160, force_terminal=False)
    console.print(view.render(document))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    for word in ("degraded", "paper", "1 h 2 m", "exit code 7", "EURUSD", "1,003.50 USD", "and 2 more"):
        assert word in shown
    assert "4 submitted, 3 filled, 1 rejected" in shown


def test_the_view_fits_into_80_columns(document: SystemStatus) -> None:
    console = Console(file=StringIO(), width=80)
    console.print(view.render(document))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    cut = [line for line in lines if "…" in line]
    assert all("exit code" in line or line.startswith("9 ") for line in cut), cut


def test_the_newest_deal_comes_first() -> None:
    older = msgspec.structs.replace(DEAL, ticket=7, time_ms=900)
    assert [deal.ticket for deal in status.newest_deals([older, DEAL])] == [8, 7]


def test_plain_lines_show_the_same(document: SystemStatus) -> None:
    lines = list(view.plain_lines(document))
    assert lines[0].startswith("system degraded: home /h")
    assert "strategy backoff: pid 12, up 1 h 2 m, restarts 1, pong 0.2 s, lag 2 ms" in "\n".join(lines)
    assert "orders: submitted 4, filled 3, rejected 1, unknown 1" in lines
    assert "deal 8 buy out 0.2 EURUSD at 1.1, profit -2.50" in lines
    assert view.summary(document).startswith("degraded: 1 of 2 nodes running, terminal running, equity 1,003.50 USD")


def test_an_empty_document_is_shown_too(document: SystemStatus) -> None:
    empty = msgspec.structs.replace(
        document, account=status.account_status(None), prices=(), positions=(), deals=(), streams=()
    )
    console = Console(file=StringIO(), width=100)
    console.print(view.render(empty))
    assert list(view.plain_lines(empty))
