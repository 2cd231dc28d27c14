"""Saved states: whole or not at all, one for each account."""

from __future__ import annotations

from pathlib import Path

from strategy.dispatch_log import LogPosition
from strategy.inputs import Decision
from strategy.order_ids import AccountKey
from strategy.saved_state import VERSION, SavedState, StateFile
from tests.strategy.samples import START_MS

ACCOUNT = AccountKey("Broker, Inc:Demo", 7)
STATE = SavedState(
    version=VERSION, log_id="log1", event_offset=9, last_bars={"EURUSD": START_MS},
    dispatched=LogPosition("dispatch-2023-11-14.mpk", 77), unsettled=(Decision("submit_order", b"\x90"),),
    state=b"mine",
)  # fmt: skip


def test_state_comes_back(tmp_path: Path) -> None:
    assert StateFile(tmp_path, ACCOUNT).save(STATE)
    assert StateFile(tmp_path, ACCOUNT).load() == STATE


def test_absent_state_is_empty(tmp_path: Path) -> None:
    assert StateFile(tmp_path, ACCOUNT).load() == SavedState(VERSION)


def test_accounts_have_states_of_their_own(tmp_path: Path) -> None:
    StateFile(tmp_path, ACCOUNT).save(STATE)
    assert StateFile(tmp_path, AccountKey(ACCOUNT.server, 8)).load() == SavedState(VERSION)
    assert StateFile(tmp_path, AccountKey(ACCOUNT.server.lower(), 7)).load() == SavedState(VERSION)


def test_state_damaged_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    file = StateFile(tmp_path, ACCOUNT)
    file.save(STATE)
    whole = file.path.read_bytes()
    for place in range(len(whole)):
        file.path.write_bytes(whole[:place])
        assert file.load() == SavedState(VERSION)
        file.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert file.load() == SavedState(VERSION)
        assert not file.path.exists()
    assert file.path.with_suffix(".damaged").exists()


def test_folder_that_refuses_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "absent", ACCOUNT)
    assert not file.save(STATE)
    assert file.refused
    (tmp_path / "absent").mkdir()
    assert file.save(STATE)
    assert file.refused == ""
