"""The functions of the API that show the market: symbols, ticks, bars, depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paper_terminal import constants as api
from paper_terminal import info
from paper_terminal.accounts import Account
from paper_terminal.arguments import matches_group
from paper_terminal.deep_history import DeepHistory
from paper_terminal.depth import depth
from paper_terminal.engine import Engine
from paper_terminal.history import SymbolHistory
from paper_terminal.market import DAY_MS, HOUR_MS, Market
from paper_terminal.records import Records
from paper_terminal.served import CallFailed, Functions, invalid_params, not_found, serves
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.settings import Settings
from paper_terminal.silences import Silences
from paper_terminal.specifications import Specification
from paper_terminal.state import SqliteStore
from paper_terminal.trading import TradeDesk


class MarketFunctions(Functions):
    """The market's side of a terminal: symbols, quotes, ticks, bars and depth, and its Market Watch."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        engine: Engine,
        market: Market,
        store: SqliteStore,
        silences: Silences,
        login: int,
    ) -> None:
        """Join the parts; `login` is the account it is logged in to."""
        self._folder = folder
        self._settings = settings
        self._engine = engine
        self._market = market
        self._store = store
        self._desk = TradeDesk(engine)
        self._login = login
        self._rule = ServerTimeRule(settings.server_time)
        self._histories = {
            name: SymbolHistory(self._rule, point=symbol.point, by_last=symbol.by_last)
            for name, symbol in engine.symbols.items()
        }
        self._selected = self._first_selection()
        self._synchronised: set[str] = set()
        self._books: set[str] = set()
        self._charts: set[str] = set()
        self._undelivered: list[tuple[str, Records]] = []
        self.connected = True
        """The link to the broker; without it the broker goes on, but nothing new is seen here."""
        self.trade_allowed = settings.trade_allowed
        """The AutoTrading button."""
        self.note: Callable[[str, str], None] = lambda _source, _text: None
        """Writes a line of the journal: source and text."""
        self.api_off = False
        """The option that forbids trading through the Python API."""
        self._hidden_from_ms: int | None = None
        self._swapped_from: int | None = None
        self._seen: dict[int, Account] = {}
        """The accounts as they were when the link to the broker was lost; empty while there is one."""
        self._silences = silences
        super().__init__()

    def _first_selection(self) -> set[str]:
        kept = self._store.market_watch()
        if kept:
            return kept & set(self._engine.symbols)
        watched = self._settings.market_watch
        return {name for name, each in self._engine.symbols.items() if watched is None or each.name in watched}

    @property
    def account(self) -> Account:
        """Return the account the terminal is logged in to, as this terminal sees it."""
        return self._seen.get(self._login) or self._engine.accounts[self._login]

    # The market's side ---------------------------------------------------------------------------------------

    def load_history(self, until_ms: int, *, since_ms: int) -> None:
        """Fill the histories with the feed's ticks from `since_ms` to `until_ms`, UTC."""
        from_ms = max(0, since_ms - int(self._settings.history_days * DAY_MS))
        deep_ms = int(self._settings.bar_history_days * DAY_MS)
        if deep_ms:  # what is older than the ticks ends on a whole hour
            from_ms -= from_ms % HOUR_MS
        for name, symbol in self._engine.symbols.items():
            try:
                ticks = self._silences.without(name, self._market.history(symbol.name, from_ms, until_ms))
            except KeyError:  # a symbol this feed does not quote has no history
                continue
            self._histories[name].append(ticks)
            source = self._market.minute_bars(symbol.name)
            if deep_ms and source is not None:
                first_ms = max(0, from_ms - deep_ms)
                self._histories[name].deepen(
                    DeepHistory(
                        self._rule,
                        source,
                        first_ms=first_ms,
                        until_ms=from_ms,
                        point=symbol.point,
                        by_last=symbol.by_last,
                    )
                )
            if len(ticks):
                self._engine.seed_quote(name, ticks)

    def advance(self) -> bool:
        """Let the market move on; tell whether ticks came.

        Raises:
            StateError: what the ticks caused cannot be made durable.
        """
        blocks = self._market.advance()
        if silent := self._silences.names:
            blocks = [block for block in blocks if block[0] not in silent]
        self._engine.on_ticks(blocks, self._market.now_ms)
        if not self.connected:
            self._undelivered += blocks
            return False
        if self._undelivered:
            blocks, self._undelivered = self._undelivered + blocks, []
        for name, ticks in blocks:
            self._histories[name].append(ticks)
        return bool(blocks)

    # Symbols -------------------------------------------------------------------------------------------------

    def _symbol(self, name: str) -> Specification:
        symbol = self._engine.symbols.get(name)
        if symbol is None:
            raise not_found()
        return symbol

    def _info(self, name: str) -> list[Any]:
        symbol, selected = self._engine.symbols[name], name in self._selected
        history = self._histories[name]
        return info.symbol_info(
            name,
            symbol,
            selected=selected,
            tick=history.last_tick() if selected else None,
            day=history.day(),
            converter=self._engine.converter,
            currency=self.account.settings.currency,
        )

    @serves
    def symbols_total(self) -> int:
        """Return how many symbols the broker has."""
        return len(self._engine.symbols)

    @serves
    def symbols_get(self, group: str) -> list[list[Any]]:
        """Return the symbols a mask selects."""
        self._market.asked()
        return [self._info(name) for name in self._engine.symbols if matches_group(group, name)]

    @serves
    def symbol_info(self, name: str) -> list[Any]:
        """Return a symbol's values."""
        self._market.asked()
        self._symbol(name)
        return self._info(name)

    @serves
    def symbol_info_tick(self, name: str) -> list[Any]:
        """Return the newest tick of a symbol in Market Watch."""
        self._market.asked()
        self._symbol(name)
        tick = self._histories[name].last_tick() if name in self._selected else None
        if tick is None:
            raise not_found()
        return list(tick[0].item())

    @serves
    def symbol_select(self, name: str, enable: bool) -> bool:
        """Put a symbol into Market Watch or take it out; refused while a chart, position or order uses it."""
        if name not in self._engine.symbols:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        if not enable and self._in_use(name):
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        if enable != (name in self._selected):
            self._selected ^= {name}
            self._store.save_market_watch(self._selected)
        return True

    def _in_use(self, name: str) -> bool:
        return name in self._charts or name in self.account.books

    @serves
    def market_book_add(self, name: str) -> bool:
        """Subscribe to a symbol's depth; refused where the symbol has none."""
        if not self._symbol(name).book_depth:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        self._books.add(name)
        return True

    @serves
    def market_book_release(self, name: str) -> bool:
        """End the subscription; refused where there is none."""
        if name not in self._books:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        self._books.remove(name)
        return True

    @serves
    def market_book_get(self, name: str) -> list[list[Any]]:
        """Return the depth of a subscribed symbol at the present quote."""
        self._market.asked()
        symbol = self._symbol(name)
        if name not in self._books:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        tick = self._histories[name].last_tick()
        if tick is None:
            return []
        return depth(symbol, bid=float(tick["bid"][0]), ask=float(tick["ask"][0]), time_msc=int(tick["time_msc"][0]))

    # Ticks and bars ------------------------------------------------------------------------------------------

    def _history(self, name: str) -> SymbolHistory:
        self._market.asked()
        self._symbol(name)
        return self._histories[name]

    def _delivered(self, name: str, records: Records) -> Records:
        """Return records, as the setting `first_history_call` says of the first call for a symbol."""
        if name in self._synchronised or self._settings.first_history_call == "whole":
            return records
        self._synchronised.add(name)
        if self._settings.first_history_call == "fail":
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        return records[len(records) // 2 :]

    @serves
    def copy_ticks_from(self, name: str, from_s: int, count: int, flags: int) -> Records:
        """Return ticks from a second on."""
        return self._delivered(name, self._history(name).ticks_from(from_s, count, flags))

    @serves
    def copy_ticks_range(self, name: str, from_s: int, to_s: int, flags: int) -> Records:
        """Return ticks between two seconds, both included."""
        return self._delivered(name, self._history(name).ticks_range(from_s, to_s, flags))

    def _check_bars(self, count: int) -> None:
        if count >= self._settings.max_bars:
            raise invalid_params()

    @serves
    def copy_rates_from(self, name: str, timeframe: int, from_s: int, count: int) -> Records:
        """Return bars that open at or before a second."""
        self._check_bars(count)
        return self._delivered(name, self._history(name).bars_from(timeframe, from_s, count))

    @serves
    def copy_rates_from_pos(self, name: str, timeframe: int, start: int, count: int) -> Records:
        """Return bars back from a position."""
        self._check_bars(count)
        return self._delivered(name, self._history(name).bars_from_position(timeframe, start, count))

    @serves
    def copy_rates_range(self, name: str, timeframe: int, from_s: int, to_s: int) -> Records:
        """Return bars that open between two seconds, both included."""
        bars = self._history(name).bars_range(timeframe, from_s, to_s)
        self._check_bars(len(bars))
        return self._delivered(name, bars)
