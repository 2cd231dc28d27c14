"""What the commands report in one line: expected failures of configuration, home and processes.

Mt5busError
├── ConfigError     a key, value or file of the configuration: correct it and start again
├── HomeError       a folder or file below the home: permissions, space, a foreign file
└── ProcessError    a process that did not start, stop or answer
"""

from __future__ import annotations


class Mt5busError(Exception):
    """An expected failure: its text is one line that says what happened and what to do."""


class ConfigError(Mt5busError):
    """The configuration names a key, value or file that cannot be used."""


class HomeError(Mt5busError):
    """The home folder cannot be made, protected or read."""


class ProcessError(Mt5busError):
    """A process could not be started, stopped or reached."""
