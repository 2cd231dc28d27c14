# ruff: noqa: N999  # the vendor's name
"""`MetaTrader5`, for programs that run on a paper terminal: the name stands for `paper_terminal.client`.

Without a path in `initialize` and without the environment variable `MT5BUS_PAPER_PATH` the user's own paper
terminal is meant; it is started when it does not run.
"""

import sys
from pathlib import Path

# First on the path is this file's folder, not the one the package it belongs to is in.
_PACKAGES = str(Path(__file__).resolve().parents[3])
if _PACKAGES not in sys.path:
    sys.path.append(_PACKAGES)

from paper_terminal import client, scripts  # noqa: E402  # after the path is right

scripts.prepare_default_terminal()
# The module itself, not a copy of its names: what a test replaces in MetaTrader5 is replaced for Buy and Sell too.
client.__name__ = __name__
sys.modules[__name__] = client
