"""Every setting as a frozen struct: name with its unit, range, default and meaning.

This is the whole schema of `mt5bus.toml`: one struct per section, one field per key. The text in each
field's `Meta` is what `mt5bus config --describe` shows. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from mt5bus.secret import Secret

PORTS_IN_A_ROW = 5
PAPER_API = "paper_terminal.client"
REAL_API = "MetaTrader5"

Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,30}\Z")]
TIMEFRAME_PATTERN = r"^(S(1|2|3|5|10|15|20|30)|M(1|2|3|4|5|6|10|12|15|20|30)|H(1|2|3|4|6|8|12)|D1|W1|MN1)\Z"
TimeframeName = Annotated[str, Meta(pattern=TIMEFRAME_PATTERN)]
BrokerSymbolName = Annotated[str, Meta(min_length=1, max_length=31)]
# Canonical symbols stand in topics, which hold no other signs; `symbol_map` says which of the broker's is meant.
SymbolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.#&+\-]{1,31}\Z")]
OnSilence = Literal["reduce", "close", "alert"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: frozen values, and no key that is not declared."""


class Bus(Section, frozen=True):
    """Where the sockets are: five consecutive TCP ports."""

    host: Annotated[
        str, Meta(min_length=1, description="address the sockets bind to and are reached at; keep it loopback")
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            ge=1024,
            le=65_535 - PORTS_IN_A_ROW + 1,
            description="first of five ports: streams, queries, orders, pings, control",
        ),
    ] = 17600
    reach_host: Annotated[
        str, Meta(description="address at which others reach the sockets, if a forwarder stands between; '' = host")
    ] = ""
    reach_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535 - PORTS_IN_A_ROW + 1,
            description="first of the five ports at which others reach the sockets; 0 = port",
        ),
    ] = 0

    def _address(self, offset: int) -> str:
        return f"tcp://{self.reach_host or self.host}:{(self.reach_port or self.port) + offset}"

    @property
    def bound(self) -> Bus:
        """The same with the addresses that the owners of the sockets bind, not those at which they are reached."""
        return msgspec.structs.replace(self, reach_host="", reach_port=0)

    @property
    def streams(self) -> str:
        """Address of the adapter's XPUB: ticks, bars, events, beacons."""
        return self._address(0)

    @property
    def queries(self) -> str:
        """Address of the adapter's ROUTER for queries."""
        return self._address(1)

    @property
    def orders(self) -> str:
        """Address of the adapter's ROUTER for orders."""
        return self._address(2)

    @property
    def pings(self) -> str:
        """Address of the supervisor's ROUTER to which every node connects."""
        return self._address(3)

    @property
    def control(self) -> str:
        """Address of the supervisor's ROUTER for status and stop."""
        return self._address(4)

    @property
    def ports(self) -> dict[str, int]:
        """Return the port of each socket by its name."""
        names = ("streams", "queries", "orders", "pings", "control")
        return {name: self.port + offset for offset, name in enumerate(names)}


class Terminal(Section, frozen=True):
    """The MetaTrader 5 terminal, real or paper, and the account to log in to."""

    kind: Annotated[Literal["paper", "mt5"], Meta(description="paper: the stand-in terminal; mt5: terminal64.exe")] = (
        "paper"
    )
    api: Annotated[
        str,
        Meta(description=f"module with MetaTrader5's functions; '' = {PAPER_API} for paper, {REAL_API} for mt5"),
    ] = ""
    path: Annotated[
        str,
        Meta(description="paper: the terminal's folder, '' = terminal/ in the home; mt5: path of terminal64.exe"),
    ] = ""
    login: Annotated[
        Annotated[int, Meta(ge=1, le=2**63 - 1)] | None,
        Meta(description="account number; none = the account the terminal is logged in to (env MT5_LOGIN)"),
    ] = None
    password: Annotated[
        Secret,
        Meta(description="better in MT5_PASSWORD or the keyring (service mt5bus, user = login) than in a file"),
    ] = field(default_factory=Secret)
    server: Annotated[str, Meta(description="the broker's server name (env MT5_SERVER)")] = ""
    timeout_ms: Annotated[
        Milliseconds, Meta(description="how long initialize and login may take, ms (env MT5_TIMEOUT_MS)")
    ] = 10_000
    portable: Annotated[bool, Meta(description="mt5: start with /portable, data beside the program")] = False
    clock: Annotated[
        Literal["wall", "feed"],
        Meta(description="market time: the wall clock, or a file feed's own (only with the paper terminal)"),
    ] = "wall"
    manage: Annotated[bool, Meta(description="the supervisor starts and restarts the terminal")] = True

    @property
    def api_module(self) -> str:
        """Return the name of the module that links import."""
        return self.api or (PAPER_API if self.kind == "paper" else REAL_API)


