"""The suite from the command line."""

from __future__ import annotations

import importlib
from typing import Any, Final

from paper_terminal.conformance.forms import FORM_CASES
from paper_terminal.conformance.processes import PROCESS_QUESTIONS
from paper_terminal.conformance.runner import Difference, Report, run_suite
from paper_terminal.conformance.safe import SAFE_CASES
from paper_terminal.conformance.safe_questions import SAFE_QUESTIONS
from paper_terminal.conformance.trading import TRADING_CASES
from paper_terminal.conformance.trading_questions import TRADING_QUESTIONS

USUAL_MODULE: Final = "paper_terminal.client"
ALL_CASES: Final = (
    *FORM_CASES,
    *SAFE_CASES,
    *TRADING_CASES,
    *TRADING_QUESTIONS,
    *SAFE_QUESTIONS,
    *PROCESS_QUESTIONS,
)


class NotReady(Exception):
    """The suite cannot begin; the text says why and what to do."""


def conform(module: str, *, path: str, symbol: str, trading: bool) -> Report:
    """Import a module, connect it, run the cases and disconnect.

    Raises:
        NotReady: no such module, no terminal, no such symbol, or trading asked for on a real account or one that has
            positions of the symbol.
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
        build = f"{module} {getattr(api, '__version__', '?')}, terminal build {api.version()[1]}, {symbol}"
        return run_suite(api, ALL_CASES, symbol=symbol, trading=trading, path=path, module=build)
    except Difference as difference:
        raise NotReady(str(difference)) from difference
    finally:
        api.shutdown()
