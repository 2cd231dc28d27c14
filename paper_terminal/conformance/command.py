"""The suite from the command line."""

from __future__ import annotations

import importlib
from typing import Any

from paper_terminal.conformance.runner import Difference, Report, run_suite
from paper_terminal.conformance.safe import SAFE_CASES
from paper_terminal.conformance.trading import TRADING_CASES

USUAL_MODULE = "paper_terminal.client"


class NotReady(Exception):
    """The suite cannot begin; the text says why and what to do."""


def conform(module: str, *, path: str, symbol: str, trading: bool) -> Report:
    """Import a module, connect it, run the cases and disconnect.

    Raises:
        NotReady: no such module, no terminal, no such symbol, or trading asked for on a real account.
    """
    try:
        api: Any = importlib.import_module(module)
    except ImportError as error:
        raise NotReady(f"{module} cannot be imported: {error}") from error
    if not (api.initialize(path) if path else api.initialize()):
        raise NotReady(f"{module} does not connect: {api.last_error()}; start the terminal and log in, or give --path")
    try:
        if not api.symbol_select(symbol, True) or api.symbol_info_tick(symbol) is None:
            raise NotReady(f"{symbol} has no prices here: name another with --symbol")
        return run_suite(api, (*SAFE_CASES, *TRADING_CASES), symbol=symbol, trading=trading)
    except Difference as difference:
        raise NotReady(str(difference)) from difference
    finally:
        api.shutdown()
