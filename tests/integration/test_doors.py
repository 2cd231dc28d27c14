"""The doors of a running system: keys added and revoked while it runs, strangers refused, counted and told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol.client import Addresses, BusClient
from protocol.errors import AuthenticationFailed, BusError
from protocol.keys import KeyStore, new_identity
from protocol.sockets import connect_requester, connect_subscriber
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def keys(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mt5bus keys ARGUMENTS`."""
    options = [] if "--home" in arguments else ["--home", str(system.home)]
    command = [sys.executable, "-P", "-m", "mt5bus", "keys", *arguments, *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)


def client_of(folder: Path, system: System, name: str) -> BusClient:
    """Return a client with the key of that name in that folder."""
    return BusClient(folder, Addresses.at(port=system.port), name=name)


def error_of(ask: Callable[[], object]) -> BusError | None:
    """Return the error that asking ends with; None if it does not."""
    try:
        ask()
    except BusError as error:
        return error
    return None


def test_keys_come_and_go_while_the_system_runs(system: System, tmp_path: Path) -> None:
    system.up()
    system.wait_until_healthy()
    bundle, there = tmp_path / "laptop.keys", tmp_path / "there"
    added = keys(system, "add", "laptop", "--role", "query", "--role", "subscribe", "--out", str(bundle))
    assert added.returncode == 0, added.stderr
    assert keys(system, "import", str(bundle), "--home", str(there)).returncode == 0
    stranger = new_identity("stranger")

    with client_of(there / "keys", system, "laptop") as laptop, system.client() as friend:
        assert laptop.account() == friend.account()
        refused = error_of(lambda: laptop.buy("EURUSD", 0.01))
        assert isinstance(refused, AuthenticationFailed), "a querying key does not order"

        context = zmq.Context[zmq.Socket[bytes]]()
        identity, server = KeyStore(there / "keys").identity("laptop"), friend_key(system)
        reader = connect_subscriber(context, f"tcp://127.0.0.1:{system.port}", identity=identity, server_key=server)
        reader.setsockopt(zmq.SUBSCRIBE, b"")
        knocker = connect_requester(context, f"tcp://127.0.0.1:{system.port + 1}", identity=stranger, server_key=server)
        assert reader.poll(20_000), "a subscriber hears"

        listed: Any = eventually(lambda: seen(system, "laptop"), timeout_s=20, what="the sighting")
        assert listed["roles"] == ["subscribe", "query"]
        assert listed["where"].startswith("127.0.0.1 at ")

        gone = keys(system, "revoke", "laptop")
        assert gone.returncode == 0, gone.stderr
        error = eventually(lambda: error_of(laptop.account), what="the refusal")
        assert isinstance(error, AuthenticationFailed)
        eventually(lambda: silent(reader), timeout_s=20, what="the subscriber's silence")
        assert friend.account().login == system.status()["account"]["login"]
        reader.close()
        knocker.close()
        context.term()

    document = system.wait_for(lambda d: d["doors"]["keys_refused"] >= 3 and d, timeout_s=20, what="the counts")
    assert document["state"] == "running"
    wanted = {"wrong_role", "unknown", "revoked"}
    eventually(lambda: wanted <= reasons(system), timeout_s=20, what="every kind of refusal in the list")
    assert "turned away" in system.run("status").stdout
    system.down()


def friend_key(system: System) -> bytes:
    """Return the adapter's public key."""
    return KeyStore(system.home / "keys").server_key("adapter")


def seen(system: System, name: str) -> dict[str, Any] | None:
    """Return the row of a key that was seen; None while it was not."""
    rows = json.loads(keys(system, "list", "--json").stdout)["keys"]
    return next((row for row in rows if row["name"] == name and row["last_seen_ms"]), None)


def reasons(system: System) -> set[str]:
    """Return why keys were refused, as the list has it by now: the nodes write it every few seconds."""
    return {each["reason"] for each in json.loads(keys(system, "list", "--json").stdout)["refused"]}


def silent(reader: zmq.Socket[bytes]) -> bool:
    """Read what is there; return whether nothing came for half a second."""
    while reader.poll(0):
        reader.recv()
    return not reader.poll(500)
