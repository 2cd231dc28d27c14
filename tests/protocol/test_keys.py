"""The keys folder: made once by many, revoked by one, damaged by accident."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import AuthenticationFailed
from protocol.keys import ROLES, STANDARD_ROLES, KeyStore, new_identity


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    made = KeyStore(tmp_path / "keys")
    made.ensure()
    return made


def test_every_standard_name_gets_its_own_key(store: KeyStore) -> None:
    identities = {name: store.identity(name) for name in STANDARD_ROLES}
    assert {name: identity.roles for name, identity in identities.items()} == STANDARD_ROLES
    assert len({identity.secret for identity in identities.values()}) == len(STANDARD_ROLES)
    assert store.server_key("adapter") == identities["adapter"].public
    for role in ROLES:
        names = {name for name, roles in STANDARD_ROLES.items() if role in roles}
        assert set(store.admitted(role).values()) == names
    assert identities["client"].secret.decode() not in repr(identities["client"])


@pytest.mark.skipif(sys.platform == "win32", reason="access there is by the folder's list, not by modes")
def test_only_the_owner_reads_secrets(store: KeyStore) -> None:
    assert store.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in store.folder.glob("*.secret"))


def test_many_at_once_make_one_set(tmp_path: Path) -> None:
    stores = [KeyStore(tmp_path / "keys") for _ in range(8)]
    threads = [threading.Thread(target=store.ensure) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.identity("adapter").secret for store in stores}) == 1


def test_keys_stay_and_revoked_ones_stay_revoked(store: KeyStore) -> None:
    before = store.identity("strategy")
    (store.folder / "client.public.json").unlink()
    store.ensure()
    assert store.identity("strategy") == before
    assert "client" not in store.admitted("query").values()
    with pytest.raises(AuthenticationFailed):
        store.identity("client")


def test_half_a_pair_is_made_anew(store: KeyStore) -> None:
    (store.folder / "client.secret").unlink()
    store.ensure()
    assert store.identity("client").name == "client"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.write_bytes(new_identity("x").secret)


def _beyond_ascii(path: Path) -> None:
    path.write_bytes('{"name": "ä", "public": "äöü", "roles": ["query"]}'.encode())


@pytest.mark.parametrize("damage", [_cut, _empty, _foreign, _beyond_ascii, Path.unlink])
@pytest.mark.parametrize("file", ["client.secret", "client.public.json"])
def test_damage_is_told_and_admits_nobody(store: KeyStore, damage: Callable[[Path], None], file: str) -> None:
    damage(store.folder / file)
    with pytest.raises(AuthenticationFailed, match="client"):
        store.identity("client")
    admitted = store.admitted("query")
    assert set(admitted.values()) >= {"strategy", "recorder"}
    assert ("client" in admitted.values()) == file.endswith("secret")


@given(st.binary(max_size=120), st.sampled_from(["client.secret", "client.public.json"]))
def test_any_content_gives_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, file: str) -> None:
    store = KeyStore(tmp_path_factory.getbasetemp() / "any-keys")
    if not store.folder.exists():
        store.ensure()
    path = store.folder / file
    before = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(AuthenticationFailed):
        store.identity("client")
    assert "strategy" in store.admitted("query").values()
    path.write_bytes(before)


def test_a_name_without_keys(store: KeyStore) -> None:
    for ask in (store.identity, store.server_key):
        with pytest.raises(AuthenticationFailed, match="Start the system once"):
            ask("nobody")


def test_a_look_that_fails_for_a_moment_shuts_nobody_out(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.admitted("query")

    def held(*_: object) -> bytes:
        raise PermissionError(13, "in use by a scanner")

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", held)
        assert store.admitted("query") == before
    (store.folder / "recorder.public.json").unlink()
    os.utime(store.folder / "client.public.json", ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", held)
        assert set(store.admitted("query").values()) == set(before.values()) - {"recorder"}
    assert set(store.admitted("query").values()) == set(before.values()) - {"recorder"}
    (store.folder / "client.public.json").write_bytes(b"cut")
    assert "client" not in store.admitted("query").values()
    assert [path.name for path in store.damaged()] == ["client.public.json"]


def test_a_folder_that_is_gone_admits_nobody(store: KeyStore) -> None:
    assert store.admitted("query")
    shutil.rmtree(store.folder)
    assert store.admitted("query") == {}
