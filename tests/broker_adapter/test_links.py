"""Links as real child processes on a fake API: answers, failures, hangs, deaths, orphans, secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from broker_adapter.api_types import ApiAccount, ApiTerminal, ApiTradeRequest
from broker_adapter.link_list import LinkList
from broker_adapter.link_messages import (
    NO_API,
    RAISED,
    REFUSED,
    Answer,
    Attach,
    Attached,
    Call,
    Clip,
    KeepStops,
    LinkRole,
    PollTrade,
    Send,
    SendOutcome,
    TradePolled,
)
from broker_adapter.link_results import LinkResult
from broker_adapter.links import TURN_BUDGET_S, Links
from mt5bus.processes import ProcessIdentity
from protocol.errors import InitialisationFailed, NoAnswer, NotReady
from tests.broker_adapter.rig import Rig, fake_settings
from tests.waiting import eventually

TRADE, FEED, BULK = LinkRole.TRADE, LinkRole.FEED, LinkRole.BULK


def a_send(rig: Rig, *, ahead_s: float = 10.0, login: int = 1001, clip: Clip | None = None) -> Send:
    request = ApiTradeRequest(action=1, symbol="EURUSD", volume=0.3, type=0, price=1.1, comment="c")
    deadline_ns = rig.loop.clock.monotonic_ns() + round(ahead_s * 1e9)
    return Send(request, login, "Fake-Server", str(rig.folder), deadline_ns, clip)


def test_values_arrive_typed(attached: Rig) -> None:
    account = attached.call(FEED, Call("account_info")).decode(ApiAccount)
    assert (account.login, account.server, account.balance) == (1001, "Fake-Server", 10_000.0)
    assert attached.call(BULK, Call("symbols_total")).decode(int) == 2


def test_three_links_are_three_processes(attached: Rig) -> None:
    assert len(set(attached.links.pids().values())) == 3
    assert all(pid != os.getpid() for pid in attached.links.pids().values())


def test_one_shared_link_plays_all_roles(tmp_path: Path) -> None:
    rig = Rig(tmp_path, fake_settings(links="shared"))
    try:
        rig.start()
        assert len(set(rig.links.pids().values())) == 1
        assert not rig.links.isolated
        rig.attach(TRADE)
        assert rig.call(BULK, Call("symbols_total")).ok
        assert psutil.Process(rig.links.pids()[BULK]).nice() == psutil.Process().nice()
    finally:
        rig.close()


def test_only_the_bulk_link_lets_others_go_first(attached: Rig) -> None:
    """History can wait where ticks and orders cannot; on Windows the priority is a class, elsewhere a number."""
    pids = attached.links.pids()
    assert _level(pids[TRADE]) == _level(pids[FEED]) == _level(os.getpid())
    assert _level(pids[BULK]) == _level(os.getpid()), "what a start needs of it is waited for"
    attached.links.let_history_wait()
    assert _goes_last(pids[BULK])
    attached.links.replace(BULK, "to see the next one")
    attached.until(lambda: attached.links.pids()[BULK] not in {0, pids[BULK]}, what="the next link")
    assert _goes_last(attached.links.pids()[BULK]), "before its imports"


def _level(pid: int) -> int:
    return int(psutil.Process(pid).nice())


def _goes_last(pid: int) -> bool:
    if sys.platform == "win32":
        return _level(pid) == psutil.BELOW_NORMAL_PRIORITY_CLASS
    level = min(_level(os.getpid()) + 10, 19)
    group = Path(f"/proc/{pid}/autogroup")
    # On Linux that weighs session against session the level must be the session's too.
    of_session = int(group.read_text(encoding="ascii").split()[-1]) if group.exists() else level
    return _level(pid) == of_session == level


def test_failure_carries_the_last_error(attached: Rig) -> None:
    attached.behave({"account_info": {"error": [-1, "Terminal: Call failed"]}})
    result = attached.call(FEED, Call("account_info"))
    assert (result.status, result.code, result.text) == ("failed", -1, "Terminal: Call failed")
    with pytest.raises(NoAnswer, match="Call failed"):
        result.decode(ApiAccount)


def test_an_unattached_link_says_so(rig: Rig) -> None:
    result = rig.call(FEED, Call("account_info"))
    assert result.pipe_broken
    assert isinstance(result.error(), NotReady)


def test_what_the_api_raises_is_reported(attached: Rig) -> None:
    attached.behave({"account_info": {"raise": "odd"}})
    result = attached.call(FEED, Call("account_info"))
    assert (result.status, result.code, result.text) == ("failed", RAISED, "RuntimeError: odd")


@pytest.mark.parametrize("function", ["order_send", "shutdown", "login", "Buy", "__import__"])
def test_only_reading_functions_are_called_by_name(attached: Rig, function: str) -> None:
    assert attached.call(TRADE, Call(function)).code == REFUSED


def test_a_missing_api_module_is_a_clear_failure(tmp_path: Path) -> None:
    settings = fake_settings()
    terminal = msgspec.structs.replace(settings.terminal, api="no_such_module")
    rig = Rig(tmp_path, msgspec.structs.replace(settings, terminal=terminal))
    try:
        rig.start()
        result = rig.call(FEED, Call("account_info"))
        assert result.code == NO_API
        assert "no_such_module" in result.text
        assert "no_such_module" in rig.links.problem(FEED)
    finally:
        rig.close()


def test_a_hung_link_is_killed_and_replaced_while_others_serve(rig: Rig) -> None:
    rig.attach()
    rig.behave({"positions_get": {"hang": True, "once": True}})
    hung_pid = rig.links.pids()[BULK]
    results: list[LinkResult] = []
    rig.links.call(BULK, Call("positions_get"), results.append, deadline_s=0.5)
    served = 0
    while not results:
        assert rig.call(FEED, Call("symbols_total")).ok
        served += 1
    assert served > 5
    assert (results[0].status, results[0].reason, results[0].was_sent) == ("lost", "timeout", True)
    assert not psutil.pid_exists(hung_pid)
    rig.until(lambda: rig.links.state(BULK) == "ready")
    assert rig.links.pids()[BULK] not in {0, hung_pid}
    rig.attach(BULK)
    assert rig.call(BULK, Call("positions_get")).ok
    health = {each.role: each for each in rig.links.health()}
    assert (health["bulk"].timeouts, health["bulk"].restarts) == (1, 1)


def test_a_dead_link_loses_its_call_and_fails_the_queue_unsent(rig: Rig) -> None:
    rig.attach()
    rig.behave({"positions_get": {"die": True, "once": True}})
    results: dict[str, LinkResult] = {}
    rig.links.call(BULK, Call("positions_get"), lambda r: results.__setitem__("first", r), deadline_s=10)
    rig.links.call(BULK, Call("symbols_total"), lambda r: results.__setitem__("queued", r), deadline_s=10)
    rig.until(lambda: len(results) == 2)
    assert (results["first"].reason, results["first"].was_sent) == ("died", True)
    assert (results["queued"].reason, results["queued"].was_sent) == ("never_sent", False)


def test_a_queued_call_expires_without_being_sent(rig: Rig) -> None:
    rig.attach()
    rig.behave({"positions_get": {"sleep_s": 1.0}})
    results: dict[str, LinkResult] = {}
    rig.links.call(BULK, Call("positions_get"), lambda r: results.__setitem__("slow", r), deadline_s=10)
    rig.links.call(BULK, Call("symbols_total"), lambda r: results.__setitem__("queued", r), deadline_s=0.2)
    rig.until(lambda: "queued" in results)
    assert "slow" not in results
    assert (results["queued"].reason, results["queued"].was_sent) == ("never_sent", False)
    rig.until(lambda: "slow" in results)
    assert results["slow"].ok
    assert not rig.calls("symbols_total")


def test_an_answer_that_came_while_the_adapter_slept_counts(rig: Rig) -> None:
    """A machine that wakes up finds every deadline passed; what was answered in time must not be killed."""
    rig.attach()
    results: list[LinkResult] = []
    rig.links.call(TRADE, a_send(rig), results.append, deadline_s=0.2)
    eventually(lambda: rig.calls("order_send"), what="the order sent")
    slept_until = time.monotonic() + 1.2
    eventually(lambda: time.monotonic() > slept_until, what="the sleep's end")
    rig.links._tick()  # timers come first, as if the socket's thread had not woken up yet
    rig.until(lambda: results)
    assert results[0].ok
    assert rig.links.state(TRADE) == "ready"


def test_the_queue_is_bounded_and_never_calls_back_at_once(rig: Rig) -> None:
    rig.attach()
    rig.behave({"positions_get": {"sleep_s": 0.5}})
    results: list[LinkResult] = []
    for _ in range(300):
        rig.links.call(BULK, Call("positions_get"), results.append, deadline_s=0.6)
    assert not results
    rig.until(lambda: len(results) == 300)
    assert sum(not r.ok and not r.was_sent for r in results) >= 298


def test_an_order_is_sent_once(attached: Rig) -> None:
    outcome = attached.call(TRADE, a_send(attached)).decode(SendOutcome)
    assert outcome.not_sent == ""
    assert outcome.result is not None
    assert (outcome.result.retcode, outcome.result.request.comment) == (10_009, "c")
    assert outcome.sent_ns <= outcome.done_ns
    assert len(attached.calls("order_send")) == 1


def test_an_order_is_not_sent_late_or_to_another_account(attached: Rig) -> None:
    assert attached.call(TRADE, a_send(attached, ahead_s=-0.001)).decode(SendOutcome).not_sent == "deadline"
    assert attached.call(TRADE, a_send(attached, login=5)).decode(SendOutcome).not_sent == "wrong_account"
    assert not attached.calls("order_send")


def test_an_order_is_not_sent_by_an_unattached_link(rig: Rig) -> None:
    assert rig.call(TRADE, a_send(rig)).decode(SendOutcome).not_sent == "not_attached"


def test_an_exit_is_clipped_to_the_position_as_it_is(attached: Rig) -> None:
    def send() -> SendOutcome:
        return attached.call(TRADE, a_send(attached, clip=Clip(4, "EURUSD"))).decode(SendOutcome)

    assert send().not_sent == "position_gone"
    short = {"ticket": 5, "identifier": 4, "type": 1, "volume": 0.1}
    attached.behave({"positions_get": {"positions": [{**short, "type": 0}]}})
    assert send().not_sent == "position_gone"  # it was reversed: the exit would add to it
    attached.behave({"positions_get": {"positions": [short]}})
    outcome = send()
    assert outcome.volume == 0.1
    assert outcome.result is not None
    assert (outcome.result.request.volume, outcome.result.request.position) == (0.1, 5)
    attached.behave({"positions_get": {"error": [-1, "Terminal: Call failed"]}})
    assert send().not_sent == "position_unreadable"


@pytest.mark.parametrize(("side", "kept"), [(0, (1.09, 1.3)), (1, (0.0, 1.3))])
def test_an_order_that_adds_keeps_the_stops_it_does_not_name(
    attached: Rig, side: int, kept: tuple[float, float]
) -> None:
    attached.behave({"positions_get": {"positions": [{"ticket": 4, "type": side, "sl": 1.09, "tp": 1.2}]}})
    command = a_send(attached)
    request = msgspec.structs.replace(command.request, tp=1.3)
    keep = KeepStops("EURUSD", sl=True, tp=False)
    outcome = attached.call(TRADE, msgspec.structs.replace(command, request=request, keep=keep)).decode(SendOutcome)
    assert outcome.result is not None
    assert (outcome.result.request.sl, outcome.result.request.tp) == kept


@pytest.mark.parametrize("failure", [{"error": [-10_002, "IPC recv failed"]}, {"raise": "odd"}])
def test_a_failed_order_send_never_looks_unsent(attached: Rig, failure: dict[str, object]) -> None:
    attached.behave({"order_send": failure})
    outcome = attached.call(TRADE, a_send(attached)).decode(SendOutcome)
    assert outcome.not_sent == ""
    assert outcome.result is None
    assert outcome.code in {-10_002, RAISED}


def test_login_only_after_a_mismatch(rig: Rig) -> None:
    same = Attach(str(rig.folder), login=1001, password="pw", server="Fake-Server")
    assert not rig.call(TRADE, same).decode(Attached).logged_in
    assert not rig.calls("login")
    attached = rig.call(TRADE, Attach(str(rig.folder), login=2002, password="pw", server="Other")).decode(Attached)
    assert attached.logged_in
    assert attached.account is not None
    assert attached.account.login == 2002


def test_trade_poll_hands_over_the_history_once(attached: Rig) -> None:
    first = attached.call(FEED, PollTrade(1, 2_000_000_000)).decode(TradePolled)
    assert (first.complete, first.more, first.deals) == (True, False, ())
    again = attached.call(FEED, PollTrade(1, 2_000_000_000, first.serial)).decode(TradePolled)
    assert not again.complete
    lost = attached.call(FEED, PollTrade(1, 2_000_000_000, first.serial)).decode(TradePolled)
    assert lost.complete  # an answer that never arrived: everything again


def test_orphans_are_ended_before_anything_else(rig: Rig, tmp_path: Path) -> None:
    pid = rig.links.pids()[TRADE]
    orphan = ProcessIdentity.of(pid)
    another = LinkList(tmp_path / "another")
    another.write([orphan])
    assert another.end_orphans() == 1
    assert not orphan.runs()
    assert another.read() == []


def test_a_second_adapter_leaves_the_links_of_the_first_alone(attached: Rig) -> None:
    pids = attached.links.pids()
    with pytest.raises(InitialisationFailed, match="another adapter"):
        Links(attached.loop, attached.loop.context, attached.settings, home=attached.home)
    assert attached.call(TRADE, Call("version")).ok
    assert attached.links.pids() == pids
    assert {each.pid for each in LinkList(attached.home.adapter).read()} == set(pids.values())


def test_links_are_listed_and_end_with_close(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.start()
    listed = LinkList(rig.home.adapter).read()
    assert {each.pid for each in listed} == set(rig.links.pids().values())
    rig.close()
    assert not any(each.runs() for each in listed)
    assert LinkList(rig.home.adapter).read() == []


def test_the_password_is_visible_nowhere(rig: Rig) -> None:
    canary = "c4n4ry-pässwörd"
    attach = Attach(str(rig.folder), login=2002, password=canary, server="Other")
    assert canary not in repr(attach)
    rig.behave({"login": {"error": [-6, "Terminal: Authorization failed"]}})
    failed = rig.call(TRADE, attach)
    assert failed.code == -6
    rig.behave({"login": {"raise": f"bad {canary}"}})
    raised = rig.call(TRADE, attach)
    assert canary not in repr(failed) + repr(raised) + str(raised.error())
    for pid in rig.links.pids().values():
        process = psutil.Process(pid)
        assert canary not in str(process.cmdline()) + str(process.environ())
    files = [path for path in rig.home.path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert canary.encode() not in path.read_bytes(), path


def test_a_link_ends_with_its_adapter(tmp_path: Path) -> None:
    """An adapter killed without a chance to clean up leaves no link behind."""
    code = (
        "import sys, pathlib\n"
        "from tests.broker_adapter.rig import Rig\n"
        "rig = Rig(pathlib.Path(sys.argv[1]))\n"
        "rig.start()\n"
        "sys.stdout.write('started\\n'); sys.stdout.flush()\n"
        "rig.loop.run()\n"
    )
    folder = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE, cwd=folder
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        listed = LinkList(tmp_path / "x" / "home" / "adapter").read()
        assert len(listed) == 3
        child.kill()
        started = time.monotonic()
        eventually(lambda: not any(each.runs() for each in listed), what="links gone")
        assert time.monotonic() - started < 2


def test_a_link_whose_greeting_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.links.start()
        link = rig.links._by_role[FEED]
        pid = link.pid
        link.on_frame(Answer(0, 1, value=msgspec.Raw(b"\xc1")))
        rig.until(lambda: rig.links.state(FEED) == "ready", what="another link")
        assert rig.links.pids()[FEED] != pid
    finally:
        rig.close()


def test_what_a_page_of_history_holds_waits_for_what_else_came_in_its_turn(attached: Rig) -> None:
    order: list[str] = []
    attached.links.call(BULK, Call("symbols_total"), lambda _result: order.append("bulk"), deadline_s=10)
    attached.links.call(FEED, Call("symbols_total"), lambda _result: order.append("feed"), deadline_s=10)
    answers = {}
    for _ in range(2):
        assert attached.links._socket.poll(10_000)
        parts = attached.links._socket.recv_multipart(copy=False)
        answers[str(parts[-1].get("User-Id")).split("-")[1]] = parts
    for role in ("bulk", "feed"):  # the order in which they would be found
        attached.links._on_parts(answers[role])
    attached.until(lambda: len(order) == 2)
    assert order == ["feed", "bulk"]


def test_a_page_of_a_link_that_is_gone_is_no_answer_of_its_successor(attached: Rig) -> None:
    results: list[LinkResult] = []
    attached.links.call(BULK, Call("symbols_total"), results.append, deadline_s=10)
    assert attached.links._socket.poll(10_000)
    late = attached.links._socket.recv_multipart(copy=False)
    attached.links.replace(BULK, "a test")
    attached.until(lambda: results and attached.links.state(BULK) == "ready")
    assert (results[0].reason, results[0].was_sent) == ("died", True)
    attached.attach(BULK)
    attached.links.call(BULK, Call("terminal_info"), results.append, deadline_s=10)
    attached.links._on_parts(late)  # its serial number is that of the new call
    attached.until(lambda: len(results) == 2)
    assert results[1].decode(ApiTerminal).connected


def test_a_link_that_answers_fast_does_not_keep_a_turn_for_itself(attached: Rig) -> None:
    served: list[LinkResult] = []

    def take(result: LinkResult) -> None:
        served.append(result)
        attached.links.call(FEED, Call("symbols_total"), take, deadline_s=10)
        busy_until = time.monotonic() + 2 * TURN_BUDGET_S  # long enough for the next answer to be there
        while time.monotonic() < busy_until:
            pass

    attached.links.call(FEED, Call("symbols_total"), take, deadline_s=10)
    most = 0
    while len(served) < 10:
        before = len(served)
        attached.loop.turn(20)
        most = max(most, len(served) - before)
    assert most == 1
