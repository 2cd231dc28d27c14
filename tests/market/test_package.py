"""The package as others import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import market


def test_every_public_name_exists_once() -> None:
    assert len(set(market.__all__)) == len(market.__all__)
    for name in market.__all__:
        assert hasattr(market, name)


def test_import_is_light() -> None:
    """Supervisor and links import instruments and bars: no numpy, no TA-Lib, no zone data until used."""
    heavy = "{'numpy', 'talib', 'pandas', 'zoneinfo', 'zmq'}"
    program = f"import sys, market; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert done.stdout.strip() == "[]"
