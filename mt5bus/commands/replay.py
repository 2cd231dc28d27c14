"""`mt5bus replay`: play a capture to live nodes."""

from __future__ import annotations

import signal
from pathlib import Path

import click
import msgspec

from mt5bus.config import Loaded
from mt5bus.options import common_options, find_capture, load, one_line_errors
from mt5bus.settings import Bus
from protocol.captures import Capture
from protocol.errors import BusError
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.replay import ReplayAddresses, Replayer
from protocol.replay_archive import Archive
from protocol.zap import Gatekeeper

PROGRESS_INTERVAL_S = 5.0
LINGER_S = 1.0  # the last orders of the nodes are still on their way


def _speed(_ctx: click.Context, _param: click.Parameter, text: str) -> float | None:
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise click.BadParameter(f"{text!r} is neither a number above 0 nor max")
    return factor


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common_options
@click.option(
    "--speed",
    callback=_speed,
    default="1",
    metavar="N|max",
    show_default=True,
    help="Times as fast as recorded, or max.",
)
@click.option("--port", type=click.IntRange(1024, 65_531), help="First port (default: [bus] port).")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False), help="Write the nodes' orders and signals.")
def replay(
    file: Path,
    home: Path | None,
    config: Path | None,
    speed: float | None,
    port: int | None,
    results: Path | None,
) -> None:
    """Play a capture to live nodes, in the place of adapter and supervisor.

    FILE is a path, or the name of a file in the home's captures.

    Start the node afterwards, such as `mt5bus strategy`, with the same home and port. Nothing is traded.
    """
    with one_line_errors(BusError, OSError):
        loaded = load(home, config)
        bus = loaded.settings.bus.bound
        if port is not None:
            bus = msgspec.structs.replace(bus, port=port)
        run(loaded, Archive(Capture(find_capture(loaded, file))), bus, speed=speed, results=results)


def run(loaded: Loaded, archive: Archive, bus: Bus, *, speed: float | None, results: Path | None) -> None:
    """Play until the end, or a signal.

    Raises:
        NoConnection: A port is taken: is the system running?
    """
    loaded.home.create()
    keys = KeyStore(loaded.home.keys)
    keys.ensure()
    if archive.capture.truncated:
        damage = archive.capture.damage or "it was cut short, or is still being written"
        click.echo(f"{archive.capture.path}: {archive.capture.count} whole records; {damage}", err=True)
    loop = Loop()
    gatekeeper = Gatekeeper(loop, keys.admitted, standing=keys.standing)
    addresses = ReplayAddresses(bus.streams, bus.queries, bus.orders, bus.pings)
    replayer = Replayer(
        loop,
        loop.context,
        archive,
        addresses,
        identity=keys.identity("adapter"),
        supervisor=keys.identity("supervisor"),
        speed=speed,
        on_done=lambda: (loop.after(LINGER_S, loop.stop), None)[1],
    )
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.stop())
        loop.wake_on_signals()
        click.echo(f"waiting for a node at port {bus.port}")
        loop.every(PROGRESS_INTERVAL_S, lambda: click.echo(f"{replayer.state}: {replayer.played.total()} messages"))
        loop.run()
    finally:
        replayer.close()
        gatekeeper.close()
        loop.close()
    if results is not None:
        write_results(replayer, results)
    click.echo(
        f"{replayer.state}: {replayer.played.total()} of {archive.messages} messages played;"
        f" {len(replayer.signals)} signals and {len(replayer.orders)} orders came back"
    )


def write_results(replayer: Replayer, path: Path) -> None:
    """Write every signal and order, one JSON object a line, in the order of arrival."""
    with path.open("wb") as file:
        for signal_ in replayer.signals:
            file.write(msgspec.json.encode({"signal": _named(signal_)}) + b"\n")
        for order in replayer.orders:
            file.write(msgspec.json.encode({order.kind: _named(order, leave_out="id")}) + b"\n")


def _named(struct: msgspec.Struct, *, leave_out: str = "") -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__ if name != leave_out}
