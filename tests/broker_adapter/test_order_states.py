"""The state table: what it allows, what it must never allow, and that the document shows it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from broker_adapter.order_states import (
    DURABLE,
    FINAL,
    OPEN,
    TRANSITIONS,
    UNDECIDED,
    State,
    after_restart,
    check,
    drawing,
    may_follow,
)
from broker_adapter.retcodes import NO_RESULT, RETCODES, Verdict, meaning_of, meaning_of_no_result
from protocol.errors import UnknownOutcome


def test_every_state_is_reached_and_every_unfinished_one_can_end() -> None:
    after = defaultdict(set)
    for row in TRANSITIONS:
        after[row.before].add(row.after)
    assert {row.after for row in TRANSITIONS} | {State.RECEIVED} == set(State)
    for state in OPEN | UNDECIDED:
        assert after[state], state
    assert set(State) == FINAL | OPEN | UNDECIDED


def test_a_refused_rejected_or_done_order_never_becomes_undecided_again() -> None:
    for before in FINAL:
        for after in OPEN | UNDECIDED:
            assert not may_follow(before, after)


def test_only_evidence_an_operator_or_a_definite_answer_claims_that_nothing_happened() -> None:
    rows = {row.before: row.reason for row in TRANSITIONS if row.after is State.NOT_EXECUTED}
    assert set(rows) == {State.UNKNOWN, State.AMBIGUOUS}
    assert rows[State.AMBIGUOUS] == "the operator says so"
    assert not may_follow(State.INTENDED, State.NOT_EXECUTED)
    assert not may_follow(State.SENT, State.NOT_EXECUTED)


def test_a_step_outside_the_table_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="cannot go from done to sent"):
        check(State.DONE, State.SENT)


def test_a_restart_takes_everything_in_flight_for_unknown() -> None:
    assert {state for state in State if after_restart(state) is State.UNKNOWN} == OPEN | {State.UNKNOWN}
    assert set(State) - {State.RECEIVED, State.SENT} == DURABLE


AMBIGUOUS_ANSWERS = {10008, 10011, 10012, 10023, 10028, 10031, 10039}


def test_every_retcode_that_proves_nothing_is_unknown() -> None:
    for code in range(20_000):
        verdict = meaning_of(code).verdict
        if code in AMBIGUOUS_ANSWERS or code not in RETCODES:
            assert verdict in {Verdict.OPEN, Verdict.PLACED}, code
            assert meaning_of(code).error is UnknownOutcome
        else:
            assert verdict in {Verdict.REFUSED, Verdict.DONE, Verdict.NO_CHANGE}, code


@pytest.mark.parametrize("code", [-10002, -10000, -10001, -1, -3, -10005, -20003, 1, 0, 12345])
def test_no_result_proves_nothing_unless_the_code_says_so(code: int) -> None:
    assert meaning_of_no_result(code).verdict is Verdict.OPEN


@pytest.mark.parametrize("code", [-2, -7, -8, -10004])
def test_no_result_with_a_definite_code_is_a_refusal(code: int) -> None:
    assert meaning_of_no_result(code).verdict is Verdict.REFUSED


def test_the_document_shows_the_tables() -> None:
    text = (Path(__file__).parents[2] / "docs" / "orders.md").read_text(encoding="utf-8")
    for row in TRANSITIONS:
        assert f"| {row.before} | {row.after} | {row.reason} |" in text
    assert f"```mermaid\n{drawing()}\n```" in text
    for code, meaning in {**RETCODES, **NO_RESULT}.items():
        assert f"| {code} | {meaning.verdict.name.lower()} | {meaning.text} |" in text, code
