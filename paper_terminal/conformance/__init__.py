"""One suite for two sides: cases written against the module's interface, run on the real one or on ours.

`python -m paper_terminal conformance --api MetaTrader5` on a Windows machine with a demonstration account tells
where the paper terminal and the real one differ, and answers the questions nobody here could.
"""

from paper_terminal.conformance.runner import Case, Context, Difference, Report, Result, run_suite

__all__ = ["Case", "Context", "Difference", "Report", "Result", "run_suite"]
