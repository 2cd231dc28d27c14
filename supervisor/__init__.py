"""The supervisor: starts, watches and restarts the nodes and the terminal, and tells how they are."""
