"""`python -P -m strategy`: the node as its own process."""

from strategy.cli import strategy

if __name__ == "__main__":
    strategy(prog_name="python -m strategy")
