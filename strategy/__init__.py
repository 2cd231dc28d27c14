"""Strategies: what a user writes against (`strategy.sdk`), and the node that runs it.

Everything a strategy decides follows from its inputs, in the order in which they were dispatched. `dispatch` is that
rule without a socket; `runner` and `node` bring the inputs; `dispatch_log` keeps them, so that `replay` can show that
the same inputs give the same decisions.
"""

from strategy.sdk import Context, Strategy

__all__ = ["Context", "Strategy"]
