"""Every setting has an effect: somebody outside the schema reads it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mt5bus import settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("broker_adapter", "market", "ml_logger", "mt5bus", "protocol", "strategy", "supervisor")


def _fields() -> set[tuple[str, str]]:
    sections = [c for c in vars(settings).values() if isinstance(c, type) and issubclass(c, settings.Section)]
    return {(section.__name__, field) for section in sections for field in section.__struct_fields__}


@pytest.fixture(scope="module")
def attributes() -> set[str]:
    """Return every attribute name that code reads outside the accessors of the schema's own sections."""
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.update(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return found


@pytest.mark.parametrize(("section", "field"), sorted(_fields()))
def test_setting_is_read(attributes: set[str], section: str, field: str) -> None:
    assert field in attributes, f"[{section}] {field} is declared and described but nothing reads it"
