"""What tests of the adapter share: a loop with real links on the fake API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from broker_adapter.link_messages import AnyCommand, Attach, LinkRole
from broker_adapter.link_results import LinkResult
from broker_adapter.links import Links
from mt5bus.home import Home
from mt5bus.settings import Adapter, Deadlines, Settings, Terminal
from protocol.loop import Loop
from protocol.zap import Gatekeeper

FAKE_API = "tests.broker_adapter.fake_api"


def fake_settings(*, links: str = "three", **terminal: Any) -> Settings:
    """Return settings for the fake API."""
    adapter = Adapter(symbols=("EURUSD",), deadlines=Deadlines(start_s=20.0), sweep_interval_s=0.2)
    adapter = msgspec.structs.replace(adapter, links=links)
    return Settings(terminal=Terminal(api=FAKE_API, **terminal), adapter=adapter)


class Rig:
    """A loop, links, and the folder that tells the fake API how to behave."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder / "terminal"
        self.folder.mkdir(parents=True)
        self.behave({})
        self.home = Home(folder / "home").create()
        self.settings = settings or fake_settings()
        self.loop = Loop()
        self.gatekeeper = Gatekeeper(self.loop, lambda role: self.links.admitted_keys() if role == "link" else {})
        self.links = Links(self.loop, self.loop.context, self.settings, home=self.home)

    def behave(self, behaviour: dict[str, Any]) -> None:
        """Tell the fake API what its functions do from now on."""
        fresh = self.folder / "behaviour.new"
        fresh.write_text(json.dumps(behaviour), encoding="utf-8")
        fresh.replace(self.folder / "behaviour.json")

    def calls(self, function: str) -> list[int]:
        """Return the pids that called `function`, in order."""
        file = self.folder / "calls.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [int(line.split()[0]) for line in lines if line.split()[1] == function]

    def until(self, check: Callable[[], Any], *, timeout_s: float = 20.0, what: str = "the condition") -> Any:
        """Turn the loop until `check` gives a truthy value; return it."""
        deadline = time.monotonic() + timeout_s
        while not (value := check()):
            assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
            self.loop.turn(20)
        return value

    def start(self) -> None:
        """Start the links and wait until they are ready."""
        self.links.start()
        self.until(lambda: all(self.links.state(role) == "ready" for role in LinkRole), what="links ready")

    def call(self, role: LinkRole, command: AnyCommand, *, deadline_s: float = 10.0) -> LinkResult:
        """Carry out one command and return its result."""
        results: list[LinkResult] = []
        self.links.call(role, command, results.append, deadline_s=deadline_s)
        self.until(lambda: results, what=f"result of {command}")
        return results[0]

    def attach(self, *roles: LinkRole) -> None:
        """Attach links to the fake terminal."""
        for role in roles or tuple(LinkRole):
            result = self.call(role, Attach(str(self.folder)))
            assert result.ok, result

    def renew(self) -> None:
        """Make everything as it was at first, but the links, which are attached."""
        self.behave({})
        for left in ("account.json", "calls.txt", "ticks.npy", *(each.name for each in self.folder.glob("*.taken"))):
            (self.folder / left).unlink(missing_ok=True)
        self.attach()

    def close(self) -> None:
        """End everything."""
        self.links.close()
        self.gatekeeper.close()
        self.loop.close()
