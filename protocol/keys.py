"""Curve keys and the roles behind them, in one owner-only folder.

Each name has a secret file, ``<name>.secret``, read only by the process of that name, and a public file,
``<name>.public.json``, with its roles. A key is admitted to a socket if its public file lists the socket's role. A
revoked one stays, without roles, so that a refusal can say why. `mt5bus.key_files` adds and revokes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import zmq
from filelock import FileLock

from protocol.errors import AuthenticationFailed

STANDARD_ROLES: Mapping[str, tuple[str, ...]] = {
    "adapter": ("node",),
    "supervisor": (),
    "strategy": ("subscribe", "query", "trade", "node"),
    "ml_logger": ("subscribe", "query", "node"),
    "recorder": ("subscribe", "query"),
    "client": ("subscribe", "query", "trade", "control"),
}
_KEY_CHARACTERS = 40
_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
ROLES = ("subscribe", "query", "trade", "node", "control", "link")
PUBLIC_SUFFIX = ".public.json"

log = logging.getLogger(__name__)

Standing = Literal["unknown", "revoked", "known"]
"""Of a public key: whether a file names it, and whether it may do anything."""


class Identity(msgspec.Struct, frozen=True):
    """A name with its key pair (Z85 text) and roles."""

    name: str
    public: bytes
    secret: bytes
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, roles={self.roles})"


class PublicEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a public file holds.

    Attributes:
        revoked_ms: When it was revoked, UTC; 0 = it was not. A revoked key has no roles.
        imported: Its secret is on another machine: it is not made anew here.
    """

    name: str
    public: str
    roles: tuple[str, ...]
    revoked_ms: int = 0
    imported: bool = False


def new_identity(name: str, roles: tuple[str, ...] = ()) -> Identity:
    """Return `name` with a fresh key pair that is stored nowhere."""
    public, secret = zmq.curve_keypair()
    return Identity(name, public, secret, roles)


