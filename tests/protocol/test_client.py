"""BusClient over real sockets: what it returns, and that every call ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from protocol import messages as m
from protocol.client import Addresses, BusClient, utc_ms
from protocol.errors import (
    AuthenticationFailed,
    BusError,
    DataInvalid,
    MarketRefused,
    NoAnswer,
    NoConnection,
    NotFound,
    RiskRefused,
    UnknownOutcome,
    ValidationFailed,
)
from protocol.keys import KeyStore
from protocol.service import Caller, Service
from protocol.ticks import RATE_DTYPE, TICK_DTYPE
from tests.protocol.rig import SERVER, Peer, running
from tests.protocol.samples import ACCOUNT, DEAL, INTENT, ORDER, POSITION, QUOTE, UNSETTLED

NOWHERE = "tcp://127.0.0.1:9"


def write_keys(folder: Path) -> KeyStore:
    """Return a store whose servers have the rig's key."""
    store = KeyStore(folder)
    store.ensure()
    for name in ("adapter", "supervisor"):
        document: dict[str, object] = {"name": name, "public": SERVER.public.decode(), "roles": []}
        (folder / f"{name}.public.json").write_bytes(msgspec.json.encode(document))
    return store


class System:
    """Services as an adapter and a supervisor have them, and a client of theirs."""

    def __init__(self, folder: Path) -> None:
        self.keys = write_keys(folder)
        self.peer = Peer()
        self.peer.admit(self.keys.identity("client"), "query", "trade", "control")
        self.queries, queries_at = self.peer.service("query")
        self.orders, orders_at = self.peer.service("trade")
        self.control, control_at = self.peer.service("control")
        self.addresses = Addresses(queries_at, orders_at, control_at)

    def client(self, *, timeout_s: float = 5.0, **options: Any) -> BusClient:
        """Return a client of it."""
        return BusClient(self.keys.folder, self.addresses, timeout_s=timeout_s, **options)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "keys")
    with running(made.peer):
        yield made


@pytest.fixture
def client(system: System) -> Iterator[BusClient]:
    with system.client() as made:
        yield made


def silent(request: m.Request, caller: Caller) -> None:
    """Never answer."""


def refusing(error: BusError) -> Callable[[m.Request, Caller], m.Reply]:
    """Return a handler that fails with `error`."""

    def handler(request: m.Request, caller: Caller) -> m.Reply:
        raise error

    return handler


def ordering(service: Service, **changes: Any) -> list[m.SubmitOrder]:
    """Let `service` answer orders with the sample intent, changed; return the requests it gets."""
    seen: list[m.SubmitOrder] = []

    def handler(request: m.SubmitOrder, caller: Caller) -> m.Reply:
        seen.append(request)
        outcome = msgspec.structs.replace(INTENT, client_order_id=request.client_order_id, **changes)
        return m.OrderReply(request.id, outcome)

    service.handle(m.SubmitOrder, handler)
    return seen


def test_simple_queries(system: System, client: BusClient) -> None:
    q = system.queries
    q.handle(m.GetAccount, lambda r, c: m.AccountReply(r.id, ACCOUNT))
    q.handle(m.GetPositions, lambda r, c: m.Positions(r.id, (POSITION,) if r.symbol in {"", "EURUSD"} else ()))
    q.handle(m.GetOrders, lambda r, c: m.Orders(r.id, (ORDER,)))
    q.handle(m.GetPrices, lambda r, c: m.Prices(r.id, (QUOTE,) if "EURUSD" in r.symbols else ()))
    assert client.account() == ACCOUNT
    assert client.leverage() == 100
    assert client.positions() == (POSITION,)
    assert client.positions("USDJPY") == ()
    assert client.orders() == (ORDER,)
    assert client.price("EURUSD") == QUOTE
    with pytest.raises(NotFound):
        client.price("XAUUSD")


def test_query_deadline_is_no_answer_and_the_socket_is_not_stuck(system: System) -> None:
    system.queries.handle(m.GetAccount, silent)
    system.queries.handle(m.GetPrices, lambda r, c: m.Prices(r.id, (QUOTE,)))
    with system.client(timeout_s=0.3) as client:
        for _ in range(3):
            with pytest.raises(NoAnswer, match=r"0\.3 s"):
                client.account()
        assert client.price("EURUSD") == QUOTE