class Deadlines(Section, frozen=True):
    """How long the adapter waits for a link before it kills it, by kind of call."""

    query_s: Annotated[Seconds, Meta(description="account, symbols, positions, last tick: s")] = 5.0
    order_send_s: Annotated[Seconds, Meta(description="order_send, order_check: s; past it: unknown")] = 30.0
    bulk_s: Annotated[Seconds, Meta(description="copying ticks, rates and history: s")] = 60.0
    start_s: Annotated[Seconds, Meta(description="a link process from start to ready: s")] = 15.0


class Connection(Section, frozen=True):
    """Coming back after a lost terminal: backoff and circuit breaker."""

    retry_delay_s: Annotated[Seconds, Meta(description="first pause, doubled each time: s (env MT5_RETRY_DELAY)")] = 1.0
    retry_delay_max_s: Annotated[Seconds, Meta(description="longest pause between attempts: s")] = 30.0
    max_retries: Annotated[
        int, Meta(ge=0, le=1000, description="attempts in a row before the failure counts (env MT5_MAX_RETRIES)")
    ] = 3
    breaker_failures: Annotated[int, Meta(ge=1, le=100, description="failures that open the breaker")] = 3
    breaker_open_s: Annotated[Seconds, Meta(description="first time open, doubled each time: s")] = 60.0
    breaker_max_s: Annotated[Seconds, Meta(description="longest time open: s")] = 600.0
    health_check_interval_s: Annotated[
        Seconds, Meta(description="between health probes: s (env MT5_HEALTH_CHECK_INTERVAL)")
    ] = 10.0


class SymbolRisk(Section, frozen=True):
    """What one symbol has instead of the limits for all: a table `[adapter.risk.symbol.NAME]`."""

    max_volume_per_order: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="lots in one order; none = as for all")
    ] = None
    max_volume_per_symbol: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="lots open on it; none = as for all")
    ] = None
    max_spread_points: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="points, for new exposure; 0 = no limit, none = as for all"),
    ] = None


class Risk(Section, frozen=True):
    """The gate every order passes. 0 means no limit where the text says so."""

    max_volume_per_order: Annotated[float, Meta(gt=0, description="lots in one order")] = 1.0
    max_volume_per_symbol: Annotated[float, Meta(gt=0, description="lots open on one symbol")] = 5.0
    max_positions: Annotated[int, Meta(ge=1, description="open positions, all symbols")] = 20
    max_orders_per_minute: Annotated[int, Meta(ge=1, description="orders accepted in any minute")] = 60
    max_daily_loss: Annotated[
        float, Meta(ge=0, description="account currency since the last server midnight; 0 = no limit")
    ] = 0.0
    max_spread_points: Annotated[int, Meta(ge=0, description="points, for new exposure; 0 = no limit")] = 0
    max_price_age_ms: Annotated[Milliseconds, Meta(description="age of the last tick, for new exposure: ms")] = 15_000
    symbols: Annotated[tuple[SymbolName, ...], Meta(description="symbols allowed; [] = every symbol")] = ()
    strategy_silence_s: Annotated[
        float, Meta(ge=3, le=86_400, description="a strategy not heard of for so long counts as silent: s")
    ] = 30.0
    on_strategy_silence: Annotated[
        OnSilence,
        Meta(description="then: its symbols only reduce, its positions are closed as well, or an alert and no more"),
    ] = "reduce"
    symbol: Annotated[
        dict[SymbolName, SymbolRisk],
        Meta(
            description="by symbol, limits of its own: max_volume_per_order, max_volume_per_symbol, max_spread_points"
        ),
    ] = field(default_factory=dict)


