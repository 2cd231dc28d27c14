"""Between the supervisor and the nodes (pings, role ``node``), and between people and the supervisor (control)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from protocol.messages.base import Message, Reply, Request
from protocol.messages.values import Deal, Position, Quote, Value

Name = Annotated[str, Meta(max_length=64)]


class StreamReport(Value, frozen=True, array_like=True):
    """How one subscription fares since the node started. `lag_ms`: age of the last message when handled.

    `unhealed`: gaps that stay; between two lives of the adapter nobody knows how many ticks that is.
    """

    stream: str
    received: int
    gaps: int
    healed: int
    skipped: int
    lag_ms: float = 0.0
    unhealed: int = 0


class OrderCounts(Value, frozen=True, array_like=True):
    """Our orders since the journal began."""

    submitted: int = 0
    filled: int = 0
    rejected: int = 0
    unknown: int = 0


class DoorCounts(Value, frozen=True, array_like=True):
    """What a node's sockets turned away since it started."""

    keys_refused: int = 0
    handshakes_failed: int = 0
    malformed: int = 0
    crowded: int = 0


class AdapterReport(msgspec.Struct, frozen=True, array_like=True, tag="adapter"):
    """What the adapter adds to its pong. Money in the account's currency; `login` 0 while no account is known.

    `restrictions`: what stands against new exposure beside the trading mode, and what is being flattened, for people.
    """

    connection: str
    login: int
    server: str
    currency: str
    balance: float
    equity: float
    orders: OrderCounts
    positions: tuple[Position, ...]
    quotes: tuple[Quote, ...]
    last_deals: tuple[Deal, ...]
    trading_mode: str
    detail: str = ""
    order_in_flight: bool = False
    doors: DoorCounts = DoorCounts()
    restrictions: tuple[str, ...] = ()


class StrategyReport(msgspec.Struct, frozen=True, array_like=True, tag="strategy"):
    """What a strategy node adds to its pong."""

    strategies: tuple[str, ...]
    signals: int
    orders: int
    warm: bool
    detail: str = ""


class LoggerReport(msgspec.Struct, frozen=True, array_like=True, tag="logger"):
    """What the ML logger adds to its pong: rows in the store, and the last event offset it holds."""

    bars: int
    signals: int
    orders: int
    deals: int
    event_offset: int
    detail: str = ""


NodeReport = AdapterReport | StrategyReport | LoggerReport | None


class Hello(Message, frozen=True, array_like=True):
    """A node presents itself; repeated every second until it is pinged.

    Attributes:
        instance: Drawn at the node's start; tells one life from the next.
        pid: The node's own process id (on Windows not what its starter sees).
        create_time: The process's creation time as psutil gives it, seconds since 1970.
    """

    kind: ClassVar[str] = "hello"
    node: Name
    instance: Name
    pid: int
    create_time: float
    version: Name
    state: Name


class Ping(Message, frozen=True, array_like=True):
    """The supervisor asks whether the node's own loop turns."""

    kind: ClassVar[str] = "ping"
    serial: int
    sent_ns: int


class Pong(Message, frozen=True, array_like=True):
    """The node's answer, from its main loop.

    Attributes:
        serial, sent_ns: The ping's.
        state: ``starting``, ``ready``, ``degraded`` or ``stopping``.
        progress: A number that grows while the node does its work; one that stands still shows an idle loop.
        busy_until_ns: Monotonic time until which known long work may delay pongs; 0 if none.
        longest_turn_ms: The longest turn of its loop in the last minute or two: for so long nothing else was served.
    """

    kind: ClassVar[str] = "pong"
    node: Name
    instance: Name
    serial: int
    sent_ns: int
    state: Name
    progress: int
    busy_until_ns: int
    streams: tuple[StreamReport, ...]
    report: NodeReport = None
    longest_turn_ms: float = 0.0


class StopNode(Message, frozen=True, array_like=True):
    """The supervisor asks the node to end."""

    kind: ClassVar[str] = "stop_node"
    reason: Name


class Goodbye(Message, frozen=True, array_like=True):
    """The node ends on purpose."""

    kind: ClassVar[str] = "goodbye"
    node: Name
    instance: Name
    reason: Name


class GetStatus(Request, frozen=True, array_like=True):
    """Ask the supervisor for the status document."""

    kind: ClassVar[str] = "get_status"


class StatusReply(Reply, frozen=True, array_like=True):
    """The status document as JSON (see docs/status.md)."""

    kind: ClassVar[str] = "status"
    document: bytes


class StopSystem(Request, frozen=True, array_like=True):
    """Ask the supervisor to stop every node, the terminal it started, and itself."""

    kind: ClassVar[str] = "stop_system"


class RestartNode(Request, frozen=True, array_like=True):
    """Ask the supervisor to restart one node, also one that has failed for good."""

    kind: ClassVar[str] = "restart_node"
    node: Name
