"""The configuration: file, environment and keyring merged, each value with its source.

Later wins: defaults, the file, the environment, the keyring (which only ever gives the password, and only
where nothing else did). The file is `--config`, else `MT5BUS_CONFIG`, else `mt5bus.toml` in the home, else
the checkout's `mt5bus.toml` beside the packages, else none. See docs/decisions/0003.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mt5bus import handover
from mt5bus.errors import ConfigError
from mt5bus.handover import PASSWORD_VARIABLE
from mt5bus.home import Home
from mt5bus.secret import MASK, Secret
from mt5bus.settings import PAPER_API, Settings

FILE_NAME = "mt5bus.toml"
KEYRING_SERVICE = "mt5bus"
PASSWORD_KEY = "terminal.password"  # noqa: S105  the name of the key, not a password
DEFAULT = "default"
_SECRET_NAME = re.compile(r"(password|passwd|secret|token|api_?key)$", re.IGNORECASE)
"""Names of settings that are shown masked, those of a strategy's own parameters included."""
_URL_PASSWORD = re.compile(r"(://[^/:@]*:).*(@)|([?&][a-z]*password=)[^&]*", re.IGNORECASE)

_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")

# Variable, dotted key, and how its text becomes the value.
_VARIABLES: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("MT5_LOGIN", "terminal.login", int),
    (PASSWORD_VARIABLE, PASSWORD_KEY, str),
    ("MT5_SERVER", "terminal.server", str),
    ("MT5_PATH", "terminal.path", str),
    ("MT5_TIMEOUT_MS", "terminal.timeout_ms", int),
    ("MT5_MAX_RETRIES", "adapter.connection.max_retries", int),
    ("MT5_RETRY_DELAY", "adapter.connection.retry_delay_s", float),
    ("MT5_HEALTH_CHECK_INTERVAL", "adapter.connection.health_check_interval_s", float),
    ("MT5BUS_PORT", "bus.port", int),
)

# What was in MT5_PASSWORD when this process began, if `hide_password` took it away from there.
_hidden = Secret()

KeyringLookup = Callable[[str, str], str | None]


class Loaded(msgspec.Struct, frozen=True):
    """The effective configuration and where it came from."""

    home: Home
    file: Path | None
    """The file it was read from; None: no file anywhere."""
    settings: Settings
    sources: dict[str, str]
    """Dotted key of every value to 'default', 'file PATH', 'environment NAME' or 'keyring SERVICE'."""


def hide_password() -> None:
    """Take `MT5_PASSWORD` out of sight and keep it for `load`; a command calls it first thing.

    On Linux and macOS the program starts anew without the variable, so this does not return where it is set.
    """
    global _hidden  # noqa: PLW0603  one process has one environment
    _hidden = handover.hide_password_variable()


