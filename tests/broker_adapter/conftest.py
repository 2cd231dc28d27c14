"""Fixtures of the adapter's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.rig import Rig
from tests.broker_adapter.served import Requests


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return an order desk on a hedging account of the fake broker, ready for orders."""
    it = World(tmp_path).ready()
    yield it
    it.close()


@pytest.fixture
def requests(world: World) -> Requests:
    """Return the requests of the orders socket, served from the world's desk."""
    return Requests().serve(world)


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
