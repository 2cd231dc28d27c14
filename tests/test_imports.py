"""The direction of imports, and that the light packages stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {
    "broker_adapter",
    "market",
    "ml_logger",
    "mt5bus",
    "paper_terminal",
    "protocol",
    "strategy",
    "supervisor",
}
CONFIGURATION = {
    "mt5bus.config",
    "mt5bus.connect",
    "mt5bus.errors",
    "mt5bus.files",
    "mt5bus.handover",
    "mt5bus.home",
    "mt5bus.logs",
    "mt5bus.options",
    "mt5bus.paper",
    "mt5bus.processes",
    "mt5bus.secret",
    "mt5bus.settings",
}
NODES = ("broker_adapter", "ml_logger", "strategy", "supervisor")
HEAVY = {"pandas", "sklearn", "scipy", "pyarrow", "sqlalchemy", "talib"}


def imported_modules(package: str) -> set[str]:
    """Return every dotted module of ours that the package's files import, wherever the statement stands."""
    found: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found.update(names if node.module == "mt5bus" else {node.module})
    return {name for name in found if name.split(".")[0] in OURS - {package}}


def test_market_imports_none_of_ours() -> None:
    assert imported_modules("market") == set()


def test_protocol_imports_only_market() -> None:
    assert {name.split(".")[0] for name in imported_modules("protocol")} <= {"market"}


def test_paper_terminal_knows_nothing_of_the_bus() -> None:
    assert imported_modules("paper_terminal") == set()


@pytest.mark.parametrize("package", NODES)
def test_node_imports_only_the_wire_the_rules_and_the_configuration(package: str) -> None:
    others = {name for name in imported_modules(package) if name.split(".")[0] not in {"market", "protocol"}}
    assert others <= CONFIGURATION


@pytest.mark.parametrize(
    "module", ["protocol.node", "protocol.client", "market", "broker_adapter.node", "supervisor.node", "mt5bus.cli"]
)
def test_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8", cwd=ROOT
    ).stdout.split()
    assert not HEAVY & set(loaded)
