"""The configuration: merging, sources, and every refusal in one line that names file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mt5bus import config
from mt5bus.config import Loaded
from mt5bus.errors import ConfigError
from mt5bus.home import Home
from mt5bus.secret import MASK, Secret
from mt5bus.settings import Settings

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def load(tmp_path: Path, file: Path | None, *, password: bool = False, **environ: str) -> Loaded:
    return config.load(
        tmp_path / "home", file, environ=environ, password=password, keyring_lookup=lambda service, user: None
    )


def load_with(tmp_path: Path, environ: dict[str, str]) -> Loaded:
    return config.load(tmp_path / "home", environ=environ)


def test_each_value_tells_where_it_comes_from(tmp_path: Path, write: Write) -> None:
    file = write('[bus]\nport = 20000\n[terminal]\nserver = "A"\n[adapter.risk]\nmax_positions = 3\n')
    loaded = load(tmp_path, file, MT5_SERVER="B", MT5_LOGIN="77", MT5_RETRY_DELAY="2.5")
    settings = loaded.settings
    assert (settings.bus.port, settings.terminal.server, settings.terminal.login) == (20000, "B", 77)
    assert settings.adapter.connection.retry_delay_s == 2.5
    assert settings.adapter.risk.max_positions == 3
    assert loaded.sources["bus.port"] == f"file {file}"
    assert loaded.sources["terminal.server"] == "environment MT5_SERVER"
    assert loaded.sources["adapter.connection.retry_delay_s"] == "environment MT5_RETRY_DELAY"
    assert loaded.sources["bus.host"] == "default"
    assert set(config.effective(settings)) <= set(loaded.sources)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[bus]\nprot = 1", "unknown key 'bus.prot'; did you mean 'port'?"),
        ("[bus]\nport = 80", "key 'bus.port': expected `int` >= 1024, got 80"),
        ('[bus]\nport = "x"', "key 'bus.port': expected `int`, got `str`, got 'x'"),
        ("[nothing]", "unknown key 'nothing'; 'mt5bus config --describe' lists the keys"),
        ("[[strategy]]\nnane = 'x'", "unknown key 'strategy[0].nane'; did you mean 'name'?"),
        ("[adapter.deadlines]\nquery_s = 0", "key 'adapter.deadlines.query_s': expected `float` > 0.0, got 0"),
        ("[terminal]\nkind = 'other'", "key 'terminal.kind': invalid enum value 'other', got 'other'"),
        ("[[strategy]]\ntimeframe = 'M2'", "key 'strategy[0].timeframe': M2 is not in adapter.timeframes"),
        ("[[strategy]]\nsymbols = ['X']", "key 'strategy[0].symbols': X is not in adapter.symbols"),
        ("[[strategy]]\n[[strategy]]", "key 'strategy[1].name': two strategies are called 'confluence'"),
        ("[terminal]\nclock = 'feed'\napi = 'MetaTrader5'", "key 'terminal.clock': 'feed' is only for the paper"),
        ("[terminal]\nkind = 'mt5'", "key 'terminal.path' is needed: the path of terminal64.exe"),
        ("[terminal]\nkind = 'mt5'\npath = '/no/terminal64.exe'", "key 'terminal.path': there is no file /no/term"),
        ("[[strategy]]\nclass = 'mine.py:Mine'", "key 'strategy[0].class': there is no file"),
        ("[logger]\nurl = 'mysql://me:hidden@host/db'", f"got 'mysql://me:{MASK}@host/db'"),
        ("bus = [", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, write: Write, text: str, problem: str) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, file)
    assert str(file) in str(refused.value)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("MT5_LOGIN", "me", "environment variable MT5_LOGIN: 'me' is not a whole number"),
        ("MT5_RETRY_DELAY", "x", "environment variable MT5_RETRY_DELAY: 'x' is not a number"),
        ("MT5BUS_PORT", "99", "environment variable MT5BUS_PORT: expected `int` >= 1024, got 99"),
        ("MT5BUS_CONFIG", "/no/such.toml", "there is no configuration file /no/such.toml (MT5BUS_CONFIG)"),
    ],
)
def test_a_bad_variable_is_refused_in_one_line_that_names_it(
    tmp_path: Path, variable: str, text: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_with(tmp_path, {variable: text})
    assert str(refused.value).startswith(problem)


def test_a_missing_named_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*absent\.toml \(--config\)"):
        load(tmp_path, tmp_path / "absent.toml")


def test_the_homes_own_file_comes_before_the_checkouts(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    checkout = config.find_file(home, environ={})
    assert checkout == Path(config.__file__).resolve().parents[1] / "mt5bus.toml"
    home.path.mkdir()
    (home.path / "mt5bus.toml").write_text("", encoding="utf-8")
    assert config.find_file(home, environ={}) == home.path / "mt5bus.toml"


def test_the_checkouts_file_holds_what_its_comments_say(tmp_path: Path) -> None:
    settings = load(tmp_path, None).settings
    assert settings.terminal.kind == "paper"
    assert settings.strategy[0].class_path == "strategy.confluence:Confluence"


def test_paths_in_the_file_are_meant_from_where_the_file_is(tmp_path: Path, write: Write) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    text = """
    [[strategy]]
    class = "mine.py:Mine"
    [[paper.feed.files]]
    symbol = "EURUSD"
    paths = ["ticks/a.zip"]
    """
    settings = load(tmp_path, write(text)).settings
    assert settings.strategy[0].class_path == f"{tmp_path / 'mine.py'}:Mine"
    assert settings.paper["feed"]["files"][0]["paths"] == [str(tmp_path / "ticks" / "a.zip")]


PASSWORD = "s3cret-canary"


def test_the_password_is_kept_only_for_who_asks_and_shown_to_nobody(tmp_path: Path, write: Write) -> None:
    file = write(f'[terminal]\npassword = "{PASSWORD}"\n[logger]\nurl = "postgresql://me:{PASSWORD}@host/db"\n')
    without = load(tmp_path, file)
    assert not without.settings.terminal.password
    loaded = load(tmp_path, file, password=True)
    assert loaded.settings.terminal.password.reveal() == PASSWORD
    shown = config.effective(loaded.settings)
    assert shown["terminal.password"] == MASK
    assert shown["logger.url"] == f"postgresql://me:{MASK}@host/db"
    seen = f"{loaded.settings.terminal!r} {loaded.settings.terminal.password} {json.dumps(shown)}"
    assert PASSWORD not in seen


def test_the_environment_comes_before_the_file_and_the_keyring_last(tmp_path: Path, write: Write) -> None:
    asked: list[tuple[str, str]] = []

    def keyring(service: str, user: str) -> str:
        asked.append((service, user))
        return "from keyring"

    def password(file: Path, **environ: str) -> tuple[str, str]:
        loaded = config.load(tmp_path, file, environ=environ, password=True, keyring_lookup=keyring)
        return loaded.settings.terminal.password.reveal(), loaded.sources["terminal.password"]

    file = write("[terminal]\nlogin = 5\npassword = 'from file'\n")
    assert password(file, MT5_PASSWORD="from env") == ("from env", "environment MT5_PASSWORD")
    assert password(file)[0] == "from file"
    assert asked == []
    assert password(write("[terminal]\nlogin = 5\n")) == ("from keyring", "keyring mt5bus")
    assert asked == [("mt5bus", "5")]


def test_secrets_of_the_paper_accounts_and_of_strategies_are_masked(tmp_path: Path, write: Write) -> None:
    file = write(
        "[[paper.accounts]]\nlogin = 5\npassword = 'hidden'\n"
        "[[strategy]]\nname = 'a'\nclass = 'm:C'\nparams = { news_token = 'hidden', tokens = 3, api_key = '' }\n"
    )
    shown = config.effective(config.load(tmp_path, file, environ={}).settings)
    assert shown["paper.accounts[0].password"] == shown["strategy[0].params.news_token"] == MASK
    assert (shown["strategy[0].params.tokens"], shown["strategy[0].params.api_key"]) == (3, "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hid/d@en@host/db", f"postgresql://me:{MASK}@host/db"),
        ("postgresql://host/db?user=me&password=hidden&x=1", f"postgresql://host/db?user=me&password={MASK}&x=1"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///C:/data/store.sqlite3", "sqlite:///C:/data/store.sqlite3"),
    ],
)
def test_a_password_within_an_address_is_masked(tmp_path: Path, write: Write, url: str, shown: str) -> None:
    loaded = config.load(tmp_path, write(f"[logger]\nurl = '{url}'\n"), environ={})
    assert config.effective(loaded.settings)["logger.url"] == shown


def test_a_machine_without_a_keyring_has_no_password_in_it(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keyring
    from keyring.errors import KeyringLocked, NoKeyringError

    def refuse(error: Exception) -> None:
        def get_password(service: str, user: str) -> str:
            raise error

        monkeypatch.setattr(keyring, "get_password", get_password)

    file = write("[terminal]\nlogin = 5\n")
    refuse(NoKeyringError("no backend"))
    assert not config.load(tmp_path, file, environ={}, password=True).settings.terminal.password
    refuse(KeyringLocked("locked"))
    with pytest.raises(ConfigError, match=r"keyring cannot be read \(locked\): set MT5_PASSWORD instead"):
        config.load(tmp_path, file, environ={}, password=True)


def test_a_password_that_is_no_text_is_refused_without_being_shown(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, write("[terminal]\npassword = 424242\n"))
    assert "put the password in quotes" in str(refused.value)
    assert "424242" not in str(refused.value)


def test_a_secret_is_not_serialised_by_accident() -> None:
    import copy
    import pickle

    secret = Secret(PASSWORD)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    assert PASSWORD not in f"{secret} {secret!r} {secret:>20}"
    assert secret == Secret(PASSWORD)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


def test_the_addresses_are_five_ports_in_a_row() -> None:
    bus = Settings().bus
    addresses = [bus.streams, bus.queries, bus.orders, bus.pings, bus.control]
    assert addresses == [f"tcp://127.0.0.1:{17600 + offset}" for offset in range(5)]
    assert list(bus.ports.values()) == [17600 + offset for offset in range(5)]


def test_a_broken_keyring_backend_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "no_such_backend.Backend")
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    with pytest.raises(ConfigError, match=r"backend does not work \(ModuleNotFoundError\): set MT5_PASSWORD"):
        config.load(tmp_path, environ={"MT5_LOGIN": "7"}, password=True)
