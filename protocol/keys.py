"""Curve keys and the roles behind them, in one owner-only folder.

Each name has a secret file, ``<name>.secret``, read only by the process of that name, and a public file,
``<name>.public.json``, with its roles. A key is admitted to a socket if its public file lists the socket's role;
deleting the public file revokes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

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


class Identity(msgspec.Struct, frozen=True):
    """A name with its key pair (Z85 text) and roles."""

    name: str
    public: bytes
    secret: bytes
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, roles={self.roles})"


class _PublicFile(msgspec.Struct, frozen=True):
    name: str
    public: str
    roles: tuple[str, ...]


def new_identity(name: str, roles: tuple[str, ...] = ()) -> Identity:
    """Return `name` with a fresh key pair that is stored nowhere."""
    public, secret = zmq.curve_keypair()
    return Identity(name, public, secret, roles)


class KeyStore:
    """The keys folder of one home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ensure(self) -> None:
        """Make the folder and every standard key that is missing. Several processes may do so at once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for name, roles in STANDARD_ROLES.items():
                if not self._secret_path(name).exists():
                    self._write(new_identity(name, roles))

    def identity(self, name: str) -> Identity:
        """Return the key pair of `name`.

        Raises:
            AuthenticationFailed: It has no key here, or the file is damaged.
        """
        public = self._public(name)
        try:
            secret = self._secret_path(name).read_text(encoding="ascii").strip().encode("ascii")
        except (OSError, ValueError) as error:
            raise AuthenticationFailed(
                f"no secret key of {name!r} in {self.folder}: {error}. Start the system once to make the keys,"
                " or pass the home folder that holds them"
            ) from None
        if _public_of(secret) != public.public.encode("ascii"):
            raise AuthenticationFailed(
                f"the two key files of {name!r} in {self.folder} do not belong together: delete both,"
                " they are made anew at the next start"
            )
        return Identity(name, public.public.encode("ascii"), secret, public.roles)

    def server_key(self, name: str) -> bytes:
        """Return the public key of a server's `name` (``adapter`` or ``supervisor``).

        Raises:
            AuthenticationFailed: There is none.
        """
        return self._public(name).public.encode("ascii")

    def admitted(self, role: str) -> Mapping[bytes, str]:
        """Return the names of the keys that hold `role`, by public key. Damaged files admit nobody."""
        found = {}
        for path in sorted(self.folder.glob("*.public.json")):
            try:
                entry = msgspec.json.decode(path.read_bytes(), type=_PublicFile)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if role in entry.roles and _is_key(entry.public):
                found[entry.public.encode("ascii")] = entry.name
        return found

    def _public(self, name: str) -> _PublicFile:
        path = self.folder / f"{name}.public.json"
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=_PublicFile)
        except OSError as error:
            raise AuthenticationFailed(
                f"no public key of {name!r} in {self.folder}: {error}. Start the system once to make the keys,"
                " or pass the home folder that holds them"
            ) from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AuthenticationFailed(f"{path} is damaged ({error}): delete it and {name}.secret") from None
        if not _is_key(entry.public):
            raise AuthenticationFailed(f"{path} is damaged (its key is none): delete it and {name}.secret")
        return entry

    def _write(self, identity: Identity) -> None:
        # The secret last: it is what says that the pair is complete.
        entry = _PublicFile(identity.name, identity.public.decode("ascii"), identity.roles)
        (self.folder / f"{identity.name}.public.json").write_bytes(msgspec.json.format(msgspec.json.encode(entry)))
        path = self._secret_path(identity.name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity.secret + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _secret_path(self, name: str) -> Path:
        return self.folder / f"{name}.secret"


def _is_key(text: str) -> bool:
    return len(text) == _KEY_CHARACTERS and set(text) <= _Z85


def _public_of(secret: bytes) -> bytes | None:
    """Return the public key of `secret`; None if it is no key."""
    if not _is_key(secret.decode("ascii")):
        return None
    return zmq.curve_public(secret)
