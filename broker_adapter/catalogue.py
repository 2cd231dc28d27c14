"""The broker's symbols: which of them is meant by a canonical name, selected, with their specifications.

The whole list is read at every attaching, in pages; specifications of the configured symbols again every minute
(swaps, levels and tick values change).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from broker_adapter.api_types import ApiSymbol
from broker_adapter.connection import Connection
from broker_adapter.conversion import instrument_from
from broker_adapter.link_messages import RES_E_NOT_FOUND, Call, LinkRole, ListSymbols, SymbolEntry, SymbolPage
from broker_adapter.link_results import LinkResult
from market.instrument import Instrument
from market.symbols import BrokerSymbol, SymbolAmbiguousError, SymbolNotFoundError, match_symbol
from mt5bus.settings import Adapter
from protocol.errors import BusError, NotFound, NotReady
from protocol.loop import Loop
from protocol.messages import SymbolMatch

REFRESH_INTERVAL_S = 60.0
INCOMPLETE_INTERVAL_S = 2.0
_RETRY_S = 2.0
_MOST_SYMBOLS = 200_000

log = logging.getLogger(__name__)


class Catalogue:
    """Symbols and instruments.

    Args:
        on_symbols: Called with the broker's name of each configured symbol that was found and selected, by canonical
            name, once at least one was and whenever that changes.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        settings: Adapter,
        *,
        on_symbols: Callable[[dict[str, str]], None] = lambda _symbols: None,
    ) -> None:
        self.on_symbols = on_symbols
        self.problems: dict[str, str] = {}
        self._loop = loop
        self._connection = connection
        self._settings = settings
        self._entries: list[SymbolEntry] = []
        self._loading: list[SymbolEntry] | None = None
        self._broker_names: dict[str, str] = {}
        self._canonical_names: dict[str, str] = {}
        self._matched = False
        self._instruments: dict[str, Instrument] = {}
        self._announced: dict[str, str] = {}
        loop.every(REFRESH_INTERVAL_S, self._refresh)
        loop.every(INCOMPLETE_INTERVAL_S, self._complete)

    def load(self) -> None:
        """Read the whole list; at every attaching of the bulk link."""
        if self._loading is None:
            self._loading = []
            self._ask_page(0)

    @property
    def ready(self) -> bool:
        """Whether every configured symbol was found or is known to be a problem."""
        return bool(self._instruments) and all(
            symbol in self._instruments or symbol in self.problems for symbol in self._settings.symbols
        )

    def canonical(self, broker_symbol: str) -> str:
        """Return the canonical name of a broker's symbol; one that is not configured keeps its name."""
        return self._canonical_names.get(broker_symbol, broker_symbol)

    def names(self) -> Mapping[str, str] | None:
        """Return the canonical names by the broker's; None before the list of symbols was read."""
        return self._canonical_names if self._matched else None

    def broker_name(self, symbol: str) -> str:
        """Return the broker's name of a symbol; a name of the broker's own is taken as it is.

        Raises:
            NotFound: The broker has no such symbol.
            NotReady: The broker's symbols have not been read yet.
        """
        found = self._broker_names.get(symbol)
        if found is not None:
            return found
        if not self._entries:
            # "Not found" is final for who asks: a backfill would leave the symbol out for good.
            raise NotReady("the broker's symbols have not been read yet: ask again in a moment", {"symbol": symbol})
        if any(entry.name == symbol for entry in self._entries):
            return symbol
        try:
            return match_symbol(symbol, map(_broker_symbol, self._entries), explicit=self._settings.symbol_map).name
        except (SymbolNotFoundError, SymbolAmbiguousError) as error:
            raise NotFound(str(error), {"symbol": symbol}) from None

    def instrument(self, symbol: str) -> Instrument | None:
        """Return the specification of a configured symbol, None while it is not known."""
        return self._instruments.get(symbol)

    def instruments(self) -> tuple[Instrument, ...]:
        """Return the specifications of all configured symbols that were found."""
        return tuple(self._instruments.values())

    def find(self, pattern: str, limit: int) -> tuple[tuple[SymbolMatch, ...], bool]:
        """Return the symbols whose name or description contains `pattern`, and whether there are more."""
        mask = f"*{pattern.strip('*').lower()}*".replace("[", "[[]")
        found: list[SymbolMatch] = []
        for entry in self._entries:
            if fnmatchcase(entry.name.lower(), mask) or fnmatchcase(entry.description.lower(), mask):
                if len(found) == limit:
                    return tuple(found), True
                found.append(
                    SymbolMatch(
                        broker_symbol=entry.name,
                        symbol=self._canonical_names.get(entry.name, ""),
                        description=entry.description,
                        path=entry.path,
                        selected=entry.selected,
                    )
                )
        return tuple(found), False

    def ask_instrument(
        self, symbol: str, on_found: Callable[[Instrument], None], on_error: Callable[[BusError], None]
    ) -> None:
        """Get the specification of any symbol of the broker's from the terminal.

        Raises:
            NotFound: The broker has no such symbol.
            NotReady: The broker's symbols have not been read yet.
        """
        broker_symbol = self.broker_name(symbol)

        def on_result(result: LinkResult) -> None:
            try:
                on_found(instrument_from(result.decode(ApiSymbol), symbol=self.canonical(broker_symbol)))
            except BusError as error:
                on_error(error)

        self._call(LinkRole.BULK, "symbol_info", (broker_symbol,), on_result)

    # --- loading ----------------------------------------------------------------------------------------------------

    def _ask_page(self, offset: int) -> None:
        self._connection.call(
            LinkRole.BULK, ListSymbols(offset), self._on_page, deadline_s=self._settings.deadlines.bulk_s
        )

    def _on_page(self, result: LinkResult) -> None:
        try:
            page = result.decode(SymbolPage)
        except BusError as error:
            self._loading = None
            log.warning("the list of symbols could not be read", extra={"reason": error.text})
            self._loop.after(_RETRY_S, self._load_if_attached)
            return
        loading = self._loading if self._loading is not None else []
        loading.extend(page.entries)
        if page.entries and len(loading) < min(page.total, _MOST_SYMBOLS):
            self._ask_page(len(loading))
            return
        self._loading = None
        self._entries = loading
        self._match()

    def _load_if_attached(self) -> None:
        if self._connection.attached(LinkRole.BULK):
            self.load()

    def _match(self) -> None:
        offered = [_broker_symbol(entry) for entry in self._entries]
        problems: dict[str, str] = {}
        names: dict[str, str] = {}
        for symbol in self._settings.symbols:
            try:
                names[symbol] = match_symbol(symbol, offered, explicit=self._settings.symbol_map).name
            except (SymbolNotFoundError, SymbolAmbiguousError) as error:
                problems[symbol] = str(error)
        for symbol, text in problems.items():
            if self.problems.get(symbol) != text:
                log.error("a configured symbol cannot be used", extra={"symbol": symbol, "reason": text})
        self.problems = problems
        self._broker_names = names
        self._canonical_names = {broker: symbol for symbol, broker in names.items()}
        self._matched = True
        for symbol, broker in names.items():
            self._select(symbol, broker)

    def _select(self, symbol: str, broker: str) -> None:
        def on_result(result: LinkResult) -> None:
            if result.ok:
                self._ask_info(symbol, broker)
            elif result.status == "failed" and not result.pipe_broken:
                self.problems[symbol] = f"{broker} cannot be selected ({result.code}: {result.text})"
                log.error("a symbol cannot be selected", extra={"symbol": symbol, "reason": self.problems[symbol]})

        self._call(LinkRole.BULK, "symbol_select", (broker, True), on_result)

    def _ask_info(self, symbol: str, broker: str) -> None:
        def on_result(result: LinkResult) -> None:
            try:
                instrument = instrument_from(result.decode(ApiSymbol), symbol=symbol)
            except BusError as error:
                if result.code == RES_E_NOT_FOUND:
                    self.problems[symbol] = error.text
                log.warning("a specification could not be read", extra={"symbol": symbol, "reason": error.text})
                return
            self._instruments[symbol] = instrument
            self._announce()

        self._call(LinkRole.BULK, "symbol_info", (broker,), on_result)

    def _refresh(self) -> None:
        if not self._connection.attached(LinkRole.BULK):
            return
        if not self._entries:
            self.load()
        for symbol, broker in self._broker_names.items():
            ask = self._ask_info if symbol in self._instruments else self._select
            ask(symbol, broker)

    def _complete(self) -> None:
        # Before a symbol's first quote a terminal may have no tick value for it, and nobody can size an order.
        if self._connection.attached(LinkRole.BULK):
            for symbol, instrument in self._instruments.items():
                if instrument.tick_value <= 0:
                    self._ask_info(symbol, instrument.broker_symbol)

    def _announce(self) -> None:
        usable = {symbol: name for symbol, name in self._broker_names.items() if symbol in self._instruments}
        if usable != self._announced:
            self._announced = usable
            self.on_symbols(dict(usable))

    def _call(
        self, role: LinkRole, function: str, args: tuple[object, ...], on_result: Callable[[LinkResult], None]
    ) -> None:
        self._connection.call(role, Call(function, args), on_result, deadline_s=self._settings.deadlines.query_s)


def _broker_symbol(entry: SymbolEntry) -> BrokerSymbol:
    return BrokerSymbol(
        name=entry.name,
        currency_base=entry.currency_base,
        currency_profit=entry.currency_profit,
        trade_mode=entry.trade_mode,
        path=entry.path,
    )
