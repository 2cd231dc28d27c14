"""Adding, revoking and handing over Curve keys: the files of a home's `keys` folder, each changed whole.

Running nodes look at the folder several times a second, so a change needs no restart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from filelock import FileLock

from mt5bus.errors import HomeError
from mt5bus.files import replace_with_retry
from mt5bus.home import Home, file_name, make_private, write_private_file
from protocol.errors import AuthenticationFailed
from protocol.keys import (
    ROLES,
    STANDARD_ROLES,
    Identity,
    KeyStore,
    PublicEntry,
    is_key,
    new_identity,
    public_file,
    write_private,
)

SERVERS = ("adapter", "supervisor")
"""Whose public keys a client needs beside its own pair."""
GRANTED_ROLES = tuple(role for role in ROLES if role != "link")  # links get theirs from their adapter
_BUNDLE = "mt5bus keys"
_LONGEST_NAME = 40
_LONGEST_BUNDLE = 16_384


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client on another machine needs: one file, which holds a secret."""

    format: str = _BUNDLE
    version: int = 1
    name: str
    public: str
    secret: str
    roles: tuple[str, ...]
    servers: dict[str, str]

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, roles={self.roles})"


def add(home: Home, name: str, roles: Sequence[str] = (), *, out: Path | None = None) -> PublicEntry:
    """Make a key pair and admit it; return its public half.

    Args:
        home: Whose keys.
        name: What it is called in logs and lists. A standard name whose files are lost, damaged or revoked gets a
            new pair.
        roles: What it may do; a standard name has its own.
        out: Write the secret into this bundle, for another machine, instead of into the home.

    Raises:
        HomeError: The name cannot be used or is taken, a role is none, or a file cannot be written.
    """
    roles = _checked_roles(name, roles)
    store = store_of(home)
    with _locked(store):
        _check_free(store, name)
        identity = new_identity(name, tuple(roles))
        entry = PublicEntry(name, identity.public.decode("ascii"), identity.roles, imported=out is not None)
        try:
            if out is None:
                write_private(store.secret_path(name), identity.secret + b"\n")
            else:
                _write_bundle(store, identity, out)
                store.secret_path(name).unlink(missing_ok=True)  # of a revoked pair
            # Last: it is what admits the key.
            _replace(store.public_path(name), public_file(entry))
        except OSError as error:
            raise HomeError(f"the key of {name} cannot be written: {error.strerror or error}") from error
    return entry


