"""The supervisor as a process, over stub nodes: `supervisor_program.py --home DIR [--bad]`."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from mt5bus import config
from mt5bus.options import start_logs
from protocol.loop import Loop
from supervisor import instance
from supervisor.node import SupervisorNode
from tests.supervisor.stub_system import all_specs, node_spec, stub_terminal


def main(arguments: list[str]) -> int:
    loaded = config.load(Path(arguments[arguments.index("--home") + 1]))
    specs = all_specs(loaded)
    if (loaded.home.run / "bad-start").exists():
        specs[1] = node_spec(loaded, "strategy", "--at-once", "exit")
    held = instance.lock(loaded.home)
    start_logs("supervisor", loaded)
    loop = Loop()
    terminal = stub_terminal(loaded)
    if (loaded.home.run / "bad-terminal").exists():
        terminal = msgspec.structs.replace(terminal, command=(sys.executable, "-c", "exit('bad settings')"))
    node = SupervisorNode(loaded, specs=specs, terminal_spec=terminal, loop=loop, version="test")
    node.install_signals()
    try:
        return node.run()
    finally:
        node.close()
        loop.close()
        held.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
