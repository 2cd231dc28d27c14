"""`python -m tests.fuzz`: the long run. Decoders first, then a running system; each line a figure."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.fuzz import decoders, guided, live
from tests.fuzz.live import Outcome


@click.command()
@click.option("--frames", default=1_000_000, show_default=True, help="To the decoders, and as many to the ports.")
@click.option("--connections", default=10_000, show_default=True, help="Without a key, over all five ports.")
@click.option("--held", default=200, show_default=True, help="Connections held open at each port meanwhile.")
@click.option("--guided-runs", default=0, show_default=True, help="Also coverage-guided, with Atheris.")
@click.option("--guided-only", is_flag=True, hidden=True)
@click.option("--seed", default=1, show_default=True)
def fuzz(frames: int, connections: int, held: int, guided_runs: int, *, guided_only: bool, seed: int) -> None:
    """Feed malformed frames to every decoder and to the ports of a running system; exit 0 if nothing came of it."""
    with tempfile.TemporaryDirectory(prefix="mt5bus-fuzz-") as folder:
        if guided_only:
            guided.run(guided_runs, Path(folder) / "corpus")
        decoded = decoders.run(frames, seed)
        said = ", ".join(f"{count:,} {what}" for what, count in decoded.outcomes.most_common())
        click.echo(f"decoders: {decoded.frames:,} frames in {decoded.seconds:.0f} s: {said}")
        if guided_runs:
            _guided(guided_runs)
        with live.running(Path(folder)) as target:
            outcome = live.attack(target, frames=frames, connections=connections, held=held, seed=seed)
            for line in lines(outcome):
                click.echo(line)
            live.replay_order(target, times=10_000)
            click.echo("replay: one order's frame sent 10,000 times under its owner's key took effect once")


def lines(outcome: Outcome) -> list[str]:
    """Return an outcome in words."""
    before, after = outcome.before, outcome.after
    return [
        f"ports: {outcome.sent:,} frames under sound keys ({outcome.answers:,} answered),"
        f" {outcome.connections:,} connections without one, in {outcome.seconds:.0f} s",
        f"slowest answer to an honest client meanwhile: {outcome.slowest_answer_s * 1000:.0f} ms",
        *[
            f"{name}: {before.memory_mb[name]:.0f} -> {after.memory_mb[name]:.0f} MB,"
            f" {before.files[name]} -> {after.files[name]} open files"
            for name in after.memory_mb
        ],
        f"log lines: {after.log_lines - before.log_lines}",
        "turned away: " + ", ".join(f"{count:,} {name}" for name, count in outcome.doors.items()),
    ]


def _guided(runs: int) -> None:
    if not guided.available():
        click.echo("guided: skipped, Atheris is not installed (pip install atheris)")
        return
    command = [sys.executable, "-m", "tests.fuzz", "--guided-only", "--guided-runs", str(runs)]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", errors="replace")
    last = [line for line in done.stderr.splitlines() if line.startswith("Done")][-1:] or ["it did not end"]
    click.echo(f"guided: {last[0]}")
    if done.returncode:
        raise click.ClickException(f"an input let something out:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    fuzz()
