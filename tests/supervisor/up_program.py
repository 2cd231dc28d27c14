"""`mt5bus` over stub nodes: the real commands, with the supervisor program of the tests in place of the real one."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from mt5bus.cli import main
from mt5bus.config import Loaded
from mt5bus.processes import ProcessIdentity
from supervisor import launch
from supervisor.children import ChildSpec, find_running
from tests.supervisor.stub_system import all_specs, stub_terminal

PROGRAM = Path(__file__).resolve().parent / "supervisor_program.py"


def supervisor_spec(loaded: Loaded) -> ChildSpec:
    """Return how to start the tests' supervisor."""
    home = str(loaded.home.path)
    return ChildSpec(
        name="supervisor",
        command=(sys.executable, "-m", "tests.supervisor.supervisor_program", "--home", home),
        output=loaded.home.logs / "supervisor-output.txt",
        marks=("tests.supervisor.supervisor_program", "--home", home),
        folder=PROGRAM.parents[2],
    )


def home_processes(loaded: Loaded) -> dict[str, ProcessIdentity]:
    """Return the stub processes that run on a home."""
    return find_running([supervisor_spec(loaded), *all_specs(loaded), stub_terminal(loaded)])


if __name__ == "__main__":
    with (
        patch.object(launch, "supervisor_spec", supervisor_spec),
        patch.object(launch, "home_processes", home_processes),
        patch.object(launch, "check_strategies", lambda _loaded: None),
    ):
        main()
