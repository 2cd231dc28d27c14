"""Fixtures of the adapter's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_adapter.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return links on the fake API, ready but not attached."""
    made = Rig(tmp_path)
    made.start()
    yield made
    made.close()