class Adapter(Section, frozen=True):
    """The broker adapter: what it watches and how it asks the terminal."""

    name: Annotated[Name, Meta(description="name on the bus: the third word of every topic")] = "main"
    symbols: Annotated[tuple[SymbolName, ...], Meta(min_length=1, description="symbols to stream, canonical")] = (
        "EURUSD",
        "GBPUSD",
        "USDJPY",
        "XAUUSD",
    )
    timeframes: Annotated[tuple[TimeframeName, ...], Meta(description="bars to publish, of every symbol")] = (
        "S5",
        "M1",
    )
    symbol_map: Annotated[
        dict[SymbolName, BrokerSymbolName], Meta(description="canonical = broker's name, where matching is not enough")
    ] = field(default_factory=dict)
    magic_base: Annotated[
        int, Meta(ge=1, le=127, description="tag in the top 7 bits of every order's magic number")
    ] = 77
    fixed_magic: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="one magic for every order; 0 = made from strategy and intent")
    ] = 0
    links: Annotated[
        Literal["three", "shared"],
        Meta(description="three: trade, feed and bulk apart; shared: one for all, without isolation"),
    ] = "three"
    tick_poll_interval_ms: Annotated[Milliseconds, Meta(description="between two looks at the last ticks: ms")] = 20
    sweep_interval_s: Annotated[Seconds, Meta(description="between two full copies of new ticks: s")] = 1.0
    event_poll_interval_ms: Annotated[
        Milliseconds, Meta(description="between two looks at orders, positions and deals: ms")
    ] = 250
    deals_overlap_h: Annotated[int, Meta(ge=1, le=168, description="deals are re-read this far back: hours")] = 24
    not_executed_after_s: Annotated[
        float,
        Meta(ge=1, le=86_400, description="an unknown order is ruled out after so long unbroken connection: s"),
    ] = 120.0
    watch_days: Annotated[int, Meta(ge=1, le=90, description="then still watched for a late fill: days")] = 7
    order_ttl_ms: Annotated[Milliseconds, Meta(description="time to live of an order that names none: ms")] = 5_000
    ids_kept_days: Annotated[int, Meta(ge=1, le=3650, description="client order ids are remembered: days")] = 90
    events_kept_days: Annotated[
        int, Meta(ge=1, le=3650, description="older events leave the log once every consumer has them: days")
    ] = 30
    journal_max_mb: Annotated[
        int, Meta(ge=8, le=1_000_000, description="above it events leave the log sooner, oldest first: 10^6 bytes")
    ] = 256
    journal_hard_max_mb: Annotated[
        int,
        Meta(ge=8, le=1_000_000, description="above it they leave also unread, with an alert: 10^6 bytes"),
    ] = 1024
    disk_reserve_mb: Annotated[
        int, Meta(ge=1, le=10_000, description="room held back on the disk, for exits when it is full: 10^6 bytes")
    ] = 16
    disk_low_mb: Annotated[
        int, Meta(ge=0, le=1_000_000, description="with less free only exits are taken: 10^6 bytes")
    ] = 64
    server_time: Annotated[
        str, Meta(min_length=1, description="broker's clock: auto, ny+7, eu+2, or a fixed one such as utc+3")
    ] = "auto"
    deadlines: Deadlines = field(default_factory=Deadlines)
    connection: Connection = field(default_factory=Connection)
    risk: Risk = field(default_factory=Risk)


