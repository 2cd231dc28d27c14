"""`mt5bus keys`: what is listed, added, revoked and carried to another machine, and who can read it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from mt5bus import key_files
from mt5bus.cli import group
from mt5bus.errors import HomeError
from mt5bus.home import Home, write_private_file
from mt5bus.windows import make_private_file
from protocol.clock import SystemClock
from protocol.errors import AuthenticationFailed
from protocol.keys import STANDARD_ROLES, KeyStore, fingerprint
from protocol.sightings import Sightings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home").create()
    KeyStore(made.keys).ensure()
    return made


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(group, ["keys", arguments[0], "--home", str(home.path), *arguments[1:]])


def succeed(home: Home, *arguments: str) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def fail(home: Home, *arguments: str) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 1, result.output
    assert len(result.output.strip().splitlines()) == 1
    return result.output


def listed(home: Home) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(succeed(home, "list", "--json"))["keys"]}


def test_a_home_without_keys_says_so(tmp_path: Path) -> None:
    assert "no keys yet" in fail(Home(tmp_path), "list")


def test_the_list_names_roles_fingerprints_and_where_each_was_seen(home: Home) -> None:
    store, clock = KeyStore(home.keys), SystemClock()
    client = store.identity("client")
    seen = Sightings(home.run / "seen-adapter.json", clock)
    seen.admitted(client.public, "client", "query", "127.0.0.1")
    seen.refused(b"x" * 40, "unknown", "trade", "192.0.2.7")
    seen.refused(b"x" * 40, "unknown", "trade", "192.0.2.7")
    seen.save()
    rows = listed(home)
    assert set(rows) == set(STANDARD_ROLES)
    assert rows["client"]["roles"] == list(STANDARD_ROLES["client"])
    assert rows["client"]["fingerprint"] == fingerprint(client.public.decode())
    assert rows["client"]["where"] == "127.0.0.1 at query"
    assert abs(int(str(rows["client"]["last_seen_ms"])) - clock.wall_ms()) < 60_000
    assert rows["strategy"]["last_seen_ms"] == 0
    text = succeed(home, "list")
    assert "never" in text
    refused = text[text.index("refused:") :]
    assert all(word in refused for word in ("unknown", "trade", "192.0.2.7", fingerprint("x" * 40), " 2 "))
    secrets = [path.read_text(encoding="ascii").strip() for path in home.keys.glob("*.secret")]
    assert not [secret for secret in secrets if secret in text or secret in json.dumps(rows)]


def test_a_key_for_this_machine_is_added_and_revoked(home: Home) -> None:
    store = KeyStore(home.keys)
    assert "fingerprint" in succeed(home, "add", "notebook", "--role", "query", "--role", "subscribe")
    identity = store.identity("notebook")
    assert identity.roles == ("subscribe", "query")
    assert store.admitted("query")[identity.public] == "notebook"
    assert identity.public not in store.admitted("trade")
    assert "revoke it first" in fail(home, "add", "notebook", "--role", "trade")
    assert "revoked notebook" in succeed(home, "revoke", "notebook")
    assert identity.public not in store.admitted("query")
    assert store.standing(identity.public) == "revoked"
    with pytest.raises(AuthenticationFailed, match="was revoked"):
        store.identity("notebook")
    assert listed(home)["notebook"]["state"] == "revoked"
    assert "already" in fail(home, "revoke", "notebook")
    succeed(home, "add", "notebook", "--role", "query")
    assert store.identity("notebook").public not in {identity.public}
    assert store.standing(identity.public) == "unknown"


def test_a_revoked_standard_key_stays_revoked_until_it_is_added(home: Home) -> None:
    store = KeyStore(home.keys)
    succeed(home, "revoke", "client")
    store.ensure()
    assert "client" not in store.admitted("query").values()
    succeed(home, "add", "client")
    assert store.identity("client").roles == STANDARD_ROLES["client"]


@pytest.mark.parametrize("damage", ["secret cut", "secret gone", "public cut", "public gone"])
def test_a_lost_or_damaged_file_has_a_way_back(home: Home, damage: str) -> None:
    store = KeyStore(home.keys)
    which, how = damage.split()
    path = store.secret_path("client") if which == "secret" else store.public_path("client")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(AuthenticationFailed):
        store.identity("client")
    if damage == "public cut":
        assert "'mt5bus keys add client'" in succeed(home, "list")
    succeed(home, "add", "client")
    assert store.admitted("control")[store.identity("client").public] == "client"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "laptop"), "say what laptop may do"),
        (("add", "client", "--role", "node"), "standard name"),
        (("add", "../../etc", "--role", "query"), "cannot be a key's name"),
        (("add", "con", "--role", "query"), "cannot be a key's name"),
        (("add", "Laptop", "--role", "query"), "cannot be a key's name"),
        (("add", "x" * 41, "--role", "query"), "cannot be a key's name"),
        (("revoke", "nobody"), "there are adapter, client"),
        (("import", "no-such-file"), "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(home: Home, arguments: tuple[str, ...], words: str) -> None:
    assert words in fail(home, *arguments)


def test_links_roles_are_not_given_away(home: Home) -> None:
    assert run(home, "add", "laptop", "--role", "link").exit_code == 2


def test_a_key_is_carried_to_another_machine(home: Home, tmp_path: Path) -> None:
    bundle, there = tmp_path / "laptop.keys", Home(tmp_path / "there")
    text = succeed(home, "add", "laptop", "--role", "query", "--out", str(bundle))
    store, secret = KeyStore(home.keys), json.loads(bundle.read_bytes())["secret"]
    assert not store.secret_path("laptop").exists()
    assert secret not in text
    assert listed(home)["laptop"]["state"] == "remote"
    if sys.platform != "win32":
        assert bundle.stat().st_mode & 0o077 == 0
    output = succeed(there, "import", str(bundle))
    assert secret not in output
    remote = KeyStore(there.keys)
    identity = remote.identity("laptop")
    assert store.admitted("query")[identity.public] == "laptop"
    assert remote.server_key("adapter") == store.server_key("adapter")
    remote.ensure()
    assert remote.server_key("supervisor") == store.server_key("supervisor")
    succeed(there, "import", str(bundle))
    assert "another key of adapter" in fail(Home(_other_system(tmp_path)), "import", str(bundle))
    assert "is there already" in fail(home, "add", "tablet", "--role", "query", "--out", str(bundle))
    assert "tablet" not in listed(home)


def _other_system(folder: Path) -> Path:
    other = Home(folder / "other").create()
    KeyStore(other.keys).ensure()
    return other.path


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"secret": "canary"}', b"\xff" * 100, b"{" * 20_000])
def test_what_is_no_bundle_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(content)
    with pytest.raises(HomeError, match="no bundle of keys") as caught:
        key_files.take_in(Home(tmp_path / "there"), path)
    assert "canary" not in str(caught.value)


def test_a_damaged_bundle_is_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    key_files.add(home, "laptop", ["query"], out=path)
    found = json.loads(path.read_bytes())
    changes: list[dict[str, object]] = [{"secret": "short"}, {"name": "adapter"}, {"servers": {}}, {"version": 2}]
    for change in changes:
        path.write_text(json.dumps({**found, **change}), encoding="utf-8")
        with pytest.raises(HomeError, match="damaged bundle"):
            key_files.take_in(Home(tmp_path / "there"), path)


def test_a_private_file_is_new_and_closed_before_it_has_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private_file(path, b"secret")
    with pytest.raises(FileExistsError):
        write_private_file(path, b"other")
    assert path.read_bytes() == b"secret"


def test_on_windows_a_file_is_granted_to_the_users_own_sid(tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def system(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0, stdout=b'"host\\user","S-1-5-21-7"\r\n')

    make_private_file(tmp_path / "file", run=system)
    assert commands[1][1:] == [str(tmp_path / "file"), "/inheritance:r", "/grant:r", "*S-1-5-21-7:F"]

    def refusing(command: list[str], **_: object) -> SimpleNamespace:
        return SimpleNamespace(returncode=int("icacls" in command[0]), stdout=b'"host\\user","S-1-5-21-7"\r\n')

    with pytest.raises(OSError, match="icacls refused"):
        make_private_file(tmp_path / "file", run=refusing)


@pytest.mark.skipif(sys.platform == "win32", reason="access there is by the folder's list, not by modes")
def test_a_secret_that_others_can_read_is_closed_again(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    store = KeyStore(home.keys)
    path = store.secret_path("client")
    path.chmod(0o644)
    store.identity("client")
    assert path.stat().st_mode & 0o077 == 0
    assert "could be read by others" in caplog.text
