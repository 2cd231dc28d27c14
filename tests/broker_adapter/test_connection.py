"""Attaching, losing, coming back and keeping to one account, on real links with the fake API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.attachment import TABLE, Attachment, Step, after
from broker_adapter.connection import Connection
from broker_adapter.link_messages import Call, LinkRole, Send
from broker_adapter.link_results import LinkResult
from broker_adapter.outcomes import judge
from broker_adapter.retcodes import Verdict
from mt5bus.secret import Secret
from protocol.errors import CircuitOpen, NotReady
from tests.broker_adapter.fake_api import filled
from tests.broker_adapter.rig import Rig, fake_settings


class ConnectionRig(Rig):
    """A rig with a connection."""

    def __init__(self, folder: Path, **terminal: Any) -> None:
        settings = fake_settings(**terminal)
        tuning = msgspec.structs.replace(
            settings.adapter.connection, retry_delay_s=0.05, retry_delay_max_s=0.1, health_check_interval_s=0.1
        )
        adapter = msgspec.structs.replace(settings.adapter, connection=tuning)
        super().__init__(folder, msgspec.structs.replace(settings, adapter=adapter))
        self.connection = Connection(self.loop, self.links, self.settings, path=str(self.folder))

    def until_state(self, state: str) -> None:
        """Turn until the connection is in `state`."""
        self.until(lambda: self.connection.state == state, what=f"{state}, not {self.connection.state}")


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[ConnectionRig]:
    """Return an attached connection."""
    rig = ConnectionRig(tmp_path)
    rig.links.start()
    rig.until_state("attached")
    rig.until(lambda: all(rig.connection.attached(role) for role in LinkRole))
    yield rig
    rig.close()


def test_the_table_ends_in_every_state_and_ignores_late_news() -> None:
    assert set(TABLE.values()) == set(Attachment)
    assert after(Attachment.DOWN, Step.SUCCEEDED) is Attachment.DOWN
    assert all(TABLE[state, Step.LOST] is Attachment.DOWN for state in set(Attachment) - {Attachment.DOWN})


def test_every_link_attaches_and_the_account_is_pinned(connected: ConnectionRig) -> None:
    identity = connected.connection.identity
    assert identity is not None
    assert (identity.login, identity.server, identity.data_path) == (1001, "Fake-Server", str(connected.folder))
    assert len(set(connected.calls("initialize"))) == 3
    assert not connected.calls("login")


def test_one_shared_link_is_attached_once_for_all_roles(tmp_path: Path) -> None:
    rig = ConnectionRig(tmp_path, links="shared")
    try:
        rig.links.start()
        rig.until_state("attached")
        assert all(rig.connection.attached(role) for role in LinkRole)
        assert len(rig.calls("initialize")) == 1
    finally:
        rig.close()


def test_a_broken_pipe_on_one_link_attaches_that_link_anew(connected: ConnectionRig) -> None:
    before = connected.calls("initialize")
    bulk = connected.links.pids()[LinkRole.BULK]
    connected.behave({"symbols_total": {"error": [-10_002, "IPC recv failed"]}})
    results: list[LinkResult] = []
    connected.connection.call(LinkRole.BULK, Call("symbols_total"), results.append, deadline_s=5)
    connected.until(lambda: results)
    connected.behave({})
    assert not connected.connection.attached(LinkRole.BULK)
    connected.until(lambda: connected.connection.attached(LinkRole.BULK))
    assert connected.calls("initialize")[len(before) :] == [bulk]
    assert connected.connection.state == "attached"


def test_an_idle_link_notices_a_dead_terminal_by_the_probe(connected: ConnectionRig) -> None:
    connected.behave({"terminal_info": {"error": [-10_001, "IPC send failed"]}})
    connected.until(lambda: not any(connected.connection.attached(role) for role in LinkRole))
    assert isinstance(connected.connection.not_ready(), NotReady)
    connected.behave({})
    connected.until_state("attached")


def test_calls_on_a_detached_link_fail_without_being_sent(tmp_path: Path) -> None:
    rig = ConnectionRig(tmp_path)
    try:
        results: list[LinkResult] = []
        rig.connection.call(LinkRole.FEED, Call("symbols_total"), results.append, deadline_s=5)
        assert not results
        rig.until(lambda: results)
        assert results[0].pipe_broken
    finally:
        rig.close()


def test_failures_open_the_breaker_and_a_reconnect_closes_it(tmp_path: Path) -> None:
    rig = ConnectionRig(tmp_path)
    try:
        rig.behave({"initialize": {"error": [-10_005, "IPC timeout"]}})
        rig.links.start()
        rig.until_state("circuit_open")
        error = rig.connection.not_ready()
        assert isinstance(error, CircuitOpen)
        assert "IPC timeout" in error.text
        rig.behave({})
        rig.connection.reconnect()
        rig.until_state("attached")
        assert rig.connection.breaker == "closed"
    finally:
        rig.close()


def test_the_configured_account_is_logged_in_to_after_a_mismatch_only(tmp_path: Path) -> None:
    rig = ConnectionRig(tmp_path, login=2002, server="Other", password=Secret("pw"))
    try:
        rig.links.start()
        rig.until_state("attached")
        assert rig.calls("login") == [rig.links.pids()[LinkRole.TRADE]]
        identity = rig.connection.identity
        assert identity is not None
        assert identity.login == 2002
    finally:
        rig.close()


def test_a_swapped_account_stops_trading_until_it_is_back(connected: ConnectionRig) -> None:
    account = connected.folder / "account.json"
    account.write_text(json.dumps([3003, "Elsewhere"]), encoding="utf-8")
    assert not connected.connection.note_account(3003, "Elsewhere")
    connected.until_state("wrong_account")
    assert not connected.connection.ready_to_trade
    assert connected.connection.note_account(1001, "Fake-Server")
    connected.until_state("attached")


def test_a_swapped_configured_account_is_logged_in_to_again(tmp_path: Path) -> None:
    rig = ConnectionRig(tmp_path, login=2002, server="Other", password=Secret("pw"))
    try:
        rig.links.start()
        rig.until_state("attached")
        rig.until(lambda: all(rig.connection.attached(role) for role in LinkRole))
        (rig.folder / "account.json").write_text(json.dumps([3003, "Elsewhere"]), encoding="utf-8")
        rig.connection.note_account(3003, "Elsewhere")
        rig.until_state("attached")
        assert json.loads((rig.folder / "account.json").read_text(encoding="utf-8")) == [2002, "Other"]
    finally:
        rig.close()


def test_a_terminal_without_its_broker_is_offline(connected: ConnectionRig) -> None:
    connected.behave({"terminal_info": {"connected": False}})
    connected.until_state("offline")
    connected.behave({})
    connected.until_state("attached")


UNREADABLE = LinkResult("ok", value=b"\xc1")


def answer_unreadably(rig: ConnectionRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every link answer what nobody can read."""

    def call(_role: LinkRole, _command: object, on_result: Callable[[LinkResult], None], *, deadline_s: float) -> None:
        rig.loop.after(0, lambda: on_result(UNREADABLE))

    monkeypatch.setattr(rig.links, "call", call)


def test_an_unreadable_answer_to_an_order_leaves_it_unknown_and_ends_nothing(
    connected: ConnectionRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_unreadably(connected, monkeypatch)
    results: list[LinkResult] = []
    command = Send(filled(ApiTradeRequest, ApiTradeRequest), 1001, "Fake-Server", "", 2**62)
    connected.connection.call(LinkRole.TRADE, command, results.append, deadline_s=5)
    connected.until(lambda: results)
    assert judge(results[0]).verdict is Verdict.OPEN
    assert connected.connection.attached(LinkRole.TRADE)


def test_an_unreadable_sign_of_life_ends_nothing(
    connected: ConnectionRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer_unreadably(connected, monkeypatch)
    connected.until(lambda: "the terminal's state cannot be read" in caplog.text)
    assert connected.connection.state == "attached"


def test_an_unreadable_answer_to_attaching_is_a_failure_to_attach(
    connected: ConnectionRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        answer_unreadably(connected, patch)
        connected.connection.reconnect()
        connected.until_state("circuit_open")
        assert "the terminal returned no Attached" in connected.connection.detail
    connected.connection.reconnect()
    connected.until_state("attached")
