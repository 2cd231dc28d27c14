"""Commands about the whole system: up, down, status, restart; and the supervisor alone."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from types import FrameType

import click
import msgspec

from mt5bus.errors import ConfigError
from mt5bus.home import Home
from mt5bus.options import common_options, load, one_line_errors, password_option, start_logs
from protocol.errors import BusError
from supervisor.launch import NotYetUp, StartFailed, System, check_before_start, defaults_for, stop_home
from supervisor.specs import LOGGER, node_specs
from supervisor.status import SystemStatus
from supervisor.terminal import terminal_spec

REFRESH_S = 1.0
SUMMARY_EVERY = 10
SUPERVISOR_RESTARTS = 5
SUPERVISOR_WINDOW_S = 60.0


@click.command("up")
@common_options
@click.option("--detach", is_flag=True, help="Return when everything runs; 'mt5bus down' stops it.")
def up(home: Path | None, config: Path | None, *, detach: bool) -> None:
    """Start terminal and nodes under the supervisor, and watch them; Ctrl-C stops all."""
    with one_line_errors(BusError):
        loaded = load(home, config, password=True)
        left = check_before_start(loaded)
        system = System(loaded, say=_say)
        with _interrupting(system.interrupt):
            if left:
                _say(f"taking over what runs already: {', '.join(left)}")
            _say(f"starting on {loaded.home.path}, port {loaded.settings.bus.port} ...")
            try:
                missing = _start(system)
            except NotYetUp as error:
                if detach:
                    system.close()
                    raise
                _say(str(error))
            if detach and not system.interrupted:
                system.close()
                remark = f" (but {missing})" if missing else ""
                _say(f"the system runs{remark}; 'mt5bus status --watch' shows it, 'mt5bus down' stops it")
                return
            _watch(system)


def _start(system: System) -> str:
    """Start everything; return what works with something missing."""
    try:
        system.start_supervisor()
        return system.wait_until_up()
    except StartFailed:
        system.stop()
        raise


def _watch(system: System) -> None:
    """Show the system until it is told to stop; bring a supervisor back that died."""
    show = _Screen()
    deaths: deque[float] = deque()
    try:
        while not system.interrupted:
            ended = system.ended()
            if ended is not None:
                show.close()
                if ended.failed:
                    raise StartFailed(ended.reason)
                _say("the system was stopped from elsewhere")
                return
            if system.supervisor_died():
                _bring_back(system, deaths)
            document = system.status()
            if document is not None:
                show(document)
            system.pause(REFRESH_S)
    finally:
        show.close()
    system.stop()
    _say("stopped")


def _bring_back(system: System, deaths: deque[float]) -> None:
    now_s = _monotonic_s()
    deaths.append(now_s)
    while now_s - deaths[0] > SUPERVISOR_WINDOW_S:
        deaths.popleft()
    if len(deaths) > SUPERVISOR_RESTARTS:
        system.stop()
        raise StartFailed(f"the supervisor died {len(deaths)} times within {SUPERVISOR_WINDOW_S:g} s: see its log")
    system.start_supervisor()


@click.command("down")
@common_options
def down(home: Path | None, config: Path | None) -> None:
    """Stop every process of the system that runs on a home."""
    with one_line_errors(BusError):
        try:
            loaded = load(home, config)
        except ConfigError as error:
            # A configuration that was broken meanwhile must not keep a system from being stopped.
            click.echo(f"{error}; stopping by the home alone", err=True)
            loaded = defaults_for(Home.find(home))
        found = stop_home(loaded, say=_say)
    _say("stopped" if found else f"no system runs on the home {loaded.home.path}")


@click.command("status")
@common_options
@click.option("--json", "as_json", is_flag=True, help="The status document (docs/status.md).")
@click.option("--watch", is_flag=True, help="Show it until Ctrl-C.")
def status(home: Path | None, config: Path | None, *, as_json: bool, watch: bool) -> None:  # noqa: ARG001
    """Show the state of every process, the account, the streams and the store."""
    from supervisor.control import Control

    with one_line_errors(BusError), Control.of(Home.find(home)) as control:
        if watch:
            _watch_status(lambda: control.status(deadline_s=5.0), as_json=as_json)
        elif as_json:
            click.echo(msgspec.json.format(control.status_json(), indent=2).decode("utf-8"))
        else:
            show = _Screen(live=False)
            show(control.status())


def _watch_status(ask: Callable[[], SystemStatus], *, as_json: bool) -> None:
    from threading import Event

    done = Event()
    show = _Screen()
    with _interrupting(done.set):
        try:
            while not done.is_set():
                document = ask()
                if as_json:
                    click.echo(msgspec.json.encode(document).decode("utf-8"))
                else:
                    show(document)
                done.wait(REFRESH_S)
        finally:
            show.close()


@click.command("restart")
@common_options
@click.argument("node")
def restart(home: Path | None, config: Path | None, node: str) -> None:  # noqa: ARG001
    """Restart NODE (adapter, strategy, ml_logger, terminal), also one that has failed for good."""
    from supervisor.control import Control

    with one_line_errors(BusError), Control.of(Home.find(home)) as control:
        control.restart_node({"logger": LOGGER}.get(node, node))
    _say(f"{node} restarts")


@click.command("supervisor")
@common_options
@password_option
def supervisor(home: Path | None, config: Path | None, *, password_on_stdin: bool) -> None:
    """Run the supervisor in the foreground, its log in the home's logs/."""
    from mt5bus.processes import prepare_to_start_others
    from protocol.loop import Loop
    from supervisor import instance
    from supervisor.node import SupervisorNode

    with one_line_errors(BusError):
        loaded = load(home, config, password=True, password_on_stdin=password_on_stdin)
        loaded.home.create()
        held = instance.lock(loaded.home)
        start_logs("supervisor", loaded)
        prepare_to_start_others()
        loop = Loop()
        node = SupervisorNode(
            loaded,
            specs=node_specs(loaded),
            terminal_spec=terminal_spec(loaded),
            loop=loop,
            version=_version(),
        )
        node.install_signals()
        try:
            code = node.run()
        finally:
            node.close()
            loop.close()
            held.release()
    sys.exit(code)


class _Screen:
    """Shows status documents: live tables on a terminal, plain lines elsewhere."""

    def __init__(self, *, live: bool = True) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live: Live | None = None
        self._count = 0
        self._last_state = ""
        self._once = not live
        if live and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, screen=False)
            self._live.start()

    def __call__(self, document: SystemStatus) -> None:
        from supervisor import view

        if self._live is not None:
            self._live.update(view.render(document), refresh=True)
        elif self._once and self._console.is_terminal:
            self._console.print(view.render(document))
        elif self._once:
            for line in view.plain_lines(document):
                click.echo(line)
        else:
            if document.state != self._last_state or self._count % SUMMARY_EVERY == 0:
                click.echo(view.summary(document))
            self._last_state = document.state
            self._count += 1

    def close(self) -> None:
        """Leave the console as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class _interrupting:  # noqa: N801  reads as a verb where it is used
    """Call back when the process is told to end; told a second time, it ends without waiting for anything."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._told = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._told:
            raise KeyboardInterrupt
        self._told = True
        self._callback()


def _say(line: str) -> None:
    click.echo(f"mt5bus: {line}", err=True)


def _monotonic_s() -> float:
    from protocol.clock import SystemClock

    return SystemClock.monotonic_ns() / 1e9


def _version() -> str:
    try:
        return installed_version("mt5bus")
    except PackageNotFoundError:
        return "0+checkout"