class KeyStore:
    """The keys folder of one home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fingerprint: tuple[tuple[str, int, int], ...] = ()
        self._found: dict[str, PublicEntry] = {}

    def ensure(self) -> None:
        """Make the folder and every standard key that is missing. Several processes may do so at once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for name, roles in STANDARD_ROLES.items():
                if not self.secret_path(name).exists() and not self._is_imported(name):
                    self.write(new_identity(name, roles))

    def identity(self, name: str) -> Identity:
        """Return the key pair of `name`.

        Raises:
            AuthenticationFailed: It has no key here, or the file is damaged.
        """
        public = self._public(name)
        if public.revoked_ms:
            raise AuthenticationFailed(
                f"the key of {name!r} in {self.folder} was revoked: 'mt5bus keys add {name}' makes a new one"
            )
        try:
            _close_to_others(self.secret_path(name))
            secret = self.secret_path(name).read_text(encoding="ascii").strip().encode("ascii")
        except (OSError, ValueError) as error:
            raise AuthenticationFailed(
                f"no secret key of {name!r} in {self.folder}: {error}. Start the system once to make the keys,"
                " or pass the home folder that holds them"
            ) from None
        if _public_of(secret) != public.public.encode("ascii"):
            raise AuthenticationFailed(
                f"the two key files of {name!r} in {self.folder} do not belong together:"
                f" 'mt5bus keys add {name}' makes a new pair"
            )
        return Identity(name, public.public.encode("ascii"), secret, public.roles)

    def server_key(self, name: str) -> bytes:
        """Return the public key of a server's `name` (``adapter`` or ``supervisor``).

        Raises:
            AuthenticationFailed: There is none.
        """
        return self._public(name).public.encode("ascii")

    def admitted(self, role: str) -> Mapping[bytes, str]:
        """Return the names of the keys that hold `role`, by public key. Damaged files admit nobody.

        Asked at every handshake and several times a second: the files are read again only when one has changed.
        """
        return {
            entry.public.encode("ascii"): entry.name
            for entry in self.entries()
            if role in entry.roles and not entry.revoked_ms
        }

    def standing(self, public: bytes) -> Standing:
        """Return whether a key (Z85) is known here, or was revoked."""
        text = public.decode("ascii", "replace")
        found = [entry for entry in self.entries() if entry.public == text]
        if not found:
            return "unknown"
        return "revoked" if all(entry.revoked_ms for entry in found) else "known"

    def entries(self) -> tuple[PublicEntry, ...]:
        """Return what the sound public files hold, by file name.

        What cannot be looked at for a moment (on Windows a scanner or a writer has it open) is as it was: a look that
        fails must not shut everybody out.
        """
        try:
            fingerprint = self._look()
        except OSError:
            return tuple(self._found.values())
        if fingerprint != self._fingerprint:
            known, complete = self._found, True
            self._found = {}
            for name, _, _ in fingerprint:
                try:
                    entry = _read_entry(self.folder / name)
                except FileNotFoundError:
                    continue
                except OSError:
                    entry, complete = known.get(name), False
                if entry is not None:
                    self._found[name] = entry
            self._fingerprint = fingerprint if complete else ()
        return tuple(self._found.values())

    def damaged(self) -> tuple[Path, ...]:
        """Return the public files that can be read but hold no key.

        Raises:
            OSError: One cannot be read.
        """
        paths = [self.folder / name for name, _, _ in self._look()]
        return tuple(path for path in paths if _read_entry(path) is None)

    def _look(self) -> tuple[tuple[str, int, int], ...]:
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if not entry.name.endswith(PUBLIC_SUFFIX):
                        continue
                    try:
                        facts = entry.stat()
                    except FileNotFoundError:
                        continue  # it went meanwhile
                    found.append((entry.name, facts.st_mtime_ns, facts.st_size))
        except FileNotFoundError:
            return ()
        return tuple(sorted(found))

    def _is_imported(self, name: str) -> bool:
        try:
            entry = _read_entry(self.public_path(name))
        except OSError:
            return False
        return entry is not None and entry.imported

    def _public(self, name: str) -> PublicEntry:
        path = self.public_path(name)
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=PublicEntry)
        except OSError as error:
            raise AuthenticationFailed(
                f"no public key of {name!r} in {self.folder}: {error}. Start the system once to make the keys,"
                " or pass the home folder that holds them"
            ) from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AuthenticationFailed(
                f"{path} is damaged ({error}): 'mt5bus keys add {name}' makes a new pair"
            ) from None
        if not is_key(entry.public):
            raise AuthenticationFailed(
                f"{path} is damaged (its key is none): 'mt5bus keys add {name}' makes a new pair"
            )
        return entry

    def write(self, identity: Identity) -> None:
        """Write both files of a key pair.

        Raises:
            OSError: They cannot be written.
        """
        # The secret last: it is what says that the pair is complete.
        entry = PublicEntry(identity.name, identity.public.decode("ascii"), identity.roles)
        self.public_path(identity.name).write_bytes(public_file(entry))
        write_private(self.secret_path(identity.name), identity.secret + b"\n")

    def public_path(self, name: str) -> Path:
        """Return where the public file of `name` is."""
        return self.folder / f"{name}{PUBLIC_SUFFIX}"

    def secret_path(self, name: str) -> Path:
        """Return where the secret file of `name` is."""
        return self.folder / f"{name}.secret"


def _close_to_others(path: Path) -> None:
    """Take back what a copy or a backup gave away; on Windows the folder's access list protects its files."""
    if sys.platform != "win32" and path.stat().st_mode & 0o077:
        path.chmod(0o600)
        log.warning("a secret key could be read by others: only by its owner now", extra={"path": str(path)})


def public_file(entry: PublicEntry) -> bytes:
    """Return the content of a public file."""
    return msgspec.json.format(msgspec.json.encode(entry))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read (on Windows: in a folder that only its owner can), and sync it.

    Raises:
        OSError: It cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if sys.platform != "win32":
            os.fchmod(descriptor, 0o600)  # one that was there keeps its mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fingerprint(public: str) -> str:
    """Return a short text that tells one public key from another, for people to compare."""
    return hashlib.sha256(public.encode("ascii")).hexdigest()[:16]


def _read_entry(path: Path) -> PublicEntry | None:
    content = path.read_bytes()
    try:
        entry = msgspec.json.decode(content, type=PublicEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return entry if is_key(entry.public) else None


def is_key(text: str) -> bool:
    """Return whether a text is a Curve key in Z85."""
    return len(text) == _KEY_CHARACTERS and set(text) <= _Z85


def _public_of(secret: bytes) -> bytes | None:
    """Return the public key of `secret`; None if it is no key."""
    if not is_key(secret.decode("ascii")):
        return None
    return zmq.curve_public(secret)