def revoke(home: Home, name: str) -> PublicEntry:
    """Take every role from a key; return what it was.

    Raises:
        HomeError: There is no such key, it was revoked before, or its file cannot be written.
    """
    store = store_of(home)
    with _locked(store):
        entry = _entry(store, name)
        if entry is None and store.public_path(name).exists():
            store.public_path(name).unlink()  # damaged: it admitted nobody, and now says so
            raise HomeError(f"the file of {name} was damaged and admitted nobody: it is removed")
        if entry is None:
            names = ", ".join(one.name for one in store.entries()) or "none"
            raise HomeError(f"there is no key {name!r} in {store.folder}: there are {names}")
        if entry.revoked_ms:
            raise HomeError(f"the key of {name} is revoked already")
        gone = msgspec.structs.replace(entry, roles=(), revoked_ms=time.time_ns() // 1_000_000)
        try:
            _replace(store.public_path(name), public_file(gone))
        except OSError as error:
            raise HomeError(
                f"the file of {name} cannot be written ({error.strerror or error}): nothing was revoked. Delete"
                f" {store.public_path(name)} by hand, which revokes it too"
            ) from error
    return entry


def take_in(home: Home, bundle: Path) -> Bundle:
    """Put a bundle from another machine into a home that runs no system of its own; return it.

    Raises:
        HomeError: It is no bundle, or the home has keys that it would replace.
    """
    found = _read_bundle(bundle)
    try:
        home.create()
        make_private(home.keys)
    except OSError as error:
        raise HomeError(f"the folder {home.keys} cannot be made: {error.strerror or error}") from error
    store = KeyStore(home.keys)
    with _locked(store):
        for name, public in {**found.servers, found.name: found.public}.items():
            entry = _entry(store, name)
            if entry is not None and entry.public != public:
                raise HomeError(
                    f"{home.path} has another key of {name}: it belongs to another system. Take the bundle into a home"
                    " of its own: --home"
                )
        for name, public in found.servers.items():
            if not store.secret_path(name).exists():
                roles = STANDARD_ROLES.get(name, ())
                _replace(store.public_path(name), public_file(PublicEntry(name, public, roles, imported=True)))
        write_private(store.secret_path(found.name), found.secret.encode("ascii") + b"\n")
        _replace(store.public_path(found.name), public_file(PublicEntry(found.name, found.public, found.roles)))
    return found


def _checked_roles(name: str, roles: Sequence[str]) -> tuple[str, ...]:
    plain = name.replace("_", "").replace("-", "")
    if not (plain.isascii() and plain.isalnum() and len(name) <= _LONGEST_NAME and file_name(name) == name):
        raise HomeError(
            f"{name[:60]!r} cannot be a key's name: up to {_LONGEST_NAME} of a-z, 0-9, '_' and '-', and no device name"
        )
    standard = STANDARD_ROLES.get(name)
    if standard is not None:
        if roles and set(roles) != set(standard):
            raise HomeError(
                f"{name} is a standard name with the roles {', '.join(standard) or 'none'}: leave out --role"
            )
        return standard
    if not roles:
        raise HomeError(f"say what {name} may do: --role {' --role '.join(GRANTED_ROLES)}")
    wrong = [role for role in roles if role not in GRANTED_ROLES]
    if wrong:
        raise HomeError(f"{wrong[0][:40]!r} is no role: there are {', '.join(GRANTED_ROLES)}")
    return tuple(role for role in GRANTED_ROLES if role in roles)


def _check_free(store: KeyStore, name: str) -> None:
    entry = _entry(store, name)
    if entry is None or entry.revoked_ms:
        return
    if entry.imported:
        raise HomeError(f"there is a key {name} already, its secret on another machine: revoke it first")
    try:
        store.identity(name)
    except AuthenticationFailed:
        return  # lost or damaged: this is the way back
    raise HomeError(f"there is a key {name} already: revoke it first, or choose another name")


def _entry(store: KeyStore, name: str) -> PublicEntry | None:
    return next((entry for entry in store.entries() if entry.name == name), None)


def store_of(home: Home) -> KeyStore:
    """Return the keys of a home.

    Raises:
        HomeError: It has none yet.
    """
    if not home.keys.is_dir():
        raise HomeError(f"{home.path} has no keys yet: 'mt5bus up' makes them at its first start")
    return KeyStore(home.keys)


def _locked(store: KeyStore) -> FileLock:
    return FileLock(store.folder / ".lock")


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(content)
    replace_with_retry(fresh, path)


def _write_bundle(store: KeyStore, identity: Identity, out: Path) -> None:
    bundle = Bundle(
        name=identity.name,
        public=identity.public.decode("ascii"),
        secret=identity.secret.decode("ascii"),
        roles=identity.roles,
        servers=_server_keys(store),
    )
    try:
        write_private_file(out, msgspec.json.format(msgspec.json.encode(bundle)) + b"\n")
    except FileExistsError:
        raise HomeError(f"{out} is there already: name another file, or remove it") from None


def _server_keys(store: KeyStore) -> dict[str, str]:
    try:
        return {name: store.server_key(name).decode("ascii") for name in SERVERS}
    except AuthenticationFailed as error:
        raise HomeError(str(error)) from error


def _read_bundle(path: Path) -> Bundle:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LONGEST_BUNDLE + 1)
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        found = msgspec.json.decode(content, type=Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Its text is not shown: it may hold a secret.
        raise HomeError(
            f"{path} is no bundle of keys: 'mt5bus keys add NAME --role ... --out FILE' makes one"
        ) from None
    keys = (found.public, found.secret, *found.servers.values())
    sound = all(map(is_key, keys)) and set(found.servers) == set(SERVERS) and found.name not in SERVERS
    if found.format != _BUNDLE or found.version != 1 or not sound:
        raise HomeError(f"{path} is a damaged bundle of keys, or a newer version's: make it again")
    if found.name not in STANDARD_ROLES:
        _checked_roles(found.name, found.roles)
    return found
