"""What the supervisor starts: the command line of each node, and the order of starting and stopping.

Node names are those of their keys; a node is recognised by the key it presents itself with.
"""

from __future__ import annotations

from mt5bus import handover
from mt5bus.config import Loaded
from mt5bus.processes import module_command
from supervisor.children import ChildSpec

ADAPTER = "adapter"
STRATEGY = "strategy"
LOGGER = "ml_logger"
TERMINAL = "terminal"

NODE_MODULES = {ADAPTER: "broker_adapter", STRATEGY: "strategy", LOGGER: "ml_logger"}
NEEDS = {ADAPTER: TERMINAL, STRATEGY: ADAPTER, LOGGER: ADAPTER}
"""Which process has to be there before a node is started for the first time."""
STOP_ORDER = ((STRATEGY, LOGGER), (ADAPTER,), (TERMINAL,))
"""Groups that end one after the other: nobody loses the process it depends on before it is gone itself."""


def node_specs(loaded: Loaded) -> list[ChildSpec]:
    """Return the nodes of a configuration, in starting order."""
    return [_node(loaded, name, module) for name, module in NODE_MODULES.items()]


def _node(loaded: Loaded, name: str, module: str) -> ChildSpec:
    home = str(loaded.home.path)
    arguments = ["--home", home]
    if loaded.file is not None:
        arguments += ["--config", str(loaded.file)]
    stdin = b""
    password = loaded.settings.terminal.password
    if name == ADAPTER and password:
        arguments.append(handover.OPTION)
        stdin = handover.pack(password)
    return ChildSpec(
        name=name,
        command=tuple(module_command(module, *arguments)),
        output=loaded.home.logs / f"{name}-output.txt",
        marks=("-m", module, "--home", home),
        stdin=stdin,
    )
