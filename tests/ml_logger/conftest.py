"""A PostgreSQL server of our own, where the machine has one to start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.ml_logger.ports import free_port


class Postgres:
    """A server in a temporary folder, on loopback, with trust for its one user."""

    def __init__(self, programs: Path, folder: Path, account: str | None) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._account = account
        self.port = free_port()
        self.run("initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.run("pg_ctl", "-D", self._data, "-l", self._log, "-w", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of its programs; as root it does so under another account, for the server refuses root."""
        command = [str(self._programs / program), *map(str, arguments)]
        if self._account is not None:
            command = ["runuser", "-u", self._account, "--", *command]
        # Not captured: the server would inherit the pipe and keep it open.
        with (self._data.parent / "commands.log").open("ab") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd="/", timeout=60)


def _programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl")
    if found is not None:
        folders.append(Path(found).parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


def _account() -> str | None:
    """Return the account to run the server under, None for our own."""
    if sys.platform == "win32" or os.getuid() != 0:
        return None
    import pwd

    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL refuses to run as root and there is no account 'postgres'")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a running server with an empty database; skip where there is no PostgreSQL to start."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'mt5bus[postgres]'")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are neither on the path nor in /usr/lib/postgresql")
    account = _account()
    with tempfile.TemporaryDirectory(prefix="mt5bus-pg-") as name:
        folder = Path(name)
        if account is not None:
            shutil.chown(folder, account)
        folder.chmod(0o700)
        server = Postgres(programs, folder, account)
        server.start()
        try:
            yield server
        finally:
            _stop(server, folder)


def _stop(server: Postgres, folder: Path) -> None:
    pid_file = folder / "data" / "postmaster.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text(encoding="ascii").splitlines()[0])
        server.stop()
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
