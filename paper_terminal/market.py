"""The market's clock and feed: when which tick happens.

With the feed's clock at `wall` it is the machine's time. With `feed` it is the ticks' own time, which passes at the
set speed from the feed's start, or at `max` one step whenever clients have asked for data (at the latest
every 20 ms). After the last tick the time goes on at real speed, and the last quotes stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal.deep_history import MinuteBars
from paper_terminal.feeds import DEFAULT_SYMBOLS, Feed, FileFeed, SyntheticFeed, SyntheticSymbol, TickFile
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.settings import FeedSettings, Settings, SettingsError
from paper_terminal.specifications import Specification
from paper_terminal.trading_hours import TradingHours

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
_IDLE_STEP_NS: Final = 20_000_000
_HOURS_A_WEEK: Final = 168
# The epoch was a Thursday at midnight: 72 hours into a week that starts on Monday.
_EPOCH_HOUR_OF_WEEK: Final = 72
_FRIDAY_CLOSE_HOUR: Final = 4 * 24 + 22
_SUNDAY_OPEN_HOUR: Final = 6 * 24 + 22

Blocks = list[tuple[str, Records]]


def wall_ms() -> int:
    """Return the machine's time, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def weekend_is_open(utc_ms: int) -> bool:
    """Tell whether the synthetic market trades at a moment: closed from Friday to Sunday, 22:00 UTC both."""
    hour = (utc_ms // HOUR_MS + _EPOCH_HOUR_OF_WEEK) % _HOURS_A_WEEK
    return not _FRIDAY_CLOSE_HOUR <= hour < _SUNDAY_OPEN_HOUR


def market_hours(settings: Settings) -> Callable[[int], bool]:
    """Return what tells whether the market is open; file feeds are open always."""
    if settings.weekend and settings.feed.kind == "synthetic":
        return weekend_is_open
    return lambda _utc_ms: True


def make_feed(settings: Settings, *, resume_ms: int | None) -> Feed:
    """Return the feed of the settings, to go on after `resume_ms` where that is given.

    Raises:
        FeedError: a file cannot be used.
        SettingsError: the start is no date, or a symbol has no price.
    """
    start_ms = _parsed_start_ms(settings.feed) if resume_ms is None else resume_ms + 1
    if settings.feed.kind == "files":
        return FileFeed(
            _files(settings),
            crossed=settings.feed.crossed,
            start_ms=start_ms,
            server_time=ServerTimeRule(settings.server_time),
        )
    return SyntheticFeed(
        settings.feed.seed,
        _synthetic_symbols(settings),
        start_ms=wall_ms() if start_ms is None else start_ms,
        weekends=not settings.weekend,
        clock="wall" if settings.feed.speed == 1.0 and not settings.feed.start else "feed",
    )


def _files(settings: Settings) -> list[TickFile]:
    symbols = {each.name: each for each in settings.symbols}
    files = []
    for each in settings.feed.files:
        symbol = symbols[each.symbol]
        paths = [path for name in each.paths for path in _expanded(Path(name))]
        asks = [path for name in each.ask_paths for path in _expanded(Path(name))]
        if asks and len(asks) != len(paths):
            raise SettingsError(f"feed.files, {each.symbol}: {len(paths)} files of the bid, {len(asks)} of the ask")
        files += [
            TickFile(
                path=path,
                symbol=each.symbol,
                format_name=each.format,
                zone=each.zone,
                ask_path=ask,
                digits=symbol.digits,
                in_points=each.prices == "points",
                by_last=symbol.by_last,
            )
            for path, ask in zip_longest(paths, asks)
        ]
    return files


def _expanded(path: Path) -> list[Path]:
    """Return a file, or all files of a folder and of the folders in it, in the order of their names."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _parsed_start_ms(feed: FeedSettings) -> int | None:
    if not feed.start:
        return None
    try:
        moment = datetime.fromisoformat(feed.start)
    except ValueError as error:
        raise SettingsError(f"feed.start: {feed.start!r} is not an ISO date and time") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(moment.timestamp() * 1000)


def _synthetic_symbols(settings: Settings) -> list[SyntheticSymbol]:
    known = {each.name: each for each in DEFAULT_SYMBOLS}
    symbols = []
    for each in settings.symbols:
        pattern = known.get(each.name)
        price = each.synthetic_price or (pattern.price if pattern else 0.0)
        if not price:
            raise SettingsError(f"symbols, {each.name}: the synthetic market needs its synthetic_price")
        symbols.append(
            SyntheticSymbol(
                name=each.name,
                price=price,
                digits=each.digits,
                daily_volatility=pattern.daily_volatility if pattern else 0.007,
                spread_points=pattern.spread_points if pattern else 10,
                ticks_per_second=settings.feed.ticks_per_second,
                deals=each.by_last,
                opened=_trading(each, settings),
            )
        )
    return symbols


def _trading(symbol: Specification, settings: Settings) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None:
    """Return what tells the feed when a symbol trades, in UTC seconds; None for always."""
    hours, rule = TradingHours(symbol.sessions, symbol.holidays), ServerTimeRule(settings.server_time)
    if hours.always:
        return None
    return lambda times_s: hours.opened(rule.to_server_seconds(times_s))


class Market:
    """The feed with its clock. `rename` turns its plain symbols into the broker's."""

    def __init__(
        self,
        feed: Feed,
        settings: FeedSettings,
        *,
        rename: Callable[[str], str],
        held: bool = False,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = wall_ms,
    ) -> None:
        """Stand at the feed's start; with `held` the feed's time stands still until `release`."""
        self._feed = feed
        self._speed = settings.speed
        self._step_ms = settings.step_ms
        self._rename = rename
        self._monotonic_ns = monotonic_ns
        self._wall = wall
        self._held = held and feed.clock == "feed"
        self._next_ms = feed.next_time_ms()
        self._base_ms = wall() if feed.clock == "wall" else feed.start_ms
        if self._next_ms is not None:  # what is to come is not past yet
            self._base_ms = min(self._base_ms, self._next_ms - 1)
        self._base_ns = monotonic_ns()
        self._ended = False
        self._asked = False
        self.now_ms = self._base_ms
        """Present time, UTC milliseconds; it never goes back."""

    @property
    def own_clock(self) -> bool:
        """Tell whether the time is the feed's, not the machine's."""
        return self._feed.clock == "feed"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the plain names the feed quotes."""
        return self._feed.symbols

    @property
    def ended(self) -> bool:
        """Tell whether the feed has no more ticks."""
        return self._ended

    def release(self) -> None:
        """Let a held feed begin."""
        if self._held:
            self._held = False
            self._base_ns = self._monotonic_ns()

    def asked(self) -> None:
        """Note that a client has asked for market data: at speed `max` the next step is due."""
        self._asked = True

    def history(self, symbol: str, from_ms: int, to_ms: int) -> Records:
        """Return the ticks of a plain symbol between two moments."""
        return self._feed.history(symbol, from_ms, to_ms)

    def minute_bars(self, symbol: str) -> MinuteBars | None:
        """Return what makes a plain symbol's minute bars of any time, or None where the feed cannot."""
        if not isinstance(self._feed, SyntheticFeed):
            return None
        return partial(self._feed.minute_bars, symbol)

    def advance(self) -> Blocks:
        """Let time pass; return the ticks that have happened since the last call, times UTC."""
        due_ms = self._due_ms()
        if due_ms <= self.now_ms:
            return []
        blocks: Blocks = []
        if self._next_ms is not None and self._next_ms <= due_ms:
            blocks = [(self._rename(name), ticks) for name, ticks in self._feed.take(due_ms) if len(ticks)]
            self._next_ms = self._feed.next_time_ms()
            if self._next_ms is None and not self._ended:
                due_ms = self._end_feed(max(int(ticks["time_msc"][-1]) for _, ticks in blocks))
        self.now_ms = due_ms
        return blocks

    def _end_feed(self, last_ms: int) -> int:
        self._ended = True
        self._base_ms, self._base_ns = max(self.now_ms, last_ms), self._monotonic_ns()
        return self._base_ms

    def _due_ms(self) -> int:
        if self._feed.clock == "wall":
            return self._wall()
        if self._held:
            return self.now_ms
        passed_ns = self._monotonic_ns() - self._base_ns
        if self._ended:
            return self._base_ms + passed_ns // 1_000_000
        if self._speed != "max":
            return self._base_ms + int(passed_ns * self._speed / 1_000_000)
        if not self._asked and passed_ns < _IDLE_STEP_NS:
            return self.now_ms
        self._asked = False
        self._base_ns = self._monotonic_ns()
        return max(self.now_ms + self._step_ms, self._next_ms or 0)

    def wait_s(self) -> float | None:
        """Return how long nothing will happen, in real seconds; None while held or at the end."""
        if self._next_ms is None or self._held:
            return None
        if self._feed.clock == "wall":
            return max(0.0, (self._next_ms - self._wall()) / 1000)
        passed_ns = self._monotonic_ns() - self._base_ns
        if self._speed == "max":
            return 0.0 if self._asked else max(0.0, (_IDLE_STEP_NS - passed_ns) / 1e9)
        return max(0.0, (self._next_ms - self._base_ms) / self._speed / 1000 - passed_ns / 1e9)
