"""What a link reads of the account is of one account, whatever a person does in the terminal meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.api_failure import ApiFailure
from broker_adapter.api_types import ApiAccount, ApiDeal, ApiTerminal
from broker_adapter.link_commands import Executor
from broker_adapter.link_messages import SWITCHED, AnyCommand, HistoryPage, PollTrade, ReadHistory
from tests.broker_adapter.fake_api import AccountInfo, TerminalInfo, TradeDeal, filled

WINDOW = (1, 2_000_000_000)


class Terminal:
    """An API module whose terminal changes its account in the call named `switches_in`."""

    def __init__(self, switches_in: str = "") -> None:
        self.login = 1001
        self.switches_in = switches_in

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_args: object) -> object:
            if name == self.switches_in:
                self.login = 2002
            return 0 if name.endswith("_total") else ()

        return call

    def account_info(self) -> Any:
        return filled(AccountInfo, ApiAccount, login=self.login, server="Broker-Demo")

    def terminal_info(self) -> Any:
        return filled(TerminalInfo, ApiTerminal, connected=True)


def execute(terminal: Terminal, command: AnyCommand) -> bytes:
    executor = Executor(terminal, module="fake", monotonic_ns=lambda: 0, adapter_lives=lambda: True)
    return executor.execute(command)


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (PollTrade(*WINDOW), "positions_get"),
        (PollTrade(*WINDOW), "orders_get"),
        (PollTrade(*WINDOW), "history_orders_get"),
        (PollTrade(*WINDOW), "history_deals_get"),
        (ReadHistory("deals", *WINDOW), "history_deals_get"),
        (ReadHistory("orders", *WINDOW), "history_orders_get"),
    ],
)
def test_a_read_during_which_the_account_changes_is_no_read(command: AnyCommand, function: str) -> None:
    with pytest.raises(ApiFailure) as failure:
        execute(Terminal(function), command)
    assert failure.value.code == SWITCHED


def test_a_page_of_history_says_whose_it_is() -> None:
    page = msgspec.msgpack.decode(execute(Terminal(), ReadHistory("deals", *WINDOW)), type=HistoryPage)
    assert (page.login, page.server) == (1001, "Broker-Demo")


class Dealt(Terminal):
    """A terminal with deals at these seconds."""

    def __init__(self, seconds: list[int]) -> None:
        super().__init__()
        self.seconds = seconds

    def history_deals_total(self, from_s: int, to_s: int) -> int:
        return len(self.history_deals_get(from_s, to_s))

    def history_deals_get(self, from_s: int, to_s: int) -> list[Any]:
        found = [(n, s) for n, s in enumerate(self.seconds, start=1) if from_s <= s <= to_s]
        return [filled(TradeDeal, ApiDeal, ticket=n, time=s, time_msc=s * 1000) for n, s in found]


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5))
def test_pages_of_history_are_whole_seconds_and_together_everything(seconds: list[int], limit: int) -> None:
    terminal, at_s, seen = Dealt(seconds), 1, list[int]()
    while at_s <= 60:
        page = msgspec.msgpack.decode(execute(terminal, ReadHistory("deals", at_s, 60, limit)), type=HistoryPage)
        assert page.through_s >= at_s
        assert len(page.deals) <= limit or len({deal.time for deal in page.deals}) == 1
        assert page.deals or page.through_s == 60
        seen += [deal.ticket for deal in page.deals]
        at_s = page.through_s + 1
    assert sorted(seen) == list(range(1, len(seconds) + 1))
