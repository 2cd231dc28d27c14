"""Running the cases and reporting."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

ACCOUNT_TRADE_MODE_DEMO: Final = 0

Outcome = Literal["same", "different", "answered", "skipped", "broken"]


class Difference(Exception):
    """The module does something else than the facts say; the text tells both."""


class Skipped(Exception):
    """The case cannot be tried here; the text says what is missing."""


class Context(NamedTuple):
    """What a case works with."""

    api: Any
    """The module: `MetaTrader5` or one that stands in for it."""
    symbol: str
    """A liquid symbol in Market Watch."""

    def expect(self, found: object, wanted: object, what: str) -> None:
        """Compare.

        Raises:
            Difference: they are not equal.
        """
        if found != wanted:
            raise Difference(f"{what}: {found!r}, expected {wanted!r}")

    def expect_failure(self, result: object, failure: object, code: int, text: str | None = None) -> None:
        """Compare a failed call's value, and `last_error` right after it.

        Raises:
            Difference: they differ.
        """
        error = self.api.last_error()
        self.expect(result, failure, "returned")
        self.expect(error[0], code, f"last_error code (text {error[1]!r})")
        if text is not None:
            self.expect(error[1], text, "last_error text")


class Case(NamedTuple):
    """One case. One that returns a text answers a question that the facts leave open."""

    name: str
    run: Callable[[Context], str | None]
    trades: bool = False


class Result(NamedTuple):
    """What became of a case."""

    name: str
    outcome: Outcome
    detail: str = ""


class Report(NamedTuple):
    """What became of all of them."""

    results: tuple[Result, ...]

    def of(self, outcome: Outcome) -> list[Result]:
        """Return the results of one kind."""
        return [each for each in self.results if each.outcome == outcome]

    @property
    def agrees(self) -> bool:
        """Tell whether no case differs or broke."""
        return not self.of("different") and not self.of("broken")

    def lines(self) -> list[str]:
        """Return the report as text."""
        lines = [f"{each.outcome:9} {each.name}{f': {each.detail}' if each.detail else ''}" for each in self.results]
        kinds: tuple[Outcome, ...] = ("same", "different", "answered", "skipped", "broken")
        lines.append(", ".join(f"{len(self.of(kind))} {kind}" for kind in kinds))
        return lines


def run_suite(api: Any, cases: Iterable[Case], *, symbol: str, trading: bool = False) -> Report:
    """Run cases on a connected module; those that trade only with `trading`, and on demonstration accounts only.

    Raises:
        Difference: trading is asked for on an account that is no demonstration account.
    """
    account = api.account_info()
    if trading and (account is None or account.trade_mode != ACCOUNT_TRADE_MODE_DEMO):
        raise Difference("trading cases run on demonstration accounts only")
    context = Context(api, symbol)
    return Report(tuple(_run(each, context) for each in cases if trading or not each.trades))


def _run(case: Case, context: Context) -> Result:
    try:
        answer = case.run(context)
    except Difference as difference:
        return Result(case.name, "different", str(difference))
    except Skipped as skipped:
        return Result(case.name, "skipped", str(skipped))
    except Exception:  # a case that fails otherwise is one finding among many, told with its place
        return Result(case.name, "broken", traceback.format_exc(limit=-1).strip().replace("\n", " | "))
    return Result(case.name, "same" if answer is None else "answered", answer or "")