def test_a_late_reply_is_not_taken_for_the_next_one(system: System) -> None:
    waiting: list[tuple[m.GetAccount, Caller]] = []
    system.queries.handle(m.GetAccount, lambda r, c: waiting.append((r, c)))

    def prices(request: m.GetPrices, caller: Caller) -> m.Reply:
        for late, asker in waiting:
            asker.reply(m.AccountReply(late.id, ACCOUNT))
        return m.Prices(request.id, (QUOTE,))

    system.queries.handle(m.GetPrices, prices)
    with system.client(timeout_s=0.3) as client:
        with pytest.raises(NoAnswer):
            client.account()
        assert client.prices("EURUSD") == (QUOTE,)


def test_order_deadline_is_unknown_outcome_that_names_the_id(system: System) -> None:
    system.orders.handle(m.SubmitOrder, silent)
    with system.client(timeout_s=0.3) as client, pytest.raises(UnknownOutcome, match="intent") as caught:
        client.buy("EURUSD", 0.1, client_order_id="mine-1")
    assert caught.value.details["client_order_id"] == "mine-1"


def test_no_peer_is_no_connection_within_the_timeout(system: System) -> None:
    addresses = Addresses(NOWHERE, NOWHERE, NOWHERE)
    with BusClient(system.keys.folder, addresses, timeout_s=0.3) as client:
        start = time.monotonic()
        with pytest.raises(NoConnection):
            client.account()
        with pytest.raises(NoConnection):
            client.buy("EURUSD", 0.1)
        assert time.monotonic() - start < 2


def test_refused_key_is_told_at_once_and_works_once_admitted(system: System) -> None:
    recorder = system.keys.identity("recorder")
    with system.client(timeout_s=20, name="recorder") as client:
        start = time.monotonic()
        for _ in range(2):
            with pytest.raises(AuthenticationFailed, match="lacks the role"):
                client.buy("EURUSD", 0.1)
        assert time.monotonic() - start < 5
        ordering(system.orders)
        system.peer.admit(recorder, "trade")
        assert client.buy("EURUSD", 0.1).state == "done"


def test_another_systems_key_is_told(system: System, tmp_path: Path) -> None:
    other = KeyStore(tmp_path / "other")
    other.ensure()
    with BusClient(other.folder, system.addresses, timeout_s=0.5) as client, pytest.raises(AuthenticationFailed):
        client.account()


def test_orders_draw_an_id_and_carry_every_field(system: System, client: BusClient) -> None:
    seen = ordering(system.orders)
    outcome = client.sell(
        "EURUSD", np.float64(0.2), type="limit", price=1.1, sl=1.2, tp=1.0, expiration=datetime(2030, 1, 1, tzinfo=UTC)
    )
    assert outcome.state == "done"
    (request,) = seen
    assert outcome.client_order_id == request.client_order_id
    assert len(request.client_order_id) == 32
    assert (request.side, request.type, request.volume, request.price) == ("sell", "limit", 0.2, 1.1)
    assert (request.sl, request.tp, request.expiration_ms) == (1.2, 1.0, 1_893_456_000_000)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"state": "refused", "code": "risk_refused", "text": "too much"}, RiskRefused),
        ({"state": "rejected", "retcode": 10019}, MarketRefused),
        ({"state": "unknown"}, UnknownOutcome),
        ({"state": "ambiguous"}, UnknownOutcome),
    ],
)
def test_outcomes_that_are_failures_are_raised(
    system: System, client: BusClient, changes: dict[str, Any], error: type[BusError]
) -> None:
    ordering(system.orders, **changes)
    with pytest.raises(error) as caught:
        client.buy("EURUSD", 0.1, client_order_id="x")
    assert type(caught.value) is error
    assert caught.value.details["client_order_id"] == "x"


def test_an_order_answered_with_something_else_is_unknown(system: System, client: BusClient) -> None:
    system.orders.handle(m.SubmitOrder, lambda r, c: m.Done(r.id))
    with pytest.raises(UnknownOutcome):
        client.buy("EURUSD", 0.1)
    system.queries.handle(m.GetAccount, lambda r, c: m.Done(r.id))
    with pytest.raises(DataInvalid):
        client.account()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", float("nan")),
        ("sl", float("inf")),
        ("tp", np.float64("nan")),
        ("price", "1.1"),
        ("comment", "x" * 65),
        ("client_order_id", "a b"),
        ("client_order_id", ""),
        ("deviation_points", 2**70),
        ("comment", object()),
        ("symbol", "E" * 65),
    ],
)
def test_bad_fields_are_refused_here_by_name(client: BusClient, field: str, value: object) -> None:
    arguments: dict[str, Any] = {"symbol": "EURUSD", "volume": 0.1} | {field: value}
    with pytest.raises(ValidationFailed) as caught:
        client.buy(**arguments)
    assert caught.value.details["field"] == field


