"""`mt5bus halt`, `resume`, `risk`, `arm`, `disarm`, `orders` and `settle`: what an operator tells and asks the desk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from broker_adapter import risk_view
from mt5bus.connect import connect
from mt5bus.options import common_options, one_line_errors
from protocol.client import BusClient
from protocol.errors import BusError
from protocol.messages import UnsettledOrder

_LOOK_S = 0.2


@click.command("halt")
@common_options
@click.option("--flatten", is_flag=True, help="Also close every position and remove every pending order of ours.")
@click.option("--reducing", is_flag=True, help="Let strategies go on closing: only new exposure is stopped.")
@click.option("--reason", default="", help="Goes into the event log.")
@click.option(
    "--wait-s",
    type=click.FloatRange(min=0, max=86_400),
    default=30.0,
    show_default=True,
    help="With --flatten: how long to wait until all is closed. The adapter goes on by itself after that.",
)
def halt(home: Path | None, config: Path | None, *, flatten: bool, reducing: bool, reason: str, wait_s: float) -> None:
    """Stop new orders until `mt5bus resume`, also over restarts."""
    mode = "reducing" if reducing else "halted"
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.set_mode(mode, reason=reason, flatten=flatten))
        if flatten:
            _wait_until_flat(client, wait_s)


def _wait_until_flat(client: BusClient, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while left := client.risk().flatten:
        if time.monotonic() >= until:
            for text in left:
                click.echo(text)
            raise click.ClickException(
                f"not everything is closed after {wait_s:g} s: the adapter goes on trying, 'mt5bus risk' shows what is"
                " left"
            )
        time.sleep(_LOOK_S)
    click.echo("everything of ours is closed")


@click.command("resume")
@common_options
@click.option("--reason", default="", help="Goes into the event log.")
@click.option("--strategy", default="", help="Only lift what the silence of this strategy stopped.")
def resume(home: Path | None, config: Path | None, *, reason: str, strategy: str) -> None:
    """Allow orders again."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.resume(reason, strategy=strategy))


@click.command("risk")
@common_options
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def risk(home: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show every limit with what is held against it and what is left, and what stands against orders now."""
    with one_line_errors(BusError), _client(home, config) as client:
        report = client.risk()
    if as_json:
        click.echo(json.dumps(risk_view.plain(report), indent=2))
        return
    for line in risk_view.lines(report):
        click.echo(line)


@click.command("arm")
@common_options
@click.option("--login", type=click.IntRange(min=1), required=True, help="Number of the real account.")
def arm(home: Path | None, config: Path | None, *, login: int) -> None:
    """Allow orders on a real account: without this it is only observed."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.arm(login))


@click.command("disarm")
@common_options
@click.option("--login", type=click.IntRange(min=1), required=True, help="Number of the account.")
def disarm(home: Path | None, config: Path | None, *, login: int) -> None:
    """Forbid orders on a real account again."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.arm(login, armed=False))


@click.command("orders")
@common_options
def orders(home: Path | None, config: Path | None) -> None:
    """List our orders without an outcome, and those watched for a late fill, each with what the account shows."""
    with one_line_errors(BusError), _client(home, config) as client:
        found = client.unsettled()
    for line in _listed(found):
        click.echo(line)


@click.command("settle")
@common_options
@click.argument("order_id", metavar="ID")
@click.option("--as", "outcome", type=click.Choice(["done", "not-executed"]), required=True, help="What became of it.")
@click.option("--reason", default="", help="Goes into the event log.")
def settle(home: Path | None, config: Path | None, *, order_id: str, outcome: str, reason: str) -> None:
    """End an unknown or ambiguous order by your word. Look into the terminal first."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.settle(order_id, outcome.replace("-", "_"), reason=reason))


def _listed(found: tuple[UnsettledOrder, ...]) -> Iterator[str]:
    if not found:
        yield "every order has its outcome"
    for order in found:
        it = order.outcome
        made = datetime.fromtimestamp(order.created_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
        what = " ".join(part for part in (it.action, it.side, f"{it.volume:g}" if it.volume else "", it.symbol) if part)
        yield f"{it.client_order_id}  {it.state}  {what}  {it.strategy or '-'}  {made}"
        names = {"position": it.position, "order": it.order, "deal": it.deal, "magic": order.magic}
        yield f"    sent as    {', '.join(f'{n} {v}' for n, v in names.items() if v)}, comment {order.comment}"
        yield f"    account    {order.evidence}"
        yield f"    waits for  {order.waits_for}"


def _client(home: Path | None, config: Path | None) -> BusClient:
    return connect(home, config)
