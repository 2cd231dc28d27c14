"""Orders through the real adapter process, its links and the paper terminal, with faults at the worst moment."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mt5bus.config import Loaded, load
from mt5bus.connect import client_of
from paper_terminal.faults import clear_faults, set_fault
from protocol.client import BusClient
from protocol.errors import BusError, MarketRefused, RiskRefused, StateConflict, TryAgainLater, UnknownOutcome
from protocol.messages import AlertEvent, DealEvent, IntentEvent
from tests.integration.conftest import free_ports
from tests.waiting import eventually

pytestmark = pytest.mark.slow

_FREEZE_S = 2.5  # longer than a loop takes for a pause, shorter than what makes the account's last read stale

CONFIG = """
[bus]
port = PORT
[adapter]
symbols = ["EURUSD"]
server_time = "ny+7"
not_executed_after_s = 2.0
[adapter.deadlines]
order_send_s = 1.5
[adapter.risk]
max_volume_per_symbol = 50.0
max_positions = 500
max_orders_per_minute = 5000
"""


class Adapter:
    """An adapter run alone, with the paper terminal that it starts. `more`: added to its configuration."""

    more = ""

    def __init__(self, folder: Path, paper: str = "") -> None:
        self.home = folder / "home"
        self.config = folder / "mt5bus.toml"
        self.config.write_text(CONFIG.replace("PORT", str(free_ports())) + self.more, encoding="utf-8")
        self.loaded: Loaded = load(self.home, self.config)
        self.terminal.mkdir(parents=True)
        (self.terminal / "paper.toml").write_text(paper, encoding="utf-8")
        self.output = (folder / "output.txt").open("w", encoding="utf-8")
        self.client: BusClient | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "broker_adapter", "--home", str(self.home), "--config", str(self.config)]
        self.process = subprocess.Popen(
            [*command, "--alone", "--start-terminal"], stdout=self.output, stderr=subprocess.STDOUT
        )
        eventually(lambda: (self.home / "keys").is_dir() and self._connects(), timeout_s=30, what="an adapter")
        eventually(self._has_prices, timeout_s=30, what="prices")

    def _connects(self) -> bool:
        try:
            if self.client is None:
                self.client = client_of(self.loaded)
            return self.client.health().connection == "attached"
        except BusError:
            return False

    def _has_prices(self) -> bool:
        try:
            return bool(self.bus.prices("EURUSD"))
        except BusError:
            return False

    @property
    def bus(self) -> BusClient:
        assert self.client is not None
        return self.client

    @property
    def terminal(self) -> Path:
        return self.loaded.home.terminal

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def state(self, order_id: str) -> IntentEvent:
        return self.bus.intent(order_id)

    def deals_of(self, order_id: str, expected: int) -> bool:
        """Whether the log soon has so many deals of an order: the state is told as it is found, the log when synced."""
        eventually(lambda: self._deals_of(order_id) >= expected, what=f"{expected} deals of {order_id}")
        return self._deals_of(order_id) == expected

    def _deals_of(self, order_id: str) -> int:
        return sum(
            isinstance(event.body, DealEvent) and event.body.deal.client_order_id == order_id
            for event in self.bus.events(0)
        )

    def close(self) -> None:
        if self.client is not None:
            self.client.disconnect()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.output.close()
        for process in psutil.process_iter(["cmdline"]):
            if str(self.terminal) in (process.info["cmdline"] or []):
                process.kill()
                process.wait(10)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    it = Adapter(tmp_path_factory.mktemp("orders"))
    yield it
    it.close()


@pytest.fixture(autouse=True)
def _prices_and_symbol_open(adapter: Adapter) -> None:
    eventually(lambda: adapter.bus.health().connection == "attached", timeout_s=20, what="attached")


def submit(adapter: Adapter, order_id: str, volume: float = 0.1, **more: float) -> IntentEvent:
    """Submit, again while the adapter is not ready; the same id cannot have two effects."""

    def ask() -> IntentEvent | None:
        try:
            return adapter.bus.submit("EURUSD", "buy", volume, client_order_id=order_id, **more)  # type: ignore[arg-type]
        except TryAgainLater:
            return None

    return eventually(ask, timeout_s=30, what="an order taken")  # type: ignore[return-value]


def test_open_with_stops_partial_close_modify_close(adapter: Adapter) -> None:
    price = adapter.bus.price("EURUSD")
    opened = submit(adapter, "life", 0.3, sl=round(price.bid - 0.01, 5), tp=round(price.bid + 0.01, 5))
    assert (opened.state, opened.filled_volume) == ("done", 0.3)
    position = next(p for p in adapter.bus.positions() if p.ticket == opened.position)
    assert (position.sl, position.client_order_id) == (opened.sl, "life")
    assert adapter.bus.close(opened.position, 0.1, client_order_id="part").filled_volume == 0.1
    stop = round(price.bid - 0.02, 5)
    assert adapter.bus.modify(position=opened.position, sl=stop, client_order_id="move").state == "done"
    assert adapter.bus.close(opened.position, client_order_id="rest").filled_volume == 0.2
    assert all(p.ticket != opened.position for p in adapter.bus.positions())
    assert all(adapter.deals_of(name, 1) for name in ("life", "part", "rest"))


def test_two_positions_are_closed_against_each_other(adapter: Adapter) -> None:
    long = submit(adapter, "long", 0.3)
    short = adapter.bus.sell("EURUSD", 0.1, client_order_id="short")
    outcome = adapter.bus.close_by(long.position, short.position, client_order_id="met")
    assert (outcome.state, outcome.filled_volume) == ("done", 0.1)
    volumes = {p.ticket: p.volume for p in adapter.bus.positions()}
    assert (volumes.get(long.position), volumes.get(short.position)) == (0.2, None)
    assert adapter.deals_of("met", 2)
    assert adapter.bus.close(long.position, client_order_id="rest-of-long").filled_volume == 0.2


def test_a_reply_lost_after_execution_is_found_and_not_doubled(adapter: Adapter) -> None:
    set_fault(adapter.terminal, "reply_lost", functions=("order_send",))
    with contextlib.suppress(UnknownOutcome):  # the evidence may be there before the reply has left
        submit(adapter, "lost")
    eventually(lambda: adapter.state("lost").state == "done", timeout_s=30, what="evidence")
    assert adapter.state("lost").filled_volume == 0.1
    assert adapter.bus.submit("EURUSD", "buy", 0.1, client_order_id="lost").position == adapter.state("lost").position
    assert adapter.deals_of("lost", 1)


@pytest.mark.parametrize("executed", [True, False])
def test_a_hung_order_send_is_killed_and_decided_by_evidence(adapter: Adapter, *, executed: bool) -> None:
    name = f"hung-{executed}"
    set_fault(adapter.terminal, "hang", functions=("order_send",), executed=executed)
    with contextlib.suppress(UnknownOutcome):
        submit(adapter, name)
    expected = "done" if executed else "not_executed"
    eventually(lambda: adapter.state(name).state == expected, timeout_s=30, what=expected)
    assert adapter.deals_of(name, int(executed))


def test_a_timeout_with_a_late_fill_is_found(adapter: Adapter) -> None:
    set_fault(adapter.terminal, "late_fill", ms=1000)
    with pytest.raises(UnknownOutcome):
        submit(adapter, "late")
    assert adapter.state("late").retcode == 10012
    eventually(lambda: adapter.state("late").state == "done", timeout_s=30, what="the late fill")
    assert adapter.deals_of("late", 1)


def test_a_refusal_is_a_refusal(adapter: Adapter) -> None:
    set_fault(adapter.terminal, "reject")
    with pytest.raises(MarketRefused) as caught:
        submit(adapter, "rejected")
    assert caught.value.details["retcode"] == "10006"
    with pytest.raises(MarketRefused):
        adapter.bus.submit("EURUSD", "buy", 0.1, client_order_id="rejected")
    assert adapter.deals_of("rejected", 0)


def test_the_adapter_killed_with_an_order_in_the_terminal(adapter: Adapter) -> None:
    set_fault(adapter.terminal, "slow", functions=("order_send",), ms=1500, executed=True)
    asking = subprocess.Popen(
        [sys.executable, "-c", _ASK, str(adapter.home), str(adapter.config)], stdout=subprocess.PIPE, encoding="utf-8"
    )
    eventually(lambda: _in_flight(adapter, "killed"), timeout_s=20, what="the order on its way")
    adapter.kill()
    asking.kill()  # its answer died with the adapter: it would only wait for its deadline
    asking.communicate(timeout=60)
    adapter.start()
    clear_faults(adapter.terminal)  # killed before the bytes had left, the order did not use it up
    eventually(lambda: adapter.state("killed").state not in {"unknown", "intended"}, timeout_s=30, what="a decision")
    outcome = adapter.state("killed")
    assert outcome.state == ("done" if outcome.filled_volume else "not_executed")
    assert adapter.deals_of("killed", (1 if outcome.state == "done" else 0))


_ASK = """
import sys
from pathlib import Path
from mt5bus.connect import connect
from protocol.errors import BusError
client = connect(Path(sys.argv[1]), Path(sys.argv[2]))
try:
    client.submit("EURUSD", "buy", 0.1, client_order_id="killed")