def test_errors_of_the_peer_come_as_their_own_type(system: System, client: BusClient) -> None:
    system.orders.handle(m.ArmAccount, refusing(NotFound("no such login", {"login": "7"})))
    with pytest.raises(NotFound, match="no such login") as caught:
        client.arm(7)
    assert caught.value.details == {"login": "7"}
    with pytest.raises(NotFound, match="does not answer"):
        client.reconnect()


def test_other_orders_and_commands(system: System, client: BusClient) -> None:
    seen: list[Any] = []

    def order(request: Any, caller: Caller) -> m.Reply:
        seen.append(request)
        return m.OrderReply(request.id, INTENT)

    def command(request: Any, caller: Caller) -> m.Reply:
        seen.append(request)
        return m.Done(request.id, "so be it")

    for kind in (m.ClosePosition, m.CloseBy, m.ModifyPosition, m.ModifyOrder, m.CancelOrder):
        system.orders.handle(kind, order)
    for command_kind in (m.SetTradingMode, m.ArmAccount, m.Reconnect, m.SettleOrder):
        system.orders.handle(command_kind, command)
    system.queries.handle(m.GetIntent, lambda r, c: m.OrderReply(r.id, INTENT))
    system.queries.handle(m.GetUnsettled, lambda r, c: m.Unsettled(r.id, (UNSETTLED,)))
    client.close(71, 0.05)
    client.close_by(71, 72)
    client.modify(position=71, sl=1.0, tp=2.0)
    client.modify(order=81, price=1.5)
    client.cancel(81)
    kinds = [type(request) for request in seen]
    assert kinds == [m.ClosePosition, m.CloseBy, m.ModifyPosition, m.ModifyOrder, m.CancelOrder]
    assert client.halt("news", flatten=True) == client.resume() == client.arm(5) == client.reconnect() == "so be it"
    assert seen[5].mode == "halted"
    assert seen[5].flatten
    assert client.unsettled() == (UNSETTLED,)
    assert client.settle("a1b2", "not_executed", reason="seen") == "so be it"
    assert (seen[-1].client_order_id, seen[-1].outcome, seen[-1].reason) == ("a1b2", "not_executed", "seen")
    assert client.intent("a1b2") == INTENT
    with pytest.raises(ValidationFailed):
        client.modify(sl=1.0)


def test_times_need_a_zone() -> None:
    east = timezone(timedelta(hours=2))
    assert utc_ms("start", datetime(2024, 1, 1, 2, tzinfo=east)) == 1_704_067_200_000
    assert utc_ms("start", datetime(2024, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)) == 1_704_067_200_001
    assert utc_ms("start", 17) == 17
    for bad in (datetime(2024, 1, 1), True, "2024-01-01"):  # noqa: DTZ001  naive on purpose
        with pytest.raises(ValidationFailed) as caught:
            utc_ms("start", bad)  # type: ignore[arg-type]
        assert caught.value.details["field"] == "start"


def bars(opens: range) -> bytes:
    """Return bar records that open at these seconds."""
    records = np.zeros(len(opens), RATE_DTYPE)
    records["time"] = list(opens)
    return records.tobytes()


def test_candles_by_count_page_backwards(system: System, client: BusClient) -> None:
    history = range(0, 6000 * 60, 60)

    def rates(request: m.GetRates, caller: Caller) -> m.Reply:
        upto = request.to_ms or 10**12
        found = [second for second in history if second * 1000 <= upto][-request.count :]
        records = bars(range(found[0], found[-1] + 60, 60)) if found else b""
        return m.Rates(request.id, request.symbol, request.timeframe, records)

    system.queries.handle(m.GetRates, rates)
    array = client.rates("EURUSD", "M1", 5000)
    assert list(array["time"]) == list(history)[-5000:]
    assert len(client.rates("EURUSD", "M1", 10_000)) == 6000
    frame = client.candles("EURUSD", "M1", 3)
    assert list(frame.columns) == ["open", "high", "low", "close", "tick_volume", "spread", "real_volume"]
    assert frame.index[-1].timestamp() == history[-1]
    assert str(frame.index.dtype) == "datetime64[s, UTC]"
    for wrong in ({}, {"count": 0}, {"count": 1, "start": 0}):
        with pytest.raises(ValidationFailed):
            client.rates("EURUSD", "M1", **wrong)


