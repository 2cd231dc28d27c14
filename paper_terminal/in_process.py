"""The broker in the caller's own process, for backtests: no terminal, no socket, nothing on the disk.

    ticks = {"EURUSD": records}                        MT5 tick records, times UTC, oldest first
    replay = InProcess(ticks, Settings(symbols=...))
    while replay.go_to(next_interesting_tick):         false at the end
        replay.send(TradeRequest(action=1, symbol="EURUSD", volume=0.1, type=0))

The same broker as behind the terminal's process goes through the ticks: stops, pending orders, expiry, swaps and
stop-outs happen at the tick where they would there. Ticks at which nothing can happen are found with NumPy over blocks
and not looked at one by one. A replay halts where the book changed, so that the caller can answer at that very tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from paper_terminal.accounts import Account
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import CheckResult, SendResult, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.market import make_feed, market_hours
from paper_terminal.records import Records
from paper_terminal.settings import Settings
from paper_terminal.skipping import Ticks, merged
from paper_terminal.state import Change, Loaded
from paper_terminal.trading import TradeDesk

_BLOCK: Final = 1 << 16
"""Ticks that a condition is asked about at once."""


class _Nowhere:
    """A store that keeps nothing."""

    def commit(self, changes: Iterable[Change], facts: dict[str, int]) -> None:
        """Forget changes and facts."""


class InProcess:
    """A market of known ticks and the broker that trades on it."""

    def __init__(self, ticks: Mapping[str, Records], settings: Settings | None = None) -> None:
        """Stand before the first tick, with the accounts of the settings opened.

        Args:
            ticks: Records of each symbol by the broker's name, dtype TICK_DTYPE, shape (n,), times UTC, ascending.
                Ticks without bid or ask are left out.
            settings: Symbols, accounts and rules; None: the usual ones. The feed in it does not matter here.

        Raises:
            ValueError: no ticks, or of a symbol that is not specified.
        """
        settings = settings or Settings()
        blocks = [(name, records) for name, records in ticks.items() if len(records)]
        if not blocks:
            raise ValueError("there are no ticks")
        self.ticks: Ticks = merged(blocks)
        """All ticks in order; indices of this class are places in it."""
        first_ms = int(self.ticks.times_ms[0])
        self.engine = Engine(settings, store=_Nowhere(), facts={}, now_ms=first_ms - 1, is_open=market_hours(settings))
        unknown = sorted(set(ticks) - set(self.engine.symbols))
        if unknown:
            raise ValueError(f"no symbol of this name is specified: {', '.join(unknown)}")
        opened = [self.engine.open_account(each, Loaded([], [], [], [])) for each in settings.accounts]
        self.account: Account = opened[0]
        """Whose requests are sent: the first of the settings; any of `engine.accounts` may be put here."""
        self.at = 0
        """How many ticks have been gone through."""
        self._desk = TradeDesk(self.engine)

    @classmethod
    def of_feed(cls, settings: Settings, from_ms: int, to_ms: int) -> Self:
        """Open the market of the settings' feed (files, or synthetic) between two moments, UTC milliseconds.

        Raises:
            FeedError: a file cannot be used.
            SettingsError: the feed's settings cannot be used.
            ValueError: there are no ticks between them.
        """
        feed = make_feed(settings, resume_ms=None)
        names = {f"{settings.prefix}{each.name}{settings.suffix}": each.name for each in settings.symbols}
        quoted = {name: plain for name, plain in names.items() if plain in feed.symbols}
        return cls({name: feed.history(plain, from_ms, to_ms) for name, plain in quoted.items()}, settings)

    @property
    def time_ms(self) -> int:
        """Return the present, UTC milliseconds."""
        return self.engine.now_ms

    def quote(self, name: str) -> Quote | None:
        """Return a symbol's present quote, None before its first."""
        return self.engine.quotes.get(name)

    def go_to(self, index: int) -> bool:
        """Go through the ticks up to and including that of `index`, halting after one that changed the book.

        Returns whether there was a tick to go through. Whether it has come as far as asked, `at` tells: then it is
        `index + 1`. The last ticks are gone through with an index beyond them.
        """
        end = min(index + 1, len(self.ticks))
        if self.at >= end:
            return False
        self.at = self.engine.go_through(self.ticks, self.at, end)
        self.engine.commit()
        return True

    def go_until(self, condition: Callable[[Ticks], NDArray[np.bool_]]) -> bool:
        """Go through the ticks to the next for which a condition holds, halting after one that changed the book.

        Args:
            condition: Given up to 65,536 ticks in order, returns for each whether it is wanted, shape (n,).

        Returns whether it halted at a wanted tick or a change; false at the end.
        """
        while self.at < len(self.ticks):
            begin = self.at
            block = self.ticks.window(begin, min(begin + _BLOCK, len(self.ticks)))
            wanted = np.flatnonzero(condition(block))
            last = begin + (int(wanted[0]) if len(wanted) else len(block) - 1)
            self.go_to(last)
            if self.at <= last or len(wanted) or self.changed:
                return True
        return False

    @property
    def changed(self) -> bool:
        """Tell whether the newest tick changed the book: a stop, a pending order, an expiry, a swap, a stop-out."""
        return self.engine.changed_at_last_tick

    def send(self, request: TradeRequest) -> SendResult:
        """Carry out a request at the present quotes, as `order_send` does."""
        return self._desk.send(self.account, request)

    def check(self, request: TradeRequest) -> CheckResult:
        """Return what a request would leave, as `order_check` does."""
        return self._desk.check(self.account, request)