def load(
    home: Path | None = None,
    file: Path | None = None,
    *,
    password: bool = False,
    environ: Mapping[str, str] | None = None,
    keyring_lookup: KeyringLookup | None = None,
) -> Loaded:
    """Read and check the whole configuration.

    Args:
        home: The home folder; None: `MT5BUS_HOME` or the platform's local data folder. It need not exist.
        file: The configuration file; None: the first found of those the module names.
        password: Keep the password in the result. Only who logs in, or hands it to who does, asks for it.
        environ: Stands in for `os.environ`.
        keyring_lookup: Stands in for `keyring.get_password`.

    Raises:
        ConfigError: A named file is missing or is no TOML, a key is unknown, a value is out of range.
    """
    if environ is None:
        environ = os.environ
        if _hidden:
            environ = {**environ, PASSWORD_VARIABLE: _hidden.reveal()}
    where = Home.find(home, environ=environ)
    found = find_file(where, file, environ=environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if found is not None:
        values = _read(found)
        sources = {key: f"file {found}" for key, _ in _leaves(values)}
    origin = str(found) if found is not None else "the defaults"
    settings = _convert(values, origin)
    values, environment_sources = _with_environment(values, environ)
    sources |= environment_sources
    if environment_sources:
        settings = _convert(values, "the environment", sources=environment_sources)
    if password and not settings.terminal.password and settings.terminal.login is not None:
        stored = (keyring_lookup or _keyring_password)(KEYRING_SERVICE, str(settings.terminal.login))
        if stored:
            settings = with_password(settings, Secret(stored))
            sources[PASSWORD_KEY] = f"keyring {KEYRING_SERVICE}"
    if not password:
        settings = with_password(settings, Secret())
    settings = _with_absolute_paths(settings, found)
    _check_together(settings, origin)
    defaults = {key: DEFAULT for key, _ in _leaves(_plain(settings))}
    return Loaded(home=where, file=found, settings=settings, sources=defaults | sources)


def with_password(settings: Settings, password: Secret) -> Settings:
    """Return the settings with this password in place of theirs."""
    terminal = msgspec.structs.replace(settings.terminal, password=password)
    return msgspec.structs.replace(settings, terminal=terminal)


def find_file(home: Home, named: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the absolute path of the configuration file, or None where there is none.

    Raises:
        ConfigError: A file was named, by argument or by `MT5BUS_CONFIG`, and is not there.
    """
    environ = os.environ if environ is None else environ
    variable = environ.get("MT5BUS_CONFIG")
    if named is not None or variable:
        path = (named if named is not None else Path(variable or "")).expanduser().absolute()
        if not path.is_file():
            by = "--config" if named is not None else "MT5BUS_CONFIG"
            raise ConfigError(f"there is no configuration file {path} ({by}): check the path, or leave it out")
        return path
    checkout = Path(__file__).resolve().parent.parent / FILE_NAME
    return next((path for path in (home.path / FILE_NAME, checkout) if path.is_file()), None)


def paper_folder(loaded: Loaded) -> Path:
    """Return the folder of the paper terminal, absolute."""
    named = loaded.settings.terminal.path
    return Path(named).expanduser().absolute() if named else loaded.home.terminal


def effective(settings: Settings) -> dict[str, object]:
    """Return every value by its dotted key, secrets masked, in the schema's order."""
    return {key: _masked(key, value) for key, value in _leaves(_plain(settings))}


def _masked(dotted: str, value: object) -> object:
    if _SECRET_NAME.search(dotted.rpartition(".")[2]):
        return MASK if value else ""
    return _URL_PASSWORD.sub(rf"\1\3{MASK}\2", value) if isinstance(value, str) else value


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _with_environment(values: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    merged = dict(values)
    sources: dict[str, str] = {}
    for variable, key, parse in _VARIABLES:
        text = environ.get(variable)
        if not text:
            continue
        try:
            # Python's own readers also take digits of other scripts, and underscores.
            value = parse(text if parse is str or _PLAIN_NUMBER.fullmatch(text.strip()) else "")
        except ValueError:
            kind = "a whole number" if parse is int else "a number"
            raise ConfigError(f"environment variable {variable}: {text!r} is not {kind}") from None
        _put(merged, key.split("."), value)
        sources[key] = f"environment {variable}"
    return merged, sources


def _put(table: dict[str, Any], words: list[str], value: object) -> None:
    for word in words[:-1]:
        inner = table.get(word)
        table[word] = dict(inner) if isinstance(inner, dict) else {}
        table = table[word]
    table[words[-1]] = value


def _convert(values: Mapping[str, Any], origin: str, *, sources: Mapping[str, str] | None = None) -> Settings:
    try:
        return msgspec.convert(values, Settings, dec_hook=_decode_secret)
    except msgspec.ValidationError as error:
        raise ConfigError(_one_line(str(error), values, origin, sources or {})) from None


def _decode_secret(wanted: type, value: object) -> object:
    if wanted is not Secret:
        raise NotImplementedError(wanted)
    if not isinstance(value, str):
        # The value is never named: it may be the password without its quotes.
        raise TypeError("Expected `str`: put the password in quotes")
    return Secret(value)


def _one_line(text: str, values: Mapping[str, Any], origin: str, sources: Mapping[str, str]) -> str:
    message, _, path = text.partition(" - at `")
    section = path.removesuffix("`").removeprefix("$").removeprefix(".").replace("[...]", "")
    unknown = re.search(r"unknown field `(.*)`", message)
    if unknown:
        key = f"{section}.{unknown[1]}" if section else unknown[1]
        return f"{origin}: unknown key '{key}'{_suggestion(section, unknown[1])}"
    value = "" if section == PASSWORD_KEY else _shown(section, _look_up(values, section))
    source = sources.get(section)
    where = source.replace("environment", "environment variable") if source else f"{origin}: key '{section}'"
    return f"{where}: {message[:1].lower()}{message[1:]}{value}"


def _suggestion(section: str, wrong: str) -> str:
    node: Any = _plain(Settings())
    for word in re.sub(r"\[\d+\]", ".0", section).split("."):
        if word:
            node = node[int(word)] if isinstance(node, list | tuple) else node.get(word, {})
    near = difflib.get_close_matches(wrong, list(node), n=1)
    return f"; did you mean '{near[0]}'?" if near else "; 'mt5bus config --describe' lists the keys"


def _look_up(values: Any, dotted: str) -> object:
    for word in re.sub(r"\[(\d+)\]", r".\1", dotted).split("."):
        if isinstance(values, dict):
            values = values.get(word)
        elif isinstance(values, list) and word.isdigit():
            values = values[int(word)]
    return values


def _shown(dotted: str, value: object) -> str:
    return "" if isinstance(value, dict | list) or value is None else f", got {_masked(dotted, value)!r}"


def _plain(settings: Settings) -> Any:
    return msgspec.to_builtins(settings, enc_hook=str)


def _leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and (value or not prefix):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}[{index}]")
    else:
        yield prefix, value


def _with_absolute_paths(settings: Settings, file: Path | None) -> Settings:
    """Make the paths of strategy and feed files absolute: beside the configuration file, not the caller's folder."""
    base = file.parent if file is not None else Path.cwd()
    strategies = []
    for strategy in settings.strategy:
        where, _, name = strategy.class_path.rpartition(":")
        if where.endswith(".py"):
            path = (base / Path(where).expanduser()).absolute()
            strategy = msgspec.structs.replace(strategy, class_path=f"{path}:{name}")
        strategies.append(strategy)
    paper = settings.paper | _absolute_feed(settings.paper.get("feed"), base)
    return msgspec.structs.replace(settings, strategy=tuple(strategies), paper=paper)


def _absolute_feed(feed: object, base: Path) -> dict[str, object]:
    # The paper terminal reads its table from a file of its own, in another folder. What is not a feed as it
    # knows it is left for it to refuse.
    if not isinstance(feed, dict) or not isinstance(feed.get("files"), list):
        return {}
    files = []
    for entry in feed["files"]:
        for key in ("paths", "ask_paths"):
            if isinstance(entry, dict) and isinstance(entry.get(key), list):
                paths = [str((base / Path(path).expanduser()).absolute()) for path in map(str, entry[key])]
                entry = {**entry, key: paths}
        files.append(entry)
    return {"feed": {**feed, "files": files}}


def _check_together(settings: Settings, origin: str) -> None:
    """Refuse values that are fine alone but not with each other."""
    for problem in (*_unusable(settings), *_contradictions(settings)):
        raise ConfigError(f"{origin}: {problem}")


def _unusable(settings: Settings) -> Iterator[str]:
    """Yield what no setting may be: a limit that is no number holds nothing back, a hidden sign misleads."""
    for key, leaf in _leaves(_plain(settings)):
        for value in leaf if isinstance(leaf, list | tuple) else (leaf,):
            own = ".params." in f".{key}." or key.startswith("paper.")
            if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not own)):
                yield f"key '{key}': {value!r} is not a number"
            if isinstance(value, str) and not value.isprintable() and key != PASSWORD_KEY:
                yield f"key '{key}': {value[:40]!a} has characters that do not show"


