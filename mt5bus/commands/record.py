"""`mt5bus record`: record the bus into capture files."""

from __future__ import annotations

import errno
import shutil
import signal
from importlib.metadata import version
from pathlib import Path

import click

from mt5bus.config import Loaded
from mt5bus.options import captures_folder, common_options, load, one_line_errors
from protocol.captures import CaptureWriter
from protocol.errors import AuthenticationFailed, BusError
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.recorder import Recorder

CHECK_S = 1.0


@click.command("record")
@common_options
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: captures/ of the home)."
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so long; else at Ctrl-C.")
@click.option("--symbols", default="", help="Comma-separated; default: all.")
def record(home: Path | None, config: Path | None, out: Path | None, minutes: float | None, symbols: str) -> None:
    """Record the bus into capture files, a new one each UTC day."""
    with one_line_errors(BusError, OSError):
        loaded = load(home, config)
        run(
            loaded,
            out or captures_folder(loaded),
            minutes=minutes,
            symbols=[s.strip() for s in symbols.split(",") if s.strip()],
        )


def run(loaded: Loaded, out: Path, *, minutes: float | None, symbols: list[str]) -> None:
    """Record until the time is up or a signal comes.

    Raises:
        AuthenticationFailed: There is no key of the recorder, or the adapter refused it.
        OSError: The disk is full, or the folder cannot be written.
    """
    settings = loaded.settings
    keys = KeyStore(loaded.home.keys)
    identity, server_key = keys.identity("recorder"), keys.server_key("adapter")
    loop = Loop()
    writer = CaptureWriter(
        out,
        settings.adapter.name,
        software=version("mt5bus"),
        level=settings.captures.level,
        on_file=lambda path: click.echo(f"recording to {path}"),
    )
    recorder = Recorder(
        loop,
        loop.context,
        writer,
        streams_address=settings.bus.streams,
        queries_address=settings.bus.queries,
        identity=identity,
        server_key=server_key,
        adapter=settings.adapter.name,
        symbols=symbols or None,
        timeframes=settings.adapter.timeframes,
        flush_interval_s=settings.captures.flush_interval_s,
    )
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.stop())
        loop.wake_on_signals()
        if minutes is not None:
            loop.after(minutes * 60, loop.stop)
        loop.every(CHECK_S, lambda: _stop_if_refused(recorder))
        loop.every(CHECK_S, lambda: _stop_if_low(out, settings.captures.min_free_mb))
        click.echo("Ctrl-C ends the recording.")
        loop.run()
        writer.close()
    finally:
        writer.abandon()
        recorder.close()
        loop.close()
    for path in writer.paths:
        click.echo(f"{path}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(recorder.frames.items())) or "nothing: is it running?"
    click.echo(f"{writer.records} records: {kinds}")


def _stop_if_low(out: Path, min_free_mb: int) -> None:
    # A capture can be done without, the journal and the store beside it cannot.
    free_mb = shutil.disk_usage(out).free // 1_000_000 if out.exists() else min_free_mb
    if free_mb < min_free_mb:
        raise OSError(
            errno.ENOSPC,
            f"the recording ended: {free_mb} MB are free on the disk of {out}, [captures] min_free_mb is {min_free_mb}",
        )


def _stop_if_refused(recorder: Recorder) -> None:
    if recorder.refused:
        raise AuthenticationFailed("the adapter refuses the recorder's key: it was revoked, or the keys were made anew")
