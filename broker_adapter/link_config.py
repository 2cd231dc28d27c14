"""What a link is told at its start, through its stdin: its keys, its adapter, the API module."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

_LONGEST = 16_384


class LinkConfig(msgspec.Struct, frozen=True):
    """Written by the adapter, read once by the link."""

    name: str
    role: str
    address: str
    server_key: str
    public: str
    secret: str
    adapter_pid: int
    api_module: str
    home: str
    log_level: str = "info"
    keep_days: int = 14

    def __repr__(self) -> str:
        return f"LinkConfig({self.name!r}, adapter_pid={self.adapter_pid})"


def read_config(stream: BinaryIO) -> LinkConfig:
    """Return the configuration that came on `stream`.

    Raises:
        msgspec.MsgspecError: Nothing, or something else, came: links are started by an adapter only.
    """
    return msgspec.json.decode(stream.readline(_LONGEST), type=LinkConfig)