def _contradictions(settings: Settings) -> Iterator[str]:
    terminal, adapter = settings.terminal, settings.adapter
    if terminal.clock == "feed" and terminal.api_module != PAPER_API:
        yield f"key 'terminal.clock': 'feed' is only for the paper terminal, not for {terminal.api_module}"
    if terminal.kind == "mt5" and terminal.manage and not terminal.path:
        yield "key 'terminal.path' is needed: the path of terminal64.exe (or set terminal.manage = false)"
    if terminal.kind == "mt5" and terminal.manage and not Path(terminal.path).is_file():
        yield f"key 'terminal.path': there is no file {terminal.path}"
    for index, strategy in enumerate(settings.strategy):
        key = f"strategy[{index}]"
        others = settings.strategy[:index]
        if strategy.name in {other.name for other in others}:
            yield f"key '{key}.name': two strategies are called {strategy.name!r}"
        if strategy.number in {other.number for other in others}:
            yield f"key '{key}.number': {strategy.number} is used by another strategy"
        if strategy.timeframe not in adapter.timeframes:
            yield f"key '{key}.timeframe': {strategy.timeframe} is not in adapter.timeframes"
        for symbol in strategy.symbols:
            if symbol not in adapter.symbols:
                yield f"key '{key}.symbols': {symbol} is not in adapter.symbols"
        path, _, _ = strategy.class_path.rpartition(":")
        if path.endswith(".py") and not Path(path).is_file():
            yield f"key '{key}.class': there is no file {path}"


def _keyring_password(service: str, user: str) -> str | None:
    try:
        import keyring
        from keyring.errors import KeyringError, NoKeyringError
    except ImportError:
        return None  # the extra is not installed: then there is no password in it either
    try:
        return keyring.get_password(service, user)
    except NoKeyringError:
        return None  # a machine without one, such as a server: the terminal may be logged in already
    except KeyringError as error:
        raise ConfigError(f"the system keyring cannot be read ({error}): set MT5_PASSWORD instead") from error
    except Exception as error:  # a backend is somebody else's plug-in: whatever it raises, there is no password
        kind = type(error).__name__
        raise ConfigError(f"the keyring's backend does not work ({kind}): set MT5_PASSWORD instead") from error
