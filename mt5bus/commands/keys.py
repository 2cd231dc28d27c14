"""`mt5bus keys`: list the Curve keys of a home, add, revoke, and hand them to other machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from mt5bus import key_files
from mt5bus.home import Home
from mt5bus.options import common_options, one_line_errors
from protocol.errors import BusError
from protocol.keys import STANDARD_ROLES, KeyStore, PublicEntry, fingerprint
from protocol.sightings import Sighting, newest, read_sightings
from protocol.zap import RECHECK_S

_SEEN_FILES = "seen-*.json"


class Row(msgspec.Struct, frozen=True):
    """A key as it is listed. Times are UTC milliseconds, 0 = never."""

    name: str
    roles: tuple[str, ...]
    fingerprint: str
    state: str
    last_seen_ms: int
    where: str


@click.group("keys")
@common_options
def keys(home: Path | None, config: Path | None) -> None:
    """List the keys that open the bus, add, revoke, and take in keys of another machine."""


@keys.command("list")
@common_options
@click.option("--json", "as_json", is_flag=True, help="As JSON: keys, and who was refused.")
def list_keys(home: Path | None, config: Path | None, *, as_json: bool) -> None:  # noqa: ARG001
    """Show every key: roles, fingerprint, when and where it was last seen; and who was refused."""
    with one_line_errors(OSError):
        where = _home(home)
        store = key_files.store_of(where)
        seen = [sighting for path in sorted(where.run.glob(_SEEN_FILES)) for sighting in read_sightings(path)]
        rows = list(_rows(store, seen))
        refused = [sighting for sighting in seen if sighting.reason]
        damaged = store.damaged()
    if as_json:
        document = {"keys": msgspec.to_builtins(rows), "refused": [_refusal(each) for each in refused]}
        click.echo(json.dumps(document, indent=2))
        return
    _table([
        ("name", "roles", "fingerprint", "state", "last seen (UTC)", "where"),
        *[
            (row.name, ",".join(row.roles) or "-", row.fingerprint, row.state, _time(row.last_seen_ms), row.where)
            for row in rows
        ],
    ])
    for path in damaged:
        name = path.name.partition(".")[0]
        click.echo(f"{path} is damaged and admits nobody: 'mt5bus keys add {name}' makes a new pair")
    if refused:
        click.echo("refused:")
        _table([
            ("fingerprint", "reason", "at", "times", "last (UTC)", "from"),
            *[
                (fingerprint(each.public), each.reason, each.role, str(each.count), _time(each.time_ms), each.address)
                for each in refused
            ],
        ])


@keys.command("add")
@common_options
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(key_files.GRANTED_ROLES), help="May be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write key pair and server keys into this file, for another machine; only its owner can read it.",
)
def add(home: Path | None, config: Path | None, name: str, roles: tuple[str, ...], out: Path | None) -> None:  # noqa: ARG001
    """Make the key NAME and admit it at once; also the way back for a standard key that is lost or damaged."""
    with one_line_errors():
        entry = key_files.add(_home(home), name, roles, out=out)
    click.echo(f"added {name}: {', '.join(entry.roles) or 'no roles'}, fingerprint {fingerprint(entry.public)}")
    if out is not None:
        click.echo(f"{out} holds its secret: carry it over a safe way, take it in with 'mt5bus keys import', delete it")
    elif name in STANDARD_ROLES:
        click.echo("A node of this name that runs has its old key until it is started anew.")


@keys.command("revoke")
@common_options
@click.argument("name")
def revoke(home: Path | None, config: Path | None, name: str) -> None:  # noqa: ARG001
    """Take every role from the key NAME: running nodes refuse it at once, connections that stand included."""
    with one_line_errors():
        entry = key_files.revoke(_home(home), name)
    click.echo(f"revoked {name}, fingerprint {fingerprint(entry.public)}: refused from now on, within {RECHECK_S:g} s")
    if name in key_files.SERVERS:
        click.echo(f"It is the {name}'s own key: stop the system, 'mt5bus keys add {name}', start it again")


@keys.command("import")
@common_options
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
def take_in(home: Path | None, config: Path | None, bundle: Path) -> None:  # noqa: ARG001
    """Put the file that `keys add --out` wrote on another machine into this home."""
    with one_line_errors(BusError):
        where = _home(home)
        found = key_files.take_in(where, bundle)
    click.echo(f"{where.keys} has the key {found.name}: {', '.join(found.roles)}. Delete {bundle}")


def _home(named: Path | None) -> Home:
    """Return the home named after the subcommand, else before it, else the usual one."""
    parent = click.get_current_context().parent
    return Home.find(named or (parent.params.get("home") if parent is not None else None))


def _rows(store: KeyStore, seen: list[Sighting]) -> Iterator[Row]:
    for entry in store.entries():
        last = newest(each for each in seen if each.public == entry.public and not each.reason)
        yield Row(
            name=entry.name,
            roles=entry.roles,
            fingerprint=fingerprint(entry.public),
            state=_state(store, entry),
            last_seen_ms=last.time_ms if last is not None else 0,
            where=f"{last.address} at {last.role}" if last is not None else "-",
        )


def _state(store: KeyStore, entry: PublicEntry) -> str:
    if entry.revoked_ms:
        return "revoked"
    if entry.imported:
        return "remote"
    return "local" if store.secret_path(entry.name).exists() else "secret lost"


def _refusal(sighting: Sighting) -> dict[str, object]:
    return {
        "fingerprint": fingerprint(sighting.public),
        "reason": sighting.reason,
        "role": sighting.role,
        "count": sighting.count,
        "last_ms": sighting.time_ms,
        "address": sighting.address,
    }


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if time_ms else "never"


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
