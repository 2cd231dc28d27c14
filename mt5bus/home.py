"""The home folder: where one system keeps all its state, and how names become file names.

Several systems run side by side with different homes and ports. Each folder below has one owner process.
"""

from __future__ import annotations

import hashlib
import os
import string
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import platformdirs

from mt5bus.errors import HomeError

FOLDERS = ("adapter", "strategy", "store", "keys", "logs", "captures", "terminal", "run")
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-")
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
_LONGEST = 100


class Home(msgspec.Struct, frozen=True):
    """One system's home folder. Making one touches no disk; `create` does."""

    path: Path

    @classmethod
    def find(cls, named: Path | str | None = None, *, environ: Mapping[str, str] | None = None) -> Home:
        """Return the home at `named`, else at `MT5BUS_HOME`, else in the platform's local data folder."""
        environ = os.environ if environ is None else environ
        chosen = named or environ.get("MT5BUS_HOME") or platformdirs.user_data_dir("mt5bus", appauthor=False)
        return cls(Path(chosen).expanduser().absolute())

    @property
    def adapter(self) -> Path:
        """The adapter's journal: intents and the event log."""
        return self.path / "adapter"

    @property
    def strategy(self) -> Path:
        """The dispatch log and saved states of strategies."""
        return self.path / "strategy"

    @property
    def store(self) -> Path:
        """The ML logger's SQLite store."""
        return self.path / "store"

    @property
    def keys(self) -> Path:
        """Curve keys, readable by their owner only."""
        return self.path / "keys"

    @property
    def logs(self) -> Path:
        """JSON logs, one file per node and UTC day."""
        return self.path / "logs"

    @property
    def captures(self) -> Path:
        """Recordings of the bus."""
        return self.path / "captures"

    @property
    def terminal(self) -> Path:
        """The paper terminal's own folder."""
        return self.path / "terminal"

    @property
    def run(self) -> Path:
        """The supervisor's lock, its address and the list of processes to adopt."""
        return self.path / "run"

    def create(self) -> Home:
        """Make the home and its folders, readable by their owner only; return the home.

        Raises:
            HomeError: A folder cannot be made, or a file is in its place.
        """
        for folder in (self.path, *(self.path / name for name in FOLDERS)):
            try:
                make_private(folder)
            except OSError as error:
                raise HomeError(
                    f"the folder {folder} cannot be made ({error.strerror or error}): "
                    f"choose another home with --home or MT5BUS_HOME"
                ) from error
        return self


def make_private(folder: Path) -> None:
    """Make a folder and its parents; one made here can be read by its owner only.

    A folder that is there keeps its access on Windows; elsewhere a secret folder is closed again.

    Raises:
        OSError: It cannot be made, or a file is in its place.
    """
    if folder.is_dir():
        if sys.platform != "win32" and folder.name == "keys":
            folder.chmod(0o700)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        from mt5bus.windows import make_private_folder

        make_private_folder(folder)
    else:
        folder.mkdir(mode=0o700, exist_ok=True)


def write_private_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, wherever its folder is; synced.

    The access is set before the first byte of the content is there.

    Raises:
        FileExistsError: There is a file; it is left alone.
        OSError: It cannot be written, or its access not be set.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if sys.platform == "win32":
                from mt5bus.windows import make_private_file

                make_private_file(path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def file_name(name: str) -> str:
    """Return a name for files that stands for exactly this text on every platform.

    Safe on Windows: no reserved device, no forbidden character, no trailing dot or space, and two names that
    differ only in case stay two. Letters, digits, `_` and `-` stay; other bytes become `%xx`; a name with
    capitals ends in `@` and their positions as a hexadecimal number; a long one is cut and ends in a hash.

    Raises:
        ValueError: The name is empty.
    """
    if not name:
        raise ValueError("an empty name cannot name a file")
    encoded = "".join(
        sign if sign in _PLAIN else "".join(f"%{byte:02x}" for byte in sign.encode("utf-8", "surrogatepass"))
        for sign in name
    )
    if encoded.lower() in _RESERVED:
        encoded = f"%{ord(name[0]):02x}{encoded[1:]}"
    capitals = sum(1 << index for index, sign in enumerate(encoded) if sign in string.ascii_uppercase)
    if capitals:
        encoded = f"{encoded}@{capitals:x}"
    if len(encoded) <= _LONGEST:
        return encoded
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{encoded[: _LONGEST - 33]}@{digest}"
