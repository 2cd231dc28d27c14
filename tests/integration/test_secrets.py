"""Marked secrets are nowhere: logs, captures, journal, store, command lines, environments, status, errors, dumps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from protocol.captures import Capture
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CANARY = "c4nary-Pa55word-7f3e"
TOKEN = "c4nary-T0ken-91bd"

CONFIG = """
[bus]
port = PORT

[terminal]
login = 4242
server = "Paper-Demo"
timeout_ms = 2000

[adapter.deadlines]
query_s = 3
start_s = 30

[adapter.connection]
retry_delay_s = 0.2
max_retries = 100
health_check_interval_s = 0.5

[supervisor]
backoff_first_s = 0.2

[[strategy]]
params = {}

FIRST
[[paper.accounts]]
login = 4242
password = "PAPER"
server = "Paper-Demo"

[[paper.accounts]]
login = 4243
password = "someone-elses"
server = "Paper-Demo"
"""
KEYRING = f"""
from keyring.backend import KeyringBackend


class Fixed(KeyringBackend):
    priority = 10

    def get_password(self, service, username):
        return "{CANARY}" if (service, username) == ("mt5bus", "4242") else None

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError
"""


class Watched:
    """A system whose secrets are looked for everywhere, as it runs and when it has ended."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.shown: list[str] = []
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *, environ: dict[str, str]) -> subprocess.Popen[str]:
        """Begin `up --detach`; its output is looked at in `close`."""
        up = subprocess.Popen(
            self.system.command("up", "--detach"),
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._children.append(up)
        return up

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep what it showed."""
        done = self.system.run(*arguments)
        self.shown += [done.stdout, done.stderr]
        return done

    def wait_for_log(self, text: str) -> None:
        """Wait until a log has `text`."""
        try:
            eventually(lambda: self._logged(text), timeout_s=60, what=f"{text!r} in a log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.system.tail_of_logs()}") from error

    def _logged(self, text: str) -> bool:
        return any(text in path.read_text("utf-8", "replace") for path in self.system.logs())

    def check(self) -> None:
        """Look everywhere now."""
        self.run("status", "--json")
        self.run("status")
        self.run("config")
        self.run("config", "--json")
        self.run("logs", "--lines", "1000")
        self.run("keys", "list")
        for secret in (CANARY, TOKEN, *self.curve_secrets()):
            assert not [text[:200] for text in self.shown if secret in text]
            assert self._processes_that_show(secret) == []
            assert self._files_that_hold(secret) == []

    def links(self) -> list[psutil.Process]:
        """Return the adapter's links: their command lines do not name the home."""
        listed = json.loads((self.system.home / "adapter" / "links.json").read_text("utf-8"))
        return [psutil.Process(each["pid"]) for each in listed if psutil.pid_exists(each["pid"])]

    def curve_secrets(self) -> list[str]:
        """Return the secret halves of all keys."""
        return [path.read_text("ascii").strip() for path in (self.system.home / "keys").glob("*.secret")]

    def frames(self) -> list[bytes]:
        """Return every frame of every capture."""
        paths = (self.system.home / "captures").glob("*.mt5cap")
        return [record.frame for path in paths for record in Capture(path)]

    def close(self) -> None:
        """Stop the system and look at what was shown."""
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
            self.shown += child.communicate(timeout=60)
        self.system.down()
        assert not [text[-200:] for text in self.shown if CANARY in text or TOKEN in text]

    def _processes_that_show(self, secret: str) -> list[str]:
        found = []
        supervisor = psutil.Process(self.system.pid_of("supervisor"))
        for process in [*self.system.processes(), *supervisor.children(recursive=True), *self.links()]:
            try:
                texts = [*process.cmdline(), process.name(), *process.environ().values()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            found += [f"{process.pid}: {text[:80]}" for text in texts if secret in text]
        return found

    def _files_that_hold(self, secret: str) -> list[Path]:
        # The broker behind the paper terminal has to know its own accounts' passwords; the folder of keys is closed.
        besides = {self.system.home / "terminal", self.system.home / "keys"}
        files = [path for path in self.system.home.rglob("*") if path.is_file() and not besides & {*path.parents}]
        return [path for path in files if secret.encode() in path.read_bytes()]


@pytest.fixture
def watched(make_system: Callable[..., System]) -> Iterator[Callable[..., Watched]]:
    """Return a maker of watched systems: by the password that the broker knows."""
    made: list[Watched] = []

    def make(*, brokers: str, logged_in: int = 4242) -> Watched:
        first = "" if logged_in == 4242 else f'[[paper.accounts]]\nlogin = {logged_in}\nserver = "Paper-Demo"\n'
        config = (
            CONFIG
            .replace("FIRST", first)
            .replace("PAPER", brokers)
            .replace("params = {}", f'params = {{ api_token = "{TOKEN}" }}')
        )
        made.append(Watched(make_system(config)))
        return made[-1]

    yield make


def test_nothing_shows_through_a_day_of_trouble(watched: Callable[..., Watched]) -> None:
    """The password is right; the terminal changes its account, a call hangs in the login, the adapter crashes."""
    it = watched(brokers=CANARY)
    system = it.system
    system.config.write_text(system.config.read_text("utf-8").replace(f'api_token = "{TOKEN}"', ""), encoding="utf-8")
    up = it.start(environ={"MT5_PASSWORD": CANARY})
    assert up.wait(90) == 0, system.tail_of_logs()
    assert system.wait_until_healthy()["account"]["login"] == 4242
    recording = subprocess.Popen(
        system.command("record", "--minutes", "0.3"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert it.run("fault", "hang", "--function", "login").returncode == 0
    assert it.run("fault", "account_swapped").returncode == 0
    it.wait_for_log("the terminal is on another account")
    it.wait_for_log("a link is killed and replaced")
    it.run("fault", "clear")
    it.check()
    if sys.platform != "win32":
        os.kill(system.pid_of("adapter"), signal.SIGABRT)  # faulthandler writes every thread's stack
        faults = system.home / "logs" / "adapter-faults.txt"
        eventually(lambda: "Fatal Python error" in faults.read_text("utf-8"), what="the crash dump")
    system.wait_until_healthy(90)
    it.shown += recording.communicate(timeout=60)
    frames = it.frames()
    assert frames
    secrets = [secret.encode() for secret in (CANARY, *it.curve_secrets())]
    assert not [frame for frame in frames for secret in secrets if secret in frame]
    it.check()
    it.close()


def test_nothing_shows_when_the_login_fails(watched: Callable[..., Watched], tmp_path: Path) -> None:
    """The password comes from the keyring and is wrong; a strategy's token is refused by its class."""
    it = watched(brokers="another-one", logged_in=4241)
    backend = tmp_path / "backend"
    backend.mkdir()
    (backend / "canary_keyring.py").write_text(KEYRING, encoding="utf-8")
    environ = {
        "PYTHON_KEYRING_BACKEND": "canary_keyring.Fixed",
        "PYTHONPATH": os.pathsep.join([str(backend), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    refused = it.start(environ=environ)
    assert refused.wait(60) == 1
    assert refused.stderr is not None
    reason = refused.stderr.read()
    assert "api_token" in reason, "the strategy does not know this parameter"
    it.shown.append(reason)
    text = it.system.config.read_text("utf-8").replace(f'api_token = "{TOKEN}"', "")
    it.system.config.write_text(text, encoding="utf-8")
    it.start(environ=environ)
    it.wait_for_log("attaching to the terminal failed")
    it.wait_for_log("Authorization failed")
    it.check()
    shown = subprocess.run(
        it.system.command("config"),
        env={**os.environ, **environ},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert "# keyring mt5bus" in shown
    it.shown.append(shown)
    it.close()