def test_candles_by_range_page_forwards(system: System, client: BusClient) -> None:
    def rates(request: m.GetRates, caller: Caller) -> m.Reply:
        first = -(-request.from_ms // 60_000)
        last = min(first + 9, request.to_ms // 60_000)
        more = last < request.to_ms // 60_000
        records = bars(range(first * 60, last * 60 + 60, 60))
        return m.Rates(request.id, request.symbol, request.timeframe, records, more, (last + 1) * 60_000)

    system.queries.handle(m.GetRates, rates)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    array = client.rates("EURUSD", "M1", start=start, end=start + timedelta(minutes=34))
    assert len(array) == 35
    assert np.all(np.diff(array["time"]) == 60)


def test_ticks_page_through_one_millisecond(system: System, client: BusClient) -> None:
    times = [1000, 1000, 1000, 1001, 1002, 1002]

    def ticks(request: m.GetTicks, caller: Caller) -> m.Reply:
        left = [t for t in times if t >= request.from_ms][request.skip :]
        page = np.zeros(len(left[:2]), TICK_DTYPE)
        page["time_msc"] = left[:2]
        more = len(left) > 2
        last = left[min(1, len(left) - 1)]
        taken = times[: len(times) - len(left) + 2].count(last)
        return m.Ticks(request.id, request.symbol, page.tobytes(), more=more, next_ms=last, next_skip=taken)

    system.queries.handle(m.GetTicks, ticks)
    assert list(client.tick_records("EURUSD", 1000, 2000)["time_msc"]) == times
    frame = client.ticks("EURUSD", 1000, 2000)
    assert [round(moment.timestamp() * 1000) for moment in frame.index] == times
    system.queries.handle(m.GetTicks, lambda r, c: m.Ticks(r.id, r.symbol, b"", more=True, next_ms=1000))
    with pytest.raises(DataInvalid):
        client.tick_records("EURUSD", 1000, 2000)


def test_deals_page_by_time_without_repeats(system: System, client: BusClient) -> None:
    every = [msgspec.structs.replace(DEAL, ticket=n, time_ms=n // 2) for n in range(9)]

    def deals(request: m.GetDeals, caller: Caller) -> m.Reply:
        left = [deal for deal in every if request.from_ms <= deal.time_ms <= request.to_ms]
        return m.Deals(request.id, tuple(left[:4]), more=len(left) > 4)

    system.queries.handle(m.GetDeals, deals)
    assert client.deals(0, 100) == every
    system.queries.handle(m.GetDeals, lambda r, c: m.Deals(r.id, tuple(every[:1]), more=True))
    with pytest.raises(DataInvalid):
        client.deals(0)
    with pytest.raises(ValidationFailed):
        client.deals()


def event(offset: int) -> m.Event:
    """Return an event at `offset`."""
    return m.Event("log", offset, 1, 2, 3, "Demo-Server", 5, m.ModeEvent("active", "", offset))


def test_events_are_read_to_the_end(system: System, client: BusClient) -> None:
    def events(request: m.GetEvents, caller: Caller) -> m.Reply:
        found = tuple(event(n) for n in range(max(request.after + 1, 4), min(request.after + 4, 11)))
        return m.Events(request.id, "log", 4, 10, found)

    system.queries.handle(m.GetEvents, events)
    assert [e.offset for e in client.events(3)] == [4, 5, 6, 7, 8, 9, 10]
    assert [e.offset for e in client.events(3, limit=2)] == [4, 5]
    assert client.events(10) == []
    with pytest.raises(NotFound, match="3 to 3 are no longer kept"):
        client.events(2)


def test_supervisor(system: System, client: BusClient) -> None:
    system.control.handle(m.GetStatus, lambda r, c: m.StatusReply(r.id, b'{"nodes": []}'))
    system.control.handle(m.StopSystem, lambda r, c: m.Done(r.id, "stopping"))
    system.control.handle(m.RestartNode, lambda r, c: m.Done(r.id, r.node))
    assert client.status() == {"nodes": []}
    assert client.stop() == "stopping"
    assert client.restart("strategy") == "strategy"
    system.control.handle(m.GetStatus, lambda r, c: m.StatusReply(r.id, b"[1]"))
    with pytest.raises(DataInvalid):
        client.status()


def test_a_client_goes_on_after_disconnecting(system: System, client: BusClient) -> None:
    system.queries.handle(m.GetAccount, lambda r, c: m.AccountReply(r.id, ACCOUNT))
    client.account()
    client.disconnect()
    assert client.account() == ACCOUNT


def test_a_home_without_keys_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="Start the system once"):
        BusClient(tmp_path / "nothing")


def test_requesters_close_while_a_request_is_on_its_way(system: System) -> None:
    system.queries.handle(m.GetAccount, silent)
    client = system.client(timeout_s=0.05)
    with pytest.raises((NoAnswer, NoConnection)):
        client.account()
    client.disconnect()
