"""One client's connection as the terminal's process sees it, and what an answer is."""

from __future__ import annotations

import socket
from typing import TypeAlias

from paper_terminal.wire import Reply

Answer: TypeAlias = tuple[Reply, memoryview | None]
"""A reply, and the records that follow it."""


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over an accepted connection."""
        self.socket = connection
        self.received = bytearray()
        self.to_send: list[memoryview] = []
        self.greeted = False
        self.is_control = False
        """It gives controls only, and counts for no limit."""
        self.waits_for_place = False
        """It has said hello, but as many clients as there may be are attached: its turn comes when one has gone."""
        self.busy = False
        """A delayed or endless call is under way: nothing more is read from this client until it is over."""
        self.waits_to_send = False
        self.closed = False
