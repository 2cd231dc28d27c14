"""`mt5bus config`: the effective configuration, each value with its source, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from mt5bus import config as configuration
from mt5bus.options import common_options, load, one_line_errors
from mt5bus.settings import Settings


@click.command("config")
@common_options
@click.option("--json", "as_json", is_flag=True, help="As JSON: key to value and source.")
@click.option("--describe", is_flag=True, help="List every key with its default, range and meaning.")
def config(home: Path | None, config: Path | None, *, as_json: bool, describe: bool) -> None:
    """Show the effective configuration, each value with its source."""
    if describe:
        for line in described():
            click.echo(line)
        return
    with one_line_errors():
        loaded = load(home, config, password=True)
    values = configuration.effective(loaded.settings)
    if as_json:
        document = {key: {"value": value, "source": loaded.sources[key]} for key, value in values.items()}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"# home {loaded.home.path}")
    click.echo(f"# file {loaded.file or 'none: defaults only'}")
    width = max(len(key) + len(json.dumps(value)) for key, value in values.items() if value != {}) + 3
    for key, value in values.items():
        assignment = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        click.echo(f"{assignment:<{min(width, 60)}}  # {loaded.sources[key]}")


def described() -> Iterator[str]:
    """Yield one line for every key: name, default, range and meaning, by section."""
    (root,), parts = msgspec.json.schema_components([Settings], schema_hook=_secret_schema)
    by_reference = {f"#/$defs/{name}": part for name, part in parts.items()}
    yield from _section(by_reference[root["$ref"]], by_reference, "")


def _secret_schema(_: type) -> dict[str, object]:
    return {"type": "string"}


def _section(part: dict[str, Any], parts: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, schema in part["properties"].items():
        inner = _struct(schema, parts)
        if inner is not None:
            yield ""
            array = schema.get("type") == "array"
            yield f"[[{prefix}{name}]]" if array else f"[{prefix}{name}]"
            yield from (f"# {line}" for line in inner["description"].splitlines()[:1])
            yield from _section(inner, parts, f"{prefix}{name}.")
        else:
            yield f"{name} = {json.dumps(schema.get('default', ''))}  # {_meaning(schema)}"


def _struct(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any] | None:
    schema = schema.get("items") or schema
    reference = schema.get("$ref") or next((any_["$ref"] for any_ in schema.get("allOf", ()) if "$ref" in any_), None)
    found = parts.get(reference or "")
    return found if found is not None and "properties" in found else None


def _meaning(schema: dict[str, Any]) -> str:
    inner = next((any_ for any_ in schema.get("anyOf", ()) if any_.get("type") != "null"), schema)
    words = [schema.get("description", "")]
    low = inner.get("minimum", inner.get("exclusiveMinimum"))
    high = inner.get("maximum")
    if "enum" in inner:
        words.append(f"(one of {', '.join(inner['enum'])})")
    elif low is not None and high is not None:
        words.append(f"({low} to {high})")
    elif low is not None:
        words.append(f"(above {low})" if "exclusiveMinimum" in inner else f"(from {low})")
    return " ".join(word for word in words if word)
