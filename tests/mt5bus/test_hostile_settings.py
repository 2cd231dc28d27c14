"""Values that no setting may have, for every setting there is or will be: derived from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from mt5bus import config
from mt5bus.errors import ConfigError
from mt5bus.secret import Secret
from mt5bus.settings import Settings

# As TOML: a number that is none, one too large, texts that hide or turn what stands beside them.
NUMBERS = ["nan", "+inf", "-inf", "-nan", '"1"', "true", "[]"]
WHOLE = ["-9223372036854775808", "1.5", '"1"', "true", "nan"]
TEXTS = [r'"a\u0000b"', r'"a\nb"', r'"a\u202eb"', r'"\u200b"', r'"\u001b[2J"', "7", "[]"]
SWITCHES = ["1", '"true"']


def settings(struct: type[msgspec.Struct], section: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield section, name and bare type of every setting."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = bare(hints[field.name])
        name = field.encode_name
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from settings(hint, f"{section}.{name}".lstrip("."))
        elif get_origin(hint) is tuple and issubclass(item := bare(get_args(hint)[0]), msgspec.Struct):
            yield from settings(item, f"[{name}]")
        else:
            yield section, name, hint


def bare(hint: Any) -> Any:
    """Return a type without annotations and without None."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in {Union, UnionType}:
        return bare(next(part for part in get_args(hint) if part is not type(None)))
    return hint


def hostile(hint: Any) -> list[str]:
    """Return values as TOML that a setting of this type refuses."""
    if hint is float:
        return NUMBERS
    if hint is bool:
        return SWITCHES
    if hint is int:
        return WHOLE
    if hint is Secret:
        return ["7", "[]"]  # a password may have any sign
    if get_origin(hint) is tuple:
        return [f"[{text}]" for text in TEXTS]
    if get_origin(hint) is dict:
        return ["7", "[]"] + ([] if get_args(hint)[1] is Any else [f"{{a = {text}}}" for text in TEXTS])
    return TEXTS


@pytest.mark.parametrize(("section", "name", "hint"), list(settings(Settings)), ids=str)
def test_hostile_values_are_refused_by_the_keys_name(tmp_path: Path, section: str, name: str, hint: Any) -> None:
    path = tmp_path / "mt5bus.toml"
    for value in hostile(hint):
        heading = f"[{section}]\n" if section else ""
        path.write_text(f"{heading}{name} = {value}\n", encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            config.load(tmp_path, path, environ={}, keyring_lookup=lambda *_: None)
        assert name in str(caught.value), value
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["nan", r'"a\u202eb"', '{a = [{b = "\\u0000"}]}'])
def test_a_strategys_parameters_are_held_to_the_same(tmp_path: Path, value: str) -> None:
    path = tmp_path / "mt5bus.toml"
    path.write_text(f"[[strategy]]\nparams = {{threshold = {value}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="threshold"):
        config.load(tmp_path, path, environ={})


@pytest.mark.parametrize("variable", [variable for variable, _, parse in config._VARIABLES if parse is not str])
@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e999", "1_0", "١٢", "0x10", "1 2", "1\x00", "9" * 5000, " "])
def test_variables_take_plain_numbers_only(tmp_path: Path, variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        config.load(tmp_path, environ={variable: text})
