"""`python -P -m broker_adapter`: the node as its own process."""

from broker_adapter.cli import adapter

if __name__ == "__main__":
    adapter(prog_name="python -m broker_adapter")
