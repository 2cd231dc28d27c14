"""The configuration of a chaos run: everything on the paper terminal, quick to give up and to try again."""

from __future__ import annotations

import socket
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mt5bus.config import Loaded, load
from mt5bus.errors import ConfigError, ProcessError
from mt5bus.paper import toml_text
from mt5bus.settings import PAPER_API, PORTS_IN_A_ROW
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS, Specification

START_S = 25.0
"""From writing the configuration to the first disturbance; what is left of it is traded in peace."""

_FIRST_PORT, _LAST_PORT = 20_000, 30_000  # below the ephemeral range of every platform

_NETTING = 0  # ACCOUNT_MARGIN_MODE_RETAIL_NETTING
_IOC = 2  # SYMBOL_FILLING_IOC
_THIN_SYMBOL, _THIN_LOTS = "GBPUSD", 0.02  # less than the chaos strategy's orders ask for

_BASE = """
[bus]
port = PORT
reach_port = REACH

[terminal]
kind = "paper"
login = 10000001
server = "Paper-Demo"

[paper]
server_time = "ny+7"
history_days = 0.05

[[paper.accounts]]
login = 10000001
currency = "USD"
balance = 1000000.0
leverage = 500

[[paper.accounts]]
login = 10000002
currency = "USD"
balance = 1000.0

[paper.feed]
kind = "synthetic"
seed = SEED
ticks_per_second = 5.0

[adapter]
event_poll_interval_ms = 100
not_executed_after_s = 8.0
server_time = "ny+7"

[adapter.deadlines]
query_s = 2.0
order_send_s = 5.0
bulk_s = 10.0

[adapter.connection]
retry_delay_s = 0.2
retry_delay_max_s = 1.0
breaker_failures = 5
breaker_open_s = 2.0
breaker_max_s = 4.0

[adapter.risk]
max_volume_per_order = 1.0
max_volume_per_symbol = 5.0
max_positions = 40
max_orders_per_minute = 6000

[[strategy]]
name = "chaos"
class = "mt5bus.chaos.trader:ChaosTrader"
number = 1

[strategy.params]
until_ms = UNTIL_MS

[logger]
backfill_days = 1

[supervisor]
backoff_first_s = 0.2
backoff_max_s = 2.0
max_restarts = 1000
restart_window_s = 60.0
"""


def prepare(
    folder: Path, home: Path, *, seed: int, minutes: float, netting: bool = False, changes: Path | None = None
) -> Loaded:
    """Write the configuration of a run into `folder`; return it loaded.

    Args:
        netting: The account has one position per symbol, instead of any number.
        changes: A configuration file whose values replace ours, such as other risk limits or another feed; its
            strategies are left out, and the ports are always free ones.

    Raises:
        ProcessError: The home exists, no ports are free, or the terminal is not the paper one.
        ConfigError: The changes cannot be used.
    """
    if home.exists():
        raise ProcessError(f"the home {home} exists: chaos starts on a home of its own; name one that does not exist")
    until_ms = round((time.time() + START_S + 60 * minutes) * 1000)
    port = _free_ports()
    places = {"PORT": port, "REACH": port + PORTS_IN_A_ROW, "SEED": seed, "UNTIL_MS": until_ms}
    text = _BASE
    for name, value in places.items():
        text = text.replace(name, str(value))
    values = tomllib.loads(text)
    if netting:
        values["paper"]["accounts"][0]["margin_mode"] = _NETTING
        values["strategy"][0]["params"]["netting"] = True
    values["paper"]["symbols"] = [_specification(each) for each in DEFAULT_SPECIFICATIONS]
    if changes is not None:
        theirs = _read(changes)
        values = _merged(values, {key: value for key, value in theirs.items() if key not in {"bus", "strategy"}})
    file = folder / "chaos.toml"
    file.write_text(toml_text(values), encoding="utf-8", newline="\n")
    loaded = load(home, file)
    refuse_real_terminal(loaded)
    return loaded


def refuse_real_terminal(loaded: Loaded) -> None:
    """Return if the configuration is on the paper terminal.

    Raises:
        ProcessError: It names another terminal or another API module.
    """
    terminal = loaded.settings.terminal
    if terminal.kind != "paper" or terminal.api_module != PAPER_API:
        raise ProcessError(
            "chaos is for the paper terminal only, without exception; this is"
            f" {terminal.kind} with {terminal.api_module}: take [terminal] out of the configuration"
        )


def _specification(symbol: Specification) -> dict[str, Any]:
    """Return a symbol as the terminal's settings have it; on one of them orders fill in part."""
    if symbol.name == _THIN_SYMBOL:
        symbol = msgspec.structs.replace(symbol, liquidity_lots=_THIN_LOTS, filling_mode=_IOC)
    return {key: value for key, value in msgspec.structs.asdict(symbol).items() if value is not None}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error}") from error


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return our table with their values, table by table."""
    merged = dict(ours)
    for key, value in theirs.items():
        mine = merged.get(key)
        merged[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _free_ports() -> int:
    """Return the first of ports enough for the sockets and for what stands between them."""
    count = 2 * PORTS_IN_A_ROW
    start = _FIRST_PORT + time.time_ns() // 1000 % (_LAST_PORT - _FIRST_PORT)
    ports: list[int] = [*range(start, _LAST_PORT, count), *range(_FIRST_PORT, start, count)]
    for port in ports:
        if all(_is_free(port + offset) for offset in range(count)):
            return port
    raise ProcessError(f"no {count} free ports in a row between {_FIRST_PORT} and {_LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