except BusError as error:
    print(error.code)
finally:
    client.disconnect()
"""


def _in_flight(adapter: Adapter, order_id: str) -> bool:
    try:
        return adapter.state(order_id).state in {"intended", "sent"}
    except BusError:
        return False


def test_an_order_from_before_a_freeze_is_not_sent_after_its_time_to_live(adapter: Adapter) -> None:
    submit(adapter, "before-freeze")
    frozen = psutil.Process(adapter.process.pid)
    with client_of(adapter.loaded) as client, ThreadPoolExecutor(1) as pool:
        client.health()  # connected: what it sends is with the adapter's machine at once
        frozen.suspend()
        try:
            since = time.monotonic()
            asked = pool.submit(client.submit, "EURUSD", "buy", 0.1, client_order_id="frozen", ttl_ms=1000)
            eventually(lambda: time.monotonic() - since > _FREEZE_S, what="the end of the freeze")
        finally:
            frozen.resume()
        with pytest.raises(StateConflict, match="time to live"):
            asked.result(30)
    assert adapter.state("frozen").state == "rejected"
    assert adapter.deals_of("frozen", 0)
    submit(adapter, "after-freeze")
    assert adapter.deals_of("after-freeze", 1)


def test_halting_flattens_and_survives_a_kill(adapter: Adapter) -> None:
    submit(adapter, "before-halt")
    price = adapter.bus.prices("EURUSD")[0].bid
    adapter.bus.submit("EURUSD", "buy", 0.1, type="limit", price=round(price - 0.01, 5), client_order_id="waiting")
    assert "positions and 1 orders" in adapter.bus.halt("test", flatten=True)
    eventually(lambda: not adapter.bus.risk().flatten, timeout_s=20, what="flat")
    assert not adapter.bus.positions()
    assert not adapter.bus.orders()
    with pytest.raises(RiskRefused, match="halted"):
        adapter.bus.submit("EURUSD", "buy", 0.1, client_order_id="halted")
    adapter.kill()
    adapter.start()
    with pytest.raises(RiskRefused, match="halted"):
        submit(adapter, "halted-still")
    adapter.bus.resume()
    assert submit(adapter, "resumed").state == "done"


def test_an_operator_lists_and_cannot_settle_what_is_settled(adapter: Adapter) -> None:
    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        place = ["--home", str(adapter.home), "--config", str(adapter.config)]
        command = [sys.executable, "-P", "-m", "mt5bus", name, *place, *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)

    listed = run("orders")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert all(line.split()[1] == "not_executed" for line in listed.stdout.splitlines() if not line.startswith(" "))
    refused = run("settle", "resumed", "--as", "not-executed", "--reason", "a test")
    assert refused.returncode == 1
    assert "resumed is done already" in refused.stderr
    assert adapter.state("resumed").state == "done"


def test_a_closed_market_keeps_flattening_over_a_kill_until_it_opens(adapter: Adapter) -> None:
    submit(adapter, "in-a-closed-market")
    set_fault(adapter.terminal, "retcode", retcode=10018, count=None)
    adapter.bus.halt("test", flatten=True)
    refused = "(rejected: the market is closed"
    eventually(lambda: refused in " ".join(adapter.bus.risk().flatten), timeout_s=20, what="a refused close")
    adapter.kill()
    adapter.start()
    eventually(lambda: refused in " ".join(adapter.bus.risk().flatten), timeout_s=20, what="another refused close")
    clear_faults(adapter.terminal)
    eventually(lambda: not adapter.bus.risk().flatten, timeout_s=30, what="flat")
    assert not adapter.bus.positions()
    adapter.bus.resume()


def test_at_the_end_events_and_terminal_agree(adapter: Adapter) -> None:
    events = adapter.bus.events(0)
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    told = Counter(event.body.deal.ticket for event in events if isinstance(event.body, DealEvent))
    assert set(told.values()) == {1}
    deals = adapter.bus.deals(0)
    assert set(told) >= {deal.ticket for deal in deals}
    assert not [e.body for e in events if isinstance(e.body, AlertEvent) and e.body.severity == "critical"]
