"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code: timing is for the benchmarks.
settings.register_profile("mt5bus", settings(deadline=None))  # the rest as it is, by hand or in CI
settings.load_profile("mt5bus")


def _market_data_folder() -> Path:
    named = os.environ.get("MT5BUS_MARKET_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Return the folder of real market data; skip where it is absent.

    `MT5BUS_MARKET_DATA` names another folder; the default is `shared/data` beside the checkout.
    """
    folder = _market_data_folder()
    if not folder.is_dir():
        pytest.skip(f"no market data at {folder}: set MT5BUS_MARKET_DATA to its folder")
    return folder
