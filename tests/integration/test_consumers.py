"""Who reads the event log, as an operator sees it; and a consumer that was away too long comes back whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import NotFound
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_nodes_register_are_listed_and_can_be_forgotten(make_system: Callable[..., System]) -> None:
    system = make_system()
    system.up()
    system.wait_until_healthy()
    with system.client() as bus:
        account = bus.account()
        wanted = {"ml_logger", f"strategy:confluence/{account.login}@{account.server}"}
        eventually(lambda: {each.name for each in bus.consumers().consumers} >= wanted, what="both registered")
        newest = bus.consumers().last_offset
        assert newest > 0

        def caught_up() -> bool:
            return all(each.offset >= newest for each in bus.consumers().consumers)

        eventually(caught_up, timeout_s=40, what="everything acknowledged")
        shown = system.run("consumers")
        assert shown.returncode == 0, shown.stderr
        assert all(name in shown.stdout for name in wanted)
        assert system.run("consumers", "forget", "nobody").returncode == 1
        done = system.run("consumers", "forget", "ml_logger")
        assert (done.returncode, done.stdout) == (0, "ml_logger is forgotten: no event is kept for it\n")
        with pytest.raises(NotFound):
            bus.forget_consumer("nobody")
    system.down()
