"""Starting and stopping a whole system from the command line: checks first, nothing half.

`mt5bus up` starts the supervisor as a process of its own and then only looks at it: a console that is clicked into
(Windows) or closed never holds up what pings and restarts.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from threading import Event

import psutil

from mt5bus import handover, paper, processes
from mt5bus.config import Loaded
from mt5bus.errors import ConfigError, Mt5busError, ProcessError
from mt5bus.home import Home
from mt5bus.processes import ProcessIdentity, module_command
from mt5bus.settings import Bus, Settings
from protocol.errors import BusError
from supervisor import instance
from supervisor.children import ChildSpec, find_running, last_words
from supervisor.control import Control
from supervisor.specs import ADAPTER, STRATEGY, TERMINAL, node_specs
from supervisor.status import SystemStatus
from supervisor.terminal import terminal_spec

SUPERVISOR = "supervisor"
POLL_S = 0.1
SUPERVISOR_START_S = 20.0
KILL_S = 5.0
STRATEGIES_CHECK_S = 20.0
_ADAPTER_SOCKETS = ("streams", "queries", "orders")
_TAKEN = {errno.EADDRINUSE, errno.EACCES}

Say = Callable[[str], None]
"""Shows one line of progress."""


class StartFailed(Mt5busError):
    """The system did not start; whatever was started has been stopped again."""


def supervisor_spec(loaded: Loaded) -> ChildSpec:
    """Return how to start the supervisor."""
    home = str(loaded.home.path)
    arguments = ["--home", home]
    if loaded.file is not None:
        arguments += ["--config", str(loaded.file)]
    arguments.append(handover.OPTION)
    return ChildSpec(
        name=SUPERVISOR,
        command=tuple(module_command("supervisor", *arguments)),
        output=loaded.home.logs / "supervisor-output.txt",
        marks=("-m", "supervisor", "--home", home),
        stdin=handover.pack(loaded.settings.terminal.password),
    )


def check_before_start(loaded: Loaded) -> dict[str, ProcessIdentity]:
    """Refuse a start that cannot succeed; return the processes of this home that run already, to be adopted.

    Raises:
        ConfigError: The paper terminal refuses its table, or a strategy cannot be used.
        ProcessError: A system runs on this home, or a port is in use.
        HomeError: The home cannot be made.
    """
    paper.check_settings(loaded)
    loaded.home.create()
    instance.lock(loaded.home).release()
    left = home_processes(loaded)
    left.pop(SUPERVISOR, None)
    skipped = _ADAPTER_SOCKETS if ADAPTER in left else ()
    check_ports(loaded.settings.bus, skip=skipped)
    if STRATEGY not in left:
        check_strategies(loaded)
    return left


def check_strategies(loaded: Loaded) -> None:
    """Load the strategies once, in a process that then ends: theirs is a user's code, which may do anything.

    One that takes long is left to the supervisor, who gives it all the time of a start.

    Raises:
        ConfigError: One cannot be loaded, or its parameters are wrong.
    """
    arguments = ["--home", str(loaded.home.path), "--check"]
    if loaded.file is not None:
        arguments += ["--config", str(loaded.file)]
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW
    try:
        done = subprocess.run(
            module_command("strategy", *arguments),
            env=processes.child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=STRATEGIES_CHECK_S,
            creationflags=flags,
        )
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        raise ProcessError(f"Python cannot be started ({error.strerror or error}): make .venv again") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [processes.explain_exit(done.returncode)]
        raise ConfigError(said[-1].removeprefix("Error: "))


def check_ports(bus: Bus, *, skip: Iterable[str] = ()) -> None:
    """Try to bind each port of the bus.

    Args:
        bus: Where the sockets will be.
        skip: Sockets that a running node of ours holds rightly.

    Raises:
        ProcessError: One is in use, or the address is not this machine's.
    """
    for name, port in bus.ports.items():
        if name not in skip:
            _try_port(bus.host, name, port)


def _try_port(host: str, name: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            # As libzmq does: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in _TAKEN:
                raise ProcessError(f"the address {host}:{port} cannot be used: {error.strerror or error}") from error
            raise ProcessError(
                f"port {port} ({name}) on {host} is in use by another program: set another port in [bus] or"
                f" MT5BUS_PORT{_excluded_hint(error.errno)}"
            ) from error


def _excluded_hint(code: int | None) -> str:
    if sys.platform == "win32" and code == errno.EACCES:
        return "; if nothing listens there, see 'netsh interface ipv4 show excludedportrange protocol=tcp'"
    return ""


class NotYetUp(Mt5busError):
    """The start takes long and has not failed: the supervisor goes on trying."""


class System:
    """A system on one home, as `up` sees it: its supervisor process and its control socket.

    Args:
        loaded: The configuration, with the password if there is one.
        say: Shows progress.
    """

    def __init__(self, loaded: Loaded, *, say: Say) -> None:
        self.loaded = loaded
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._running: instance.Running | None = None
        self._control: Control | None = None
        self._pause = Event()
        self._interrupted = False

    def interrupt(self) -> None:
        """End waiting at once; may be called from a signal handler."""
        self._interrupted = True
        self._pause.set()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interrupted

    def pause(self, seconds: float) -> None:
        """Wait, or less if interrupted."""
        self._pause.wait(seconds)

    def start_supervisor(self) -> None:
        """Start the supervisor and wait until it answers.

        Raises:
            StartFailed: It ended, or did not answer in time.
        """
        spec = supervisor_spec(self.loaded)
        self._disconnect()
        self._process = processes.start_node(spec.command, output=spec.output, stdin=spec.stdin)
        until = time.monotonic() + SUPERVISOR_START_S
        while not self._interrupted:
            running = instance.read_running(self.loaded.home)
            if running is not None:
                self._running = running
                self._control = Control(self.loaded.home, running)
                return
            code = self._process.poll()
            if code is not None:
                raise StartFailed(self._why_ended(code))
            if time.monotonic() > until:
                self.stop()
                raise StartFailed(f"the supervisor did not start within {SUPERVISOR_START_S:g} s")
            self.pause(POLL_S)

    def wait_until_up(self) -> str:
        """Show each process come up; return when all do their work, if only with something missing.

        Returns:
            A remark for each process that has something missing; empty when all run, and when interrupted.

        Raises:
            NotYetUp: Some do not work yet after a long time.
            StartFailed: A process does not start; the supervisor has stopped the others.
        """
        shown: dict[str, str] = {}
        until = time.monotonic() + 3 * self.loaded.settings.supervisor.start_deadline_s
        missing = "the supervisor does not answer"
        while not self._interrupted and time.monotonic() < until:
            self.raise_if_failed()
            document = self.status()
            if document is not None:
                missing = "; ".join(self._show_changes(document, shown))
                if document.state in {"running", "degraded"} and all(node.pid for node in document.nodes):
                    return missing
            self.pause(POLL_S)
        if self._interrupted:
            return ""
        raise NotYetUp(f"the system was started and goes on trying, but not everything works yet: {missing}")

    def status(self) -> SystemStatus | None:
        """Return the status document, or None while the supervisor does not answer."""
        if self._control is None:
            return None
        try:
            return self._control.status(deadline_s=1.0)
        except BusError:
            return None

    def ended(self) -> instance.Stopped | None:
        """Return how the supervisor ended on purpose; None while it runs, and when it was killed."""
        if self._process is None or self._process.poll() is None or self._running is None:
            return None
        return instance.read_stopped(self.loaded.home, self._running.identity.pid)

    def supervisor_died(self) -> bool:
        """Return whether the supervisor is gone without having been told to end."""
        return self._process is not None and self._process.poll() is not None and self.ended() is None

    def raise_if_failed(self) -> None:
        """Turn a start that the supervisor gave up into an error.

        Raises:
            StartFailed: With its reason.
        """
        if self._process is None or self._process.poll() is None:
            return
        stopped = self.ended()
        if stopped is None or stopped.failed:
            raise StartFailed(stopped.reason if stopped is not None else self._why_ended(self._process.poll() or 0))

    def stop(self) -> None:
        """Stop every process of the system, by force where asking does not help.

        Raises:
            ProcessError: A process could not be ended.
        """
        self._disconnect()
        stop_home(self.loaded, say=self._say)
        if self._process is not None:
            self._process.wait(KILL_S)

    def close(self) -> None:
        """Let go of the system, which goes on."""
        self._disconnect()
        if self._process is not None and self._process.poll() is None:
            # It outlives us on purpose; without this Python would warn of a child that still runs.
            self._process.returncode = 0

    def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _show_changes(self, document: SystemStatus, shown: dict[str, str]) -> list[str]:
        """Show what changed; return a line for each process that does not run."""
        missing = []
        states = [(TERMINAL, document.terminal.state, document.terminal.pid, document.terminal.reason)]
        states += [(node.name, node.state, node.pid, node.reason or node.detail) for node in document.nodes]
        for name, state, pid, remark in states:
            told = f": {remark}" if remark and state != "running" else ""
            line = f"{name}: {state}" + (f" (pid {pid})" if pid else "") + told
            if shown.get(name) != line and state != "stopped":
                shown[name] = line
                self._say(line)
            if state not in {"running", "unmanaged"}:
                missing.append(f"{name}: {state}{told}")
        return missing

    def _why_ended(self, code: int) -> str:
        spec = supervisor_spec(self.loaded)
        return f"the supervisor ended: {processes.explain_exit(code)}{last_words(spec.output)}"


def home_processes(loaded: Loaded) -> dict[str, ProcessIdentity]:
    """Return the supervisor, nodes and paper terminal that run on a home, found by their command lines."""
    terminal = terminal_spec(loaded)
    specs = [supervisor_spec(loaded), *node_specs(loaded)]
    return find_running(specs + ([terminal] if terminal is not None and terminal.marks else []))


def defaults_for(home: Home) -> Loaded:
    """Return a configuration that knows only the home: enough to find and stop its processes."""
    return Loaded(home=home, file=None, settings=Settings(), sources={})


def stop_home(loaded: Loaded, *, say: Say) -> bool:
    """Stop the system of a home: ask its supervisor, wait, then end by force what is left.

    Returns:
        Whether there was anything to stop.

    Raises:
        ProcessError: A process could not be ended.
    """
    running = instance.read_running(loaded.home)
    if running is not None:
        say("stopping ...")
        _ask_to_stop(loaded, running)
    left = home_processes(loaded)
    if SUPERVISOR in left:
        # First, or it would restart the others.
        left = {SUPERVISOR: left.pop(SUPERVISOR), **left}
    for name, identity in left.items():
        say(f"{name}: ending process {identity.pid}")
        if not processes.end_process(identity, kill_deadline_s=KILL_S):
            raise ProcessError(f"{name} (pid {identity.pid}) cannot be ended: end it with the system's own tools")
    return running is not None or bool(left)


def _ask_to_stop(loaded: Loaded, running: instance.Running) -> None:
    deadline_s = 3 * loaded.settings.supervisor.stop_deadline_s + 1.0
    try:
        with Control(loaded.home, running) as control:
            control.stop_system()
    except BusError:
        deadline_s = 0.0  # it does not answer: it is ended by force
    supervisor = running.identity.find()
    if supervisor is None:
        return
    try:
        supervisor.wait(timeout=deadline_s)
    except psutil.TimeoutExpired:
        return