class StrategySettings(Section, frozen=True, rename={"class_path": "class"}):
    """One strategy to run: a table in `[[strategy]]`."""

    name: Annotated[Name, Meta(description="its name in signals, orders and logs; unique")] = "confluence"
    class_path: Annotated[
        str,
        Meta(pattern=r"^.+:[A-Za-z_]\w*\Z", description="package.module:Class, or path/to/file.py:Class"),
    ] = "strategy.confluence:Confluence"
    symbols: Annotated[tuple[SymbolName, ...], Meta(description="symbols it sees; [] = all the adapter streams")] = ()
    timeframe: Annotated[TimeframeName, Meta(description="bars it sees; one of the adapter's")] = "S5"
    number: Annotated[int, Meta(ge=1, le=65_535, description="its id in every magic number; unique, never reused")] = 1
    silence_s: Annotated[
        Annotated[float, Meta(ge=3, le=86_400)] | None,
        Meta(description="not heard of for so long it counts as silent: s; none = adapter.risk.strategy_silence_s"),
    ] = None
    on_silence: Annotated[
        OnSilence | None, Meta(description="reduce, close or alert; none = adapter.risk.on_strategy_silence")
    ] = None
    params: Annotated[dict[str, Any], Meta(description="parameters handed to the class")] = field(default_factory=dict)


class Logger(Section, frozen=True):
    """The ML logger and its store."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^($|sqlite:///.|postgresql(\+psycopg)?://)",
            description="sqlite:///PATH or postgresql://USER@HOST/DATABASE; '' = SQLite in store/ of the home",
        ),
    ] = ""
    backfill_days: Annotated[int, Meta(ge=0, le=3650, description="history fetched at the first start: days")] = 3
    backfill_chunk_h: Annotated[int, Meta(ge=1, le=24 * 31, description="history fetched in one request: hours")] = 24
    commit_interval_ms: Annotated[Milliseconds, Meta(description="longest time before rows are committed: ms")] = 500
    rows_per_commit: Annotated[int, Meta(ge=1, le=100_000, description="rows that commit at once")] = 1000


class Supervisor(Section, frozen=True):
    """Starting, watching and restarting the nodes and the terminal."""

    ping_interval_s: Annotated[Seconds, Meta(description="between two pings of a node: s")] = 1.0
    missed_pongs: Annotated[int, Meta(ge=1, le=100, description="unanswered pings that mean: it hangs")] = 3
    backoff_first_s: Annotated[Seconds, Meta(description="pause before the second restart in a row: s")] = 0.5
    backoff_max_s: Annotated[Seconds, Meta(description="longest pause before a restart: s")] = 30.0
    max_restarts: Annotated[int, Meta(ge=1, le=1000, description="restarts allowed within the window")] = 10
    restart_window_s: Annotated[Seconds, Meta(description="the window those are counted in: s")] = 300.0
    start_deadline_s: Annotated[Seconds, Meta(description="a node from start to its first hello: s")] = 20.0
    stop_deadline_s: Annotated[
        Seconds, Meta(description="from being told to stop to being killed; nodes, adapter, terminal in turn: s")
    ] = 2.5


class Captures(Section, frozen=True):
    """Recording the bus."""

    folder: Annotated[str, Meta(description="'' = captures/ of the home")] = ""
    level: Annotated[int, Meta(ge=1, le=19, description="zstd level")] = 3
    flush_interval_s: Annotated[Seconds, Meta(description="longest time before records reach the file: s")] = 1.0
    min_free_mb: Annotated[
        int, Meta(ge=0, le=1_000_000, description="recording ends when less is free on its disk: 10^6 bytes")
    ] = 256


class Logging(Section, frozen=True):
    """The JSON logs in logs/ of the home."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least serious record to keep")] = (
        "info"
    )
    keep_days: Annotated[int, Meta(ge=1, le=3650, description="older files are removed: days")] = 14


class Settings(Section, frozen=True):
    """The whole of `mt5bus.toml`."""

    bus: Bus = field(default_factory=Bus)
    terminal: Terminal = field(default_factory=Terminal)
    paper: Annotated[dict[str, Any], Meta(description="handed to the paper terminal, which checks it itself")] = field(
        default_factory=dict
    )
    adapter: Adapter = field(default_factory=Adapter)
    strategy: tuple[StrategySettings, ...] = (StrategySettings(),)
    logger: Logger = field(default_factory=Logger)
    supervisor: Supervisor = field(default_factory=Supervisor)
    captures: Captures = field(default_factory=Captures)
    logging: Logging = field(default_factory=Logging)
