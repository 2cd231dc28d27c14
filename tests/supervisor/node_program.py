"""A small real node for the supervisor's tests: it lives as a node does, and misbehaves on demand.

Behaviours, one file each in the home's run folder, named `<node>.<behaviour>`, seen at every turn:
hang (stop turning), exit (end with code 7), degraded, starting (say so in pongs). `--at-once exit|hang`
misbehaves at start.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mt5bus import config
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import AdapterReport, LoggerReport, NodeReport, OrderCounts, StrategyReport, StreamReport
from protocol.node import NodeLife

REPORTS: dict[str, NodeReport] = {
    "adapter": AdapterReport(
        "connected", 7, "Paper", "USD", 1000.0, 1001.0, OrderCounts(3, 2, 1), (), (), (), "active"
    ),
    "strategy": StrategyReport(("s",), 4, 3, True),
    "ml_logger": LoggerReport(10, 4, 3, 2, 9),
}


def hang() -> None:
    while True:
        time.sleep(60)


def main(arguments: list[str]) -> None:
    name, home_text, misbehaviour = arguments[0], arguments[arguments.index("--home") + 1], ""
    if "--at-once" in arguments:
        misbehaviour = arguments[arguments.index("--at-once") + 1]
    if misbehaviour == "exit":
        sys.stderr.write("Error: the thing is not there\n")
        sys.exit(7)
    if misbehaviour == "hang":
        hang()
    loaded = config.load(Path(home_text))
    keys = KeyStore(loaded.home.keys)
    loop = Loop()
    life = NodeLife(
        loop,
        loop.context,
        name=name,
        version="1",
        identity=keys.identity(name),
        pings_address=loaded.settings.bus.pings,
        server_key=keys.server_key("supervisor"),
        report=lambda: REPORTS[name],
        streams=lambda: (StreamReport("tick/EURUSD", 5, 0, 0, 0, 1.5),),
    )
    life.install_signals()

    def behave() -> None:
        if (loaded.home.run / f"{name}.hang").exists():
            hang()
        if (loaded.home.run / f"{name}.exit").exists():
            sys.exit(7)
        said = (state for state in ("degraded", "starting") if (loaded.home.run / f"{name}.{state}").exists())
        life.state = next(said, "ready")

    loop.every(0.02, behave)
    loop.run()
    life.close()
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1:])
