"""Hostile input by the million: on every decoder, and on the ports of a running system.

`python -m tests.fuzz --help` for the long run; `tests/fuzz/test_short.py` runs some seconds of it. What a run showed is
in docs/hostile-input.md.
"""
