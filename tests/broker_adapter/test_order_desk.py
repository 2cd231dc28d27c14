"""The order desk: every answer there is, repeats, limits, stops, restarts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.link_messages import NO_API, RAISED, Send, SendOutcome
from broker_adapter.link_results import LinkResult
from broker_adapter.retcodes import RETCODES, Verdict
from market.risk import TradingMode
from mt5bus.settings import Risk
from protocol.errors import NotReady
from protocol.messages import (
    AlertEvent,
    ClosePosition,
    DealEvent,
    ModifyPosition,
    OrderReply,
    PositionEvent,
    SubmitOrder,
)
from tests.broker_adapter.fake_broker import EURUSD, World, answered, result


def buy(name: str = "a", volume: float = 0.1, **more: object) -> SubmitOrder:
    return SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", volume, **more)  # type: ignore[arg-type]


def opened(world: World, name: str = "open", volume: float = 0.1) -> int:
    caller = world.ask(buy(name, volume))
    world.settle()
    return caller.outcome.position


def close(position: int, name: str = "close", volume: float = 0.0) -> ClosePosition:
    return ClosePosition(1, name, "confluence", 0, position, volume)


def test_an_order_is_written_down_sent_filled_and_told(world: World) -> None:
    caller = world.ask(buy(sl=1.09, tp=1.12))
    assert not world.link.taken  # not before it is on disk
    world.settle()
    outcome = caller.outcome
    assert (outcome.state, outcome.filled_volume, outcome.fill_price) == ("done", 0.1, 1.1001)
    assert outcome.position == next(iter(world.broker.positions))
    assert world.states("a") == ["intended", "done"]
    assert [event.offset for event in world.published] == list(range(1, len(world.published) + 1))
    deal = next(event.body.deal for event in world.published if isinstance(event.body, DealEvent))
    assert (deal.strategy, deal.client_order_id) == ("confluence", "a")
    assert world.desk.positions[0].client_order_id == "a"
    assert world.desk.counts() == type(world.desk.counts())(1, 1, 0, 0)
    assert not world.desk.in_flight
    kinds = [type(event.body) for event in world.published]
    assert kinds.index(PositionEvent) < len(kinds) - 1  # whoever hears "done" knows the position already


def test_the_same_id_again_gets_the_stored_outcome(world: World) -> None:
    first = world.ask(buy())
    during = world.ask(buy(), 2)
    world.settle()
    after = world.ask(buy(), 3)
    assert first.outcome == during.outcome == after.outcome
    assert [isinstance(c.replies[0], OrderReply) and c.replies[0].repeated for c in (first, during, after)] == [
        False,
        True,
        True,
    ]
    assert [caller.replies[0].id for caller in (first, during, after)] == [1, 2, 3]
    assert world.broker.trades == 1


def test_nobody_is_told_of_an_order_that_is_not_on_disk(world: World) -> None:
    world.ask(buy())
    with pytest.raises(NotReady, match="written down"):  # "not found" would be a licence to send it again
        world.desk.intent("a")
    assert world.desk.intents() == ()
    world.step()
    assert [each.state for each in world.desk.intents()] == ["sent"]
    world.link.execute()
    world.link.answer()
    world.read()
    assert [each.state for each in world.desk.intents()] == ["intended"]  # done, but not on disk
    world.settle()
    assert world.state("a") == "done"


def test_another_order_under_the_same_id_is_refused(world: World) -> None:
    world.ask(buy())
    assert world.ask(buy(volume=0.2)).error.details == {"field": "client_order_id"}
    world.settle()
    assert world.ask(buy(volume=0.2)).error.code == "validation_failed"
    assert world.ask(msgspec.structs.replace(buy(), ttl_ms=9999, id=7)).outcome.state == "done"
    assert world.broker.trades == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", math.nan),
        ("volume", math.inf),
        ("volume", -0.1),
        ("volume", 0.0),
        ("volume", 1e308),
        ("volume", 0.015),
        ("sl", math.nan),
        ("tp", -1.0),
        ("sl", 1e308),
        ("sl", 1.2),
        ("price", math.inf),
        ("symbol", "../../etc"),
        ("symbol", "EUR*"),
        ("side", "both"),
        ("type", "limitless"),
        ("comment", "tab\there"),
        ("comment", "x" * 30),
        ("strategy", "a\x00b"),
        ("deviation_points", -1),
        ("expiration_ms", 2**40),
        ("decided_ms", 2**60),
        ("decided_ms", -5),
        ("ttl_ms", -1),
        ("ttl_ms", 2**62),
    ],
)
def test_hostile_values_are_refused_by_name_and_the_refusal_is_kept(world: World, field: str, value: object) -> None:
    request = msgspec.structs.replace(buy(), **{field: value})
    caller = world.ask(request)
    world.settle()
    assert caller.error.details["field"] == field
    assert world.states("a") == ["refused"]
    again = world.ask(request, 2)
    assert again.error == msgspec.structs.replace(caller.error, id=2)
    assert not world.broker.sent


REFUSALS = [code for code, row in RETCODES.items() if row.verdict is Verdict.REFUSED]
OPEN = [code for code, row in RETCODES.items() if row.verdict is Verdict.OPEN]


@pytest.mark.parametrize("retcode", REFUSALS)
def test_a_definite_refusal_is_told_and_sent_once(world: World, retcode: int) -> None:
    world.link.answers.append(lambda command: answered(SendOutcome(result=result(retcode))))
    caller = world.ask(buy())
    world.settle()
    assert (caller.outcome.state, caller.outcome.code, caller.outcome.retcode) == (
        "rejected",
        "market_refused",
        retcode,
    )
    assert world.states("a") == ["intended", "rejected"]


def no_result(code: int) -> Callable[[Send], LinkResult]:
    return lambda command: answered(SendOutcome(result=None, code=code, text="why"))


DEFINITE: list[Callable[[Send], LinkResult]] = [
    no_result(-2),
    no_result(-8),
    no_result(-10004),
    lambda command: answered(SendOutcome(not_sent="deadline")),
    lambda command: answered(SendOutcome(not_sent="wrong_account")),
    lambda command: answered(SendOutcome(not_sent="not_attached")),
    lambda command: LinkResult("lost", reason="never_sent"),
    lambda command: LinkResult("failed", code=-10004, text="No IPC connection"),
    lambda command: LinkResult("failed", code=NO_API, text="no such module"),
]
AMBIGUOUS: list[Callable[[Send], LinkResult]] = [
    *[lambda command, code=code: answered(SendOutcome(result=result(code))) for code in [*OPEN, 0, 10005, 99999]],
    no_result(-10002),
    no_result(-10000),
    no_result(-10001),
    no_result(-1),
    no_result(RAISED),
    lambda command: LinkResult("lost", reason="timeout", was_sent=True),
    lambda command: LinkResult("lost", reason="died", was_sent=True),
    lambda command: LinkResult("failed", code=RAISED, text="boom"),
    lambda command: LinkResult("ok", value=b"\xc1 not messagepack"),
    lambda command: LinkResult("ok", value=b"\xc0"),
]


@pytest.mark.parametrize("answer", DEFINITE)
def test_what_never_left_is_rejected(world: World, answer: Callable[[Send], LinkResult]) -> None:
    world.link.answers.append(answer)
    caller = world.ask(buy())
    world.settle()
    assert caller.outcome.state == "rejected"
    assert world.ask(buy("b")).replies == []  # and the symbol stays open for business


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("answer", AMBIGUOUS)
def test_an_answer_that_proves_nothing_is_unknown_until_evidence(
    world: World, answer: Callable[[Send], LinkResult], *, executed: bool
) -> None:
    def ambiguous(command: Send) -> LinkResult:
        if executed:
            world.broker.execute(command.request)
        return answer(command)

    world.link.answers.append(ambiguous)
    caller = world.ask(buy())
    while not world.states("a")[1:]:
        assert world.step()
    assert caller.outcome.state == "unknown"
    assert caller.outcome.code == "unknown_outcome"
    world.settle()
    if executed:
        assert world.state("a") == "done"
        found = world.desk.intent("a")
        assert found is not None
        assert (found.filled_volume, found.position) == (0.1, next(iter(world.broker.positions)))
        return
    blocked = world.ask(buy("b"))
    world.settle()
    assert blocked.error.details["limit"] == "unknown_outcome"
    world.wait(118)
    assert world.state("a") == "unknown"
    world.wait(4)
    assert world.state("a") == "not_executed"
    caller = world.ask(buy("c"))
    world.settle()
    assert caller.outcome.state == "done"
    assert world.broker.trades == 1


@pytest.mark.parametrize("fills", [True, False])
def test_placed_is_done_when_the_fill_shows_else_unknown(world: World, *, fills: bool) -> None:
    world.broker.fills = False
    caller = world.ask(buy())
    world.settle()
    assert caller.replies == []
    assert world.desk.in_flight
    if fills:
        world.broker.fill_late()
    world.wait(3)
    assert caller.outcome.state == ("done" if fills else "unknown")


def test_an_id_that_is_used_again_after_its_days_is_told_again(world: World) -> None:
    opened(world, "a")
    world.crash()
    world.clock.advance((world.settings.adapter.ids_kept_days + 1) * 86_400)
    world.restart()
    world.ready()
    assert world.desk.intent("a") is None
    assert world.ask(buy("a")).replies == []
    world.settle()
    assert world.states("a") == ["intended", "done"] * 2


def test_a_read_that_spans_a_sleep_of_the_machine_proves_no_unbroken_connection(world: World) -> None:
    world.link.answers.append(world.link.lost_before)
    world.ask(buy())
    world.settle()
    begun = world.broker.read()
    world.clock.advance(600)  # asked before the sleep, answered after it
    world.desk.on_read(msgspec.structs.replace(begun, finished_ns=world.clock.monotonic_ns()))
    world.settle()
    world.wait(100)
    assert world.state("a") == "unknown"
    world.wait(30)
    assert world.state("a") == "not_executed"


def test_a_late_fill_after_not_executed_is_alerted(world: World) -> None:
    world.broker.fills = False
    world.link.answers.append(world.link.lost_after)
    world.ask(buy())
    world.settle()
    world.wait(125)
    assert world.state("a") == "not_executed"
    world.broker.fill_late()
    world.wait(2)
    assert world.states("a") == ["intended", "unknown", "not_executed", "done"]
    alerts = [event.body for event in world.published if isinstance(event.body, AlertEvent)]
    assert [alert.code for alert in alerts] == ["late_fill"]


def test_time_without_a_connection_does_not_count(world: World) -> None:
    world.link.answers.append(world.link.lost_before)
    world.ask(buy())
    world.settle()
    world.wait(100)
    world.broker.connected = False
    world.wait(100)
    world.broker.connected = True
    world.wait(100)
    assert world.state("a") == "unknown"
    alerts = [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]
    assert alerts == ["order_unknown"]
    world.wait(30)
    assert world.state("a") == "not_executed"


def test_reads_that_stop_break_the_connection(world: World) -> None:
    world.link.answers.append(world.link.lost_before)
    world.ask(buy())
    world.settle()
    world.clock.advance(300)  # nothing is known of this time
    world.read()
    world.settle()
    assert world.state("a") == "unknown"


def test_history_that_is_not_complete_proves_nothing(world: World) -> None:
    world.link.answers.append(world.link.lost_before)
    world.ask(buy())
    world.settle()
    for _ in range(300):
        world.clock.advance(1)
        short = msgspec.structs.replace(world.broker.read(), history_from_ms=world.clock.wall_ms() - 1000)
        world.desk.on_read(short)
        world.settle()
    assert world.state("a") == "unknown"


def test_another_account_is_no_evidence(world: World) -> None:
    world.link.answers.append(world.link.lost_after)
    world.ask(buy())
    while not world.link.execute():
        assert world.step()
    world.broker.login = 2002
    hidden, world.broker.positions = world.broker.positions, {}
    world.broker.history_hidden = True
    world.settle()
    world.wait(300)
    assert world.state("a") == "unknown"
    world.broker.login, world.broker.positions, world.broker.history_hidden = 1001, hidden, False
    world.wait(2)
    assert world.state("a") == "done"


@pytest.mark.parametrize("magic_too", [False, True])
def test_changed_comments_do_not_matter_and_changed_magic_as_well_is_ambiguous(
    world: World, *, magic_too: bool
) -> None:
    world.broker.changes_comment = True
    world.broker.changes_magic = magic_too
    world.link.answers.append(world.link.lost_after)
    world.ask(buy())
    world.settle()
    assert world.state("a") == ("unknown" if magic_too else "done")
    world.wait(125)
    assert world.state("a") == ("ambiguous" if magic_too else "done")
    alerts = [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]
    assert alerts == (["order_ambiguous"] if magic_too else [])
    assert world.broker.trades == 1


def test_tickets_of_the_answer_are_proof_when_all_marks_are_gone(world: World) -> None:
    world.broker.changes_comment = world.broker.changes_magic = True
    caller = world.ask(buy())
    world.settle()
    assert caller.outcome.state == "done"
    deal = next(event.body.deal for event in world.published if isinstance(event.body, DealEvent))
    assert deal.client_order_id == "a"


def test_a_partial_fill_is_told_as_such(world: World) -> None:
    world.broker.fill_part = 0.5
    caller = world.ask(buy(volume=0.2))
    world.settle()
    assert (caller.outcome.state, caller.outcome.filled_volume) == ("done", 0.1)


def test_nothing_is_sent_after_its_time_to_live(world: World) -> None:
    slow = world.ask(buy("slow"))
    late = world.ask(msgspec.structs.replace(buy("late"), ttl_ms=500))
    while not world.link.taken:
        world.step()
    world.clock.advance(1)
    world.settle()
    assert slow.outcome.state == "done"
    assert (late.outcome.state, late.outcome.code) == ("rejected", "state_conflict")
    assert "time to live" in late.outcome.text
    assert world.broker.trades == 1


def test_the_time_to_live_counts_from_when_the_order_may_have_come(world: World) -> None:
    fresh = world.ask(msgspec.structs.replace(buy("fresh"), ttl_ms=500), waited_s=0.3)
    stale = world.ask(msgspec.structs.replace(buy("stale"), ttl_ms=500), waited_s=0.6)
    world.settle()
    assert fresh.outcome.state == "done"
    assert (stale.outcome.state, stale.outcome.code) == ("rejected", "state_conflict")
    assert "time to live" in stale.outcome.text
    assert world.broker.trades == 1


def test_closes_whole_and_in_part(world: World) -> None:
    position = opened(world, volume=0.3)
    part = world.ask(close(position, "part", 0.1))
    world.settle()
    assert (part.outcome.state, part.outcome.filled_volume, part.outcome.side) == ("done", 0.1, "sell")
    assert part.outcome.position == position
    rest = world.ask(close(position, "rest"))
    world.settle()
    assert (rest.outcome.state, rest.outcome.volume) == ("done", 0.2)
    assert not world.broker.positions
    world.read()
    world.settle()
    changes = [event.body.change for event in world.published if isinstance(event.body, PositionEvent)]
    assert changes == ["opened", "changed", "closed"]
    missing = world.ask(close(position, "again"))
    world.settle()
    assert missing.error.code == "not_found"


def test_closing_in_flight_and_unknown_never_exceeds_the_position(world: World) -> None:
    position = opened(world, volume=0.3)
    world.link.answers.append(world.link.lost_before)
    world.ask(close(position, "one", 0.2))
    world.settle()
    assert world.state("one") == "unknown"
    too_much = world.ask(close(position, "two", 0.2))
    world.settle()
    assert too_much.error.code == "state_conflict"
    rest = world.ask(close(position, "three", 0.1))  # an exit while another's outcome is unknown
    world.settle()
    assert rest.outcome.state == "done"
    more = world.ask(buy("more"))
    world.settle()
    assert more.error.details["limit"] == "unknown_outcome"


def test_two_closes_at_once_cannot_both_take_the_whole(world: World) -> None:
    position = opened(world)
    first, second = world.ask(close(position, "one")), world.ask(close(position, "two"))
    world.settle()
    assert first.outcome.state == "done"
    assert second.error.code == "state_conflict"
    # And a close is counted until a read that began after it.
    assert world.broker.trades == 2


@pytest.mark.parametrize("executed", [True, False])
def test_a_close_of_unknown_outcome_is_decided_by_the_positions_deals(world: World, *, executed: bool) -> None:
    world.broker.changes_comment = world.broker.changes_magic = True
    position = opened(world)
    world.link.answers.append(world.link.lost_after if executed else world.link.lost_before)
    world.ask(close(position))
    world.settle()
    assert world.state("close") == ("done" if executed else "unknown")
    world.wait(125)
    assert world.state("close") == ("done" if executed else "not_executed")


@pytest.mark.parametrize("executed", [True, False])
def test_a_modification_of_unknown_outcome_is_decided_by_the_values(world: World, *, executed: bool) -> None:
    position = opened(world)
    world.link.answers.append(world.link.lost_after if executed else world.link.lost_before)
    world.ask(ModifyPosition(1, "m", "confluence", 0, position, 1.09, 1.12))
    world.settle()
    assert world.state("m") == ("done" if executed else "unknown")
    if not executed:
        other = world.ask(ModifyPosition(1, "n", "confluence", 0, position, 1.08, 1.12))
        world.settle()
        assert other.error.code == "state_conflict"
    world.wait(125)
    assert world.state("m") == ("done" if executed else "not_executed")


def test_a_modification_is_done_and_no_change_is_done_too(world: World) -> None:
    position = opened(world)
    for name in ("one", "two"):
        caller = world.ask(ModifyPosition(1, name, "confluence", 0, position, 1.09, 1.12))
        world.settle()
        assert caller.outcome.state == "done", caller.replies
    assert (world.broker.positions[position].sl, world.broker.positions[position].tp) == (1.09, 1.12)


def test_missing_stops_are_set_once(world: World) -> None:
    world.broker.drops_stops = True
    caller = world.ask(buy(sl=1.09, tp=1.12))
    world.settle()
    assert caller.outcome.state == "done"
    world.wait(4)
    position = world.broker.positions[caller.outcome.position]
    assert (position.sl, position.tp) == (1.09, 1.12)
    assert [request.action for request in world.broker.sent] == [1, 6]
    world.wait(30)
    assert [request.action for request in world.broker.sent] == [1, 6]
    assert not [event for event in world.published if isinstance(event.body, AlertEvent)]


def test_stops_that_cannot_be_set_are_alerted_once(world: World) -> None:
    world.broker.drops_stops = True
    world.link.answers.append(world.link.normally)
    world.link.answers.append(lambda command: answered(SendOutcome(result=result(10016))))
    world.ask(buy(sl=1.09))
    world.settle()
    world.wait(30)
    alerts = [event.body for event in world.published if isinstance(event.body, AlertEvent)]
    assert [(alert.code, alert.severity) for alert in alerts] == [("stops_missing", "critical")]
    assert world.broker.positions
    assert len(world.broker.sent) == 1


def test_stops_are_checked_after_a_restart_too(world: World) -> None:
    world.broker.drops_stops = True
    caller = world.ask(buy(sl=1.09, tp=1.12))
    world.settle()
    assert caller.outcome.state == "done"
    world.crash()
    world.restart()
    world.ready()
    world.wait(5)
    assert world.broker.positions[caller.outcome.position].sl == 1.09


def test_with_one_fixed_magic_there_is_one_opening_order_on_a_symbol(tmp_path: Path) -> None:
    world = World(tmp_path, fixed_magic=4711).ready()
    world.broker.changes_comment = True
    world.link.answers.append(world.link.lost_after)
    world.ask(buy("a"))
    second = world.ask(buy("b"))
    world.settle()
    assert second.error.code == "state_conflict"
    assert world.state("a") == "done"
    assert world.broker.sent[0].magic == 4711
    world.close()


def test_nothing_is_taken_before_the_account_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.ask(buy()).error.code == "not_ready"
    world.ready()
    caller = world.ask(buy())  # the same id works later
    world.settle()
    assert caller.outcome.state == "done"
    world.broker.connected = False
    world.read()
    world.settle()
    assert world.ask(buy("b")).error.code == "not_ready"
    world.broker.connected = True
    world.read()
    world.attached = False
    assert world.ask(buy("c")).error.code == "not_ready"
    world.attached = True
    world.clock.advance(6)
    assert world.ask(buy("c")).error.code == "not_ready"
    assert world.desk.intent("c") is None
    world.close()


def test_a_mode_that_changes_stops_what_waits(world: World) -> None:
    first, second = world.ask(buy("a")), world.ask(buy("b"))
    while not world.link.taken:
        world.step()
    world.desk.gate.set_mode(TradingMode.REDUCING)
    world.settle()
    assert first.outcome.state == "done"
    assert (second.outcome.state, second.outcome.code) == ("rejected", "risk_refused")


def test_exits_go_before_entries(world: World) -> None:
    position = opened(world)
    world.ask(buy("a"))
    world.ask(buy("b"))
    world.ask(close(position))
    while world.journal.let_through():
        pass
    world.settle()
    assert [request.position for request in world.broker.sent] == [0, 0, position, 0]


def test_limits_count_what_is_on_its_way(tmp_path: Path) -> None:
    world = World(tmp_path, risk=Risk(max_volume_per_symbol=0.25, max_volume_per_order=0.2)).ready()
    assert world.ask(buy("big", 0.3)).replies == []
    world.settle()
    world.ask(buy("a", 0.2))
    refused = world.ask(buy("b", 0.1))
    world.settle()
    assert refused.error.code == "risk_refused"
    assert refused.error.details["limit"] == "volume_per_symbol"
    assert float(refused.error.details["allowed"]) == 0.25
    assert world.states("big") == ["refused"]
    world.close()


def test_a_specification_that_cannot_be_computed_with_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = msgspec.structs.replace(EURUSD, volume_step=0.0, point=0.0, tick_size=0.0)
    monkeypatch.setattr(world, "instrument", lambda _symbol: broken)
    caller = world.ask(buy(sl=1.09))
    world.settle()
    assert caller.error.details["field"] == "symbol"


def test_an_old_copy_of_the_journal_gives_no_number_out_twice(world: World, tmp_path: Path) -> None:
    world.crash()
    copy = tmp_path / "copy"
    shutil.copytree(world.folder, copy)
    world.restart()
    world.ready()
    former = opened(world, "after-the-copy")
    world.crash()
    for file in world.folder.glob("journal.sqlite*"):
        file.unlink()
    shutil.copy(copy / "journal.sqlite", world.folder)
    world.restart()
    world.ready()
    caller = world.ask(buy("after-the-return", 0.2))
    world.settle()
    assert len({request.magic for request in world.broker.sent}) == 2
    assert (caller.outcome.filled_volume, caller.outcome.position != former) == (0.2, True)


def alerts(world: World) -> list[str]:
    return [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]


class SlowBooks:
    """A terminal that answers "done" and shows the fill only later; `tickets`: its answer names them."""

    def __init__(self, world: World, *, tickets: bool) -> None:
        self.world = world
        self.requests: list[ApiTradeRequest] = []
        world.link.answers.append(lambda command: self._answer(command, tickets=tickets))

    def _answer(self, command: Send, *, tickets: bool) -> LinkResult:
        self.requests.append(command.request)
        told = result(10009, command.request)
        if tickets:
            first = self.world.broker.next_ticket
            told = msgspec.structs.replace(told, order=first + 1, deal=first + 2, volume=0.1, price=1.1001)
        return answered(SendOutcome(result=told))

    def show(self) -> None:
        for request in self.requests:
            self.world.broker.deal(request)


@pytest.mark.parametrize("tickets", [True, False])
def test_a_position_that_shows_late_still_gets_its_stops(world: World, tickets: bool) -> None:
    world.broker.drops_stops = True
    terminal = SlowBooks(world, tickets=tickets)
    world.ask(buy(sl=1.09, tp=1.12))
    world.settle()
    world.wait(6)
    terminal.show()
    world.wait(6)
    (position,) = world.broker.positions.values()
    assert (position.sl, position.tp) == (1.09, 1.12)
    found = world.desk.intent("a")
    assert found is not None
    assert (found.state, found.position, found.filled_volume) == ("done", position.identifier, 0.1)


def test_a_filled_order_whose_position_never_shows_is_alerted(world: World) -> None:
    SlowBooks(world, tickets=True)
    world.ask(buy(sl=1.09))
    world.settle()
    world.wait(50)
    assert not alerts(world)
    world.broker.connected = False
    world.wait(30)
    world.broker.connected = True
    world.wait(50)
    assert not alerts(world)  # time without a connection shows nothing
    world.wait(20)
    assert alerts(world) == ["stops_missing"]


def test_done_without_tickets_or_trace_is_unknown(world: World) -> None:
    SlowBooks(world, tickets=False)
    caller = world.ask(buy())
    world.settle()
    world.wait(4)
    assert caller.outcome.state == "unknown"


def test_tickets_of_64_bits_are_told_and_kept(world: World) -> None:
    ticket = opened(world)
    largest = 2**64 - 1
    found = msgspec.structs.replace(world.broker.positions[ticket], ticket=largest, identifier=largest, magic=largest)
    world.broker.positions[largest] = msgspec.structs.replace(found, comment="")
    world.broker.deals.append(msgspec.structs.replace(world.broker.deals[0], ticket=largest, order=largest, magic=0))
    world.wait(1)
    told = [e.body.position.identifier for e in world.published if isinstance(e.body, PositionEvent)]
    assert told == [ticket, largest]
    world.crash()
    world.restart()
    world.ready()
    assert len([e for e in world.published if isinstance(e.body, PositionEvent)]) == 2  # known from before
    caller = world.ask(close(largest))
    world.settle()
    assert caller.outcome.state == "done"


def test_an_answered_order_is_not_in_flight_while_the_account_cannot_be_read(world: World) -> None:
    world.ask(buy())
    assert world.desk.in_flight
    world.journal.let_through()
    assert world.desk.in_flight
    world.link.execute()
    assert world.desk.in_flight
    world.link.answer()
    assert world.desk.in_flight
    world.clock.advance(2.1)
    assert not world.desk.in_flight  # else a terminal that hung right then could never be restarted
