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


@pytest.fixture(scope="module")
def links_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Return links that the tests of a module share; use it through `attached`."""
    made = Rig(tmp_path_factory.mktemp("links"))
    made.start()
    yield made
    made.close()


@pytest.fixture
def attached(links_of_the_module: Rig) -> Rig:
    """Return attached links for a test that ends none of them and leaves no call behind."""
    links_of_the_module.renew()
    return links_of_the_module
