"""Loading a strategy's class by name, and its parameters from the configuration.

``package.module:Class`` is imported; ``path/to/file.py:Class`` is run as a module of its own (the configuration makes
the path absolute: it is relative to the configuration file). The file's folder is put last on the import path, so that
it can import its neighbours and shadow nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from mt5bus.errors import ConfigError
from mt5bus.settings import StrategySettings
from strategy.sdk import Strategy


def load_strategy(settings: StrategySettings) -> Strategy:
    """Return the configured strategy with its parameters set.

    Raises:
        ConfigError: The class cannot be found, is no strategy, or a parameter is unknown or wrong.
    """
    where = f"strategy {settings.name!r}"
    try:
        found = load_class(settings.class_path)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return _make(found, _parameters(found, settings.params, where))


def load_class(class_path: str) -> type[Strategy]:
    """Return the class that `class_path` names.

    Raises:
        ConfigError: There is no such module, file or class, it fails to import, or it is no `Strategy`.
    """
    place, _, name = class_path.rpartition(":")
    module = _run_file(Path(place)) if place.endswith(".py") else _import(place)
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(f"there is no class {name!r} in {place}")
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ConfigError(f"{class_path} is no strategy: derive the class from strategy.Strategy")
    return found


def restore(found: type[Strategy], parameters: bytes) -> Strategy:
    """Return a strategy with the parameters that `packed_parameters` gave.

    Raises:
        ConfigError: The class takes other parameters by now.
    """
    try:
        return _make(found, msgspec.msgpack.decode(parameters, type=found.Parameters))
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{found.__qualname__} no longer takes the logged parameters: {error}") from error


def packed_parameters(strategy: Strategy) -> bytes:
    """Return the effective parameters as MessagePack, by name."""
    return msgspec.msgpack.encode(strategy.parameters)


def _make(found: type[Strategy], parameters: Strategy.Parameters) -> Strategy:
    # Set before __init__ runs, so that a constructor may already use them.
    strategy = found.__new__(found)
    strategy.parameters = parameters
    strategy.__init__()  # type: ignore[misc]
    return strategy


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {name!r}: for a file of your own write path/to/file.py:Class"
            ) from error
        raise ConfigError(f"{name} needs the package {missing!r}, which is absent: install it") from error
    except Exception as error:
        raise ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> ModuleType:
    path = path.absolute()
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    # Two files of one name in two folders stay two modules.
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = f"user_strategy_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    # Known under its name while it runs: annotations of its structs are looked up there.
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _parameters(found: type[Strategy], given: Mapping[str, Any], where: str) -> Strategy.Parameters:
    try:
        return msgspec.convert(dict(given), found.Parameters)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_one_line(error, found, given)}") from None


def _one_line(error: msgspec.ValidationError, found: type[Strategy], given: Mapping[str, Any]) -> str:
    message, _, path = str(error).partition(" - at `")
    unknown = re.search(r"unknown field `(.*)`", message)
    known = [field.encode_name for field in msgspec.structs.fields(found.Parameters)]
    if unknown:
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{found.__name__} takes {', '.join(known) or 'none'}"
        return f"unknown parameter {unknown[1]!r}; {hint}"
    key = path.removesuffix("`").removeprefix("$").removeprefix(".")
    value = f", got {given[key]!r}" if key in given else ""
    return f"parameter {key!r}: {message[:1].lower()}{message[1:]}{value}" if key else message
