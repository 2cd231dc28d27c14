"""Running the cases and reporting."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from paper_terminal.conformance.flat import Cleaner, NotFlat, stopped_by_signals
from paper_terminal.conformance.questions import QUESTIONS

ACCOUNT_TRADE_MODE_DEMO: Final = 0

Outcome = Literal["same", "different", "answered", "skipped", "broken"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("same", "different", "answered", "skipped", "broken")


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
    path: str = ""
    """What `initialize` is given; '': nothing."""

    def connect(self) -> None:
        """Connect to the terminal again.

        Raises:
            Difference: it does not let us.
        """
        if not self.reconnected():
            raise Difference(f"initialize gave False, {self.api.last_error()}")

    def reconnected(self) -> bool:
        """Connect to the terminal again; tell whether it lets us."""
        return bool(self.api.initialize(self.path) if self.path else self.api.initialize())

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
    settles: str = ""
    """Id of the question it answers; '': it compares with what is known."""


class Result(NamedTuple):
    """What became of a case."""

    name: str
    outcome: Outcome
    detail: str = ""
    settles: str = ""


class Answer(NamedTuple):
    """What became of an open question."""

    id: str
    text: str
    answer: str = ""
    because: str = ""
    """Why it is not settled; '' when it is."""

    def line(self) -> str:
        """Return it as one line."""
        end = f"not settled, because {self.because}" if self.because else f"settled: {self.answer}"
        return f"{self.id}: {self.text}: {end}"


class Report(NamedTuple):
    """What became of all of them."""

    results: tuple[Result, ...]
    module: str = ""
    """Name and version of the module, and the terminal's build."""
    interrupted: bool = False
    not_flat: str = ""
    """What could not be closed or removed; '': nothing was left."""

    def of(self, outcome: Outcome) -> list[Result]:
        """Return the results of one kind."""
        return [each for each in self.results if each.outcome == outcome]

    @property
    def agrees(self) -> bool:
        """Tell whether no case differs or broke, and nothing was left open."""
        return not (self.of("different") or self.of("broken") or self.interrupted or self.not_flat)

    def answers(self) -> list[Answer]:
        """Return what became of every open question."""
        by_question = {each.settles: each for each in self.results if each.settles}
        answers = []
        for question in QUESTIONS:
            result = by_question.get(question.id)
            if result is not None and result.outcome == "answered":
                answers.append(Answer(question.id, question.text, answer=result.detail))
            elif result is not None:
                answers.append(Answer(question.id, question.text, because=f"{result.outcome}: {result.detail}"))
            else:
                because = (
                    question.unsettled or "its case trades or was not reached: run with --trading on a demo account"
                )
                answers.append(Answer(question.id, question.text, because=because))
        return answers

    def lines(self) -> list[str]:
        """Return the report as text."""
        lines = [self.module] if self.module else []
        lines += [f"{each.outcome:9} {each.name}{f': {each.detail}' if each.detail else ''}" for each in self.results]
        lines.append(", ".join(f"{len(self.of(kind))} {kind}" for kind in OUTCOMES))
        lines += ["", "What was not known:", *(each.line() for each in self.answers())]
        if self.interrupted:
            lines.append("Interrupted: the cases after this were not run.")
        if self.not_flat:
            lines.append(f"NOT FLAT: {self.not_flat}. Close it by hand in the terminal.")
        return lines

    def as_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(
            {
                "module": self.module,
                "agrees": self.agrees,
                "interrupted": self.interrupted,
                "not_flat": self.not_flat,
                "cases": [each._asdict() for each in self.results],
                "questions": [each._asdict() | {"settled": not each.because} for each in self.answers()],
            },
            indent=2,
        )


def run_suite(
    api: Any, cases: Iterable[Case], *, symbol: str, trading: bool = False, path: str = "", module: str = ""
) -> Report:
    """Run cases on a connected module; those that trade only with `trading`, and on demonstration accounts only.

    After every case that trades, also a failed or interrupted one, what it left open is closed and removed.

    Raises:
        Difference: trading is asked for on an account that is no demonstration account, or that has positions or
            orders of the symbol already.
    """
    context = Context(api, symbol, path)
    chosen = [each for each in cases if trading or not each.trades]
    cleaner = _cleaner(context) if trading else None
    return _run_all(context, chosen, cleaner, module)


def _cleaner(context: Context) -> Cleaner:
    account = context.api.account_info()
    if account is None or account.trade_mode != ACCOUNT_TRADE_MODE_DEMO:
        raise Difference("trading cases run on demonstration accounts only")
    if context.api.positions_get(symbol=context.symbol) or context.api.orders_get(symbol=context.symbol):
        raise Difference(f"{context.symbol} has positions or orders already: name another symbol, or close them")
    return Cleaner(context.api, context.symbol, account.login, connect=context.reconnected)


def _run_all(context: Context, cases: Sequence[Case], cleaner: Cleaner | None, module: str) -> Report:
    results: list[Result] = []
    interrupted, not_flat = False, ""
    with stopped_by_signals():
        try:
            for case in cases:
                _run_cleanly(case, context, cleaner, results)
        except NotFlat as left:  # what follows would trade on top of it
            not_flat = str(left)
        except KeyboardInterrupt:
            interrupted = True
        if cleaner is not None:
            not_flat, stopped = _last_look(cleaner)
            interrupted |= stopped
    return Report(tuple(results), module, interrupted, not_flat)


def _run_cleanly(case: Case, context: Context, cleaner: Cleaner | None, results: list[Result]) -> None:
    if cleaner is None or not case.trades:
        results.append(_run(case, context))
        return
    cleaner.require_same_account()
    try:
        results.append(_run(case, context))
    finally:
        cleaner.flatten()


def _last_look(cleaner: Cleaner) -> tuple[str, bool]:
    """Return what is left open, and whether somebody has asked to stop meanwhile."""
    try:
        cleaner.flatten(last=True)
    except NotFlat as left:
        return str(left), False
    except KeyboardInterrupt:
        return "", True
    return "", False


def _run(case: Case, context: Context) -> Result:
    try:
        answer = case.run(context)
    except Difference as difference:
        return Result(case.name, "different", str(difference), case.settles)
    except Skipped as skipped:
        return Result(case.name, "skipped", str(skipped), case.settles)
    except Exception:  # a case that fails otherwise is one finding among many, told with its place
        place = traceback.format_exc(limit=-1).strip().replace("\n", " | ")
        return Result(case.name, "broken", place, case.settles)
    return Result(case.name, "same" if answer is None else "answered", answer or "", case.settles)
