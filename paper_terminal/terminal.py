"""The terminal: what each function of the API answers. It joins the broker (`engine`) with the market's history.

Functions are methods marked with `@serves`; their arguments are checked against their annotations, so that no
request can carry what a method does not expect. What is not offered yet is missing from the table and
answers 'Unsupported function'.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec

from paper_terminal import constants as api
from paper_terminal import info
from paper_terminal.accounts import Account
from paper_terminal.arguments import matches_group
from paper_terminal.deep_history import DeepHistory
from paper_terminal.engine import Engine
from paper_terminal.history import BadRequest, SymbolHistory
from paper_terminal.ledger_records import CheckResult, Deal, Order, Position, SendResult, TradeRequest
from paper_terminal.margin import NoRate
from paper_terminal.market import DAY_MS, HOUR_MS, Market
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.settings import Settings
from paper_terminal.specifications import Specification
from paper_terminal.state import SqliteStore
from paper_terminal.trading import TradeDesk

_DAILY: Final = api.TIMEFRAME_D1
_MARK: Final = "_serves"

F = TypeVar("F", bound=Callable[..., Any])


class CallFailed(Exception):
    """A call the terminal refuses: the client's last_error becomes this."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def invalid_params() -> CallFailed:
    """Return the refusal of a value that means nothing."""
    return CallFailed(api.RES_E_INVALID_PARAMS, "Terminal: Invalid params")


def not_found() -> CallFailed:
    """Return the refusal of a name or ticket that is not there."""
    return CallFailed(api.RES_E_NOT_FOUND, "Terminal: Not found")


def serves(function: F) -> F:
    """Mark a method as a function of the API."""
    setattr(function, _MARK, True)
    return function


class _Served(NamedTuple):
    method: Callable[..., Any]
    arguments: Any


class Terminal:
    """One terminal's view of broker and market, and its Market Watch."""

    def __init__(
        self, folder: Path, settings: Settings, *, engine: Engine, market: Market, store: SqliteStore, login: int
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
            name: SymbolHistory(self._rule, point=symbol.point) for name, symbol in engine.symbols.items()
        }
        self._selected = self._first_selection()
        self._undelivered: list[tuple[str, Records]] = []
        self.connected = True
        """The link to the broker; without it the broker goes on, but nothing new is seen here."""
        self.trade_allowed = settings.trade_allowed
        """The AutoTrading button."""
        self._served = self._table()

    def _first_selection(self) -> set[str]:
        kept = self._store.market_watch()
        if kept:
            return kept & set(self._engine.symbols)
        watched = self._settings.market_watch
        return {name for name, each in self._engine.symbols.items() if watched is None or each.name in watched}

    def _table(self) -> dict[str, _Served]:
        table = {}
        for name, method in inspect.getmembers(self, inspect.ismethod):
            if not hasattr(method, _MARK):
                continue
            hints = get_type_hints(method)
            kinds = tuple(hints[each] for each in inspect.signature(method).parameters)
            table[name] = _Served(method, tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        return table

    # The market's side ---------------------------------------------------------------------------------------

    def load_history(self, until_ms: int, *, since_ms: int) -> None:
        """Fill the histories with the feed's ticks from `since_ms` to `until_ms`, UTC."""
        from_ms = max(0, since_ms - int(self._settings.history_days * DAY_MS))
        deep_ms = int(self._settings.bar_history_days * DAY_MS)
        if deep_ms:  # what is older than the ticks ends on a whole hour
            from_ms -= from_ms % HOUR_MS
        for name, symbol in self._engine.symbols.items():
            try:
                ticks = self._market.history(symbol.name, from_ms, until_ms)
            except KeyError:  # a symbol this feed does not quote has no history
                continue
            self._histories[name].append(ticks)
            source = self._market.minute_bars(symbol.name)
            if deep_ms and source is not None:
                first_ms = max(0, from_ms - deep_ms)
                self._histories[name].deepen(DeepHistory(self._rule, source, first_ms=first_ms, until_ms=from_ms))
            if len(ticks):
                self._engine.seed_quote(name, ticks)

    def advance(self) -> bool:
        """Let the market move on; tell whether ticks came.

        Raises:
            StateError: what the ticks caused cannot be made durable.
        """
        blocks = self._market.advance()
        self._engine.on_ticks(blocks, self._market.now_ms)
        if not self.connected:
            self._undelivered += blocks
            return False
        if self._undelivered:
            blocks, self._undelivered = self._undelivered + blocks, []
        for name, ticks in blocks:
            self._histories[name].append(ticks)
        return bool(blocks)

    def call(self, function: str, arguments: list[Any]) -> Any:
        """Return what a function answers: plain values, or an array of records.

        Raises:
            CallFailed: refused, with the client's last_error.
            StateError: a change cannot be made durable.
        """
        served = self._served.get(function)
        if served is None:
            raise CallFailed(api.RES_E_UNSUPPORTED, "Terminal: Unsupported function")
        try:
            values = msgspec.convert(arguments, served.arguments)
        except msgspec.ValidationError as error:
            raise invalid_params() from error
        try:
            return served.method(*values)
        except (BadRequest, OverflowError) as error:
            raise invalid_params() from error

    # Connection ----------------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """Return the account the terminal is logged in to."""
        return self._engine.accounts[self._login]

    @serves
    def login(self, login: int, password: str, server: str) -> bool:
        """Switch the account; a password left out is the saved one."""
        account = self._engine.accounts.get(login or self._login)
        if account is None and password and self._settings.open_unknown_accounts:
            account = self._open_account(login, password, server)
        settings = account.settings if account else None
        if settings is None or password not in {"", settings.password} or server not in {"", settings.server}:
            raise CallFailed(api.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        if settings.login != self._login:
            self._store.commit((), {"login": settings.login})
            self._login = settings.login
        return True

    def _open_account(self, login: int, password: str, server: str) -> Account:
        first = self._settings.accounts[0]
        settings = msgspec.structs.replace(first, login=login, password=password, server=server or first.server)
        self._store.keep_account(login, msgspec.msgpack.encode(settings))
        return self._engine.open_account(settings, self._store.load(login))

    @serves
    def connection_state(self) -> str:
        """Return whether the broker is reached."""
        return "connected" if self.connected else "connecting"

    @serves
    def initialized(self) -> bool:
        """Note that a client has initialised: a held feed begins."""
        self._market.release()
        return True

    @serves
    def version(self) -> list[Any]:
        """Return version, build and date."""
        return info.VERSION

    @serves
    def terminal_info(self) -> list[Any]:
        """Return the terminal's values."""
        return info.terminal_info(
            self._folder, self._settings, connected=self.connected, trade_allowed=self.trade_allowed
        )

    @serves
    def account_info(self) -> list[Any]:
        """Return the account's values at the present quotes."""
        try:
            return info.account_info(self.account, self._engine.valuer.value(self.account))
        except NoRate as error:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed") from error

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
            day=history.last_bars(_DAILY, 2),
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
        """Put a symbol into Market Watch or take it out; refused while a position or order uses it."""
        if name not in self._engine.symbols:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        if not enable and self._in_use(name):
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed")
        if enable != (name in self._selected):
            self._selected ^= {name}
            self._store.save_market_watch(self._selected)
        return True

    def _in_use(self, name: str) -> bool:
        account = self.account
        return bool(account.positions_on(name)) or any(each.symbol == name for each in account.orders.values())

    # Ticks and bars ------------------------------------------------------------------------------------------

    def _history(self, name: str) -> SymbolHistory:
        self._market.asked()
        self._symbol(name)
        return self._histories[name]

    @serves
    def copy_ticks_from(self, name: str, from_s: int, count: int, flags: int) -> Records:
        """Return ticks from a second on."""
        return self._history(name).ticks_from(from_s, count, flags)

    @serves
    def copy_ticks_range(self, name: str, from_s: int, to_s: int, flags: int) -> Records:
        """Return ticks between two seconds, both included."""
        return self._history(name).ticks_range(from_s, to_s, flags)

    def _check_bars(self, count: int) -> None:
        if count >= self._settings.max_bars:
            raise invalid_params()

    @serves
    def copy_rates_from(self, name: str, timeframe: int, from_s: int, count: int) -> Records:
        """Return bars that open at or before a second."""
        self._check_bars(count)
        return self._history(name).bars_from(timeframe, from_s, count)

    @serves
    def copy_rates_from_pos(self, name: str, timeframe: int, start: int, count: int) -> Records:
        """Return bars back from a position."""
        self._check_bars(count)
        return self._history(name).bars_from_position(timeframe, start, count)

    @serves
    def copy_rates_range(self, name: str, timeframe: int, from_s: int, to_s: int) -> Records:
        """Return bars that open between two seconds, both included."""
        bars = self._history(name).bars_range(timeframe, from_s, to_s)
        self._check_bars(len(bars))
        return bars

    # Trading -------------------------------------------------------------------------------------------------

    @serves
    def positions_total(self) -> int:
        """Return how many positions are open."""
        return len(self.account.positions)

    @serves
    def positions_get(self) -> list[Position]:
        """Return the open positions at the present quotes."""
        account = self.account
        for position in account.positions.values():
            self._engine.valuer.reprice(account, position)
        return list(account.positions.values())

    @serves
    def orders_total(self) -> int:
        """Return how many orders are active."""
        return len(self.account.orders)

    @serves
    def orders_get(self) -> list[Order]:
        """Return the active orders."""
        return list(self.account.orders.values())

    @serves
    def history_orders_total(self, from_s: int, to_s: int) -> int:
        """Return how many orders were done between two seconds."""
        return len(self.history_orders_get(from_s, to_s))

    @serves
    def history_orders_get(self, from_s: int, to_s: int) -> list[Order]:
        """Return the orders done between two seconds."""
        return self.account.history_orders.between(from_s, to_s)

    @serves
    def history_orders_get_by(self, field: str, number: int) -> list[Order]:
        """Return the order of a ticket, or those of a position."""
        history = self.account.history_orders
        if field == "ticket":
            order = history.get(number)
            return [order] if order else []
        return [each for each in history.all() if each.position_id == number]

    @serves
    def history_deals_total(self, from_s: int, to_s: int) -> int:
        """Return how many deals were made between two seconds."""
        return len(self.history_deals_get(from_s, to_s))

    @serves
    def history_deals_get(self, from_s: int, to_s: int) -> list[Deal]:
        """Return the deals made between two seconds."""
        return self.account.deals.between(from_s, to_s)

    @serves
    def history_deals_get_by(self, field: str, number: int) -> list[Deal]:
        """Return the deal of a ticket (a deal's ticket: what it means is not certain), or those of a position."""
        deals = self.account.deals
        if field == "ticket":
            deal = deals.get(number)
            return [deal] if deal else []
        return [each for each in deals.all() if each.position_id == number]

    def _refusal(self, request: TradeRequest) -> int:
        if not self.trade_allowed:
            return api.TRADE_RETCODE_CLIENT_DISABLES_AT
        if not self.connected:
            return api.TRADE_RETCODE_CONNECTION
        outside = request.symbol in self._engine.symbols and request.symbol not in self._selected
        return api.TRADE_RETCODE_PRICE_OFF if outside else 0

    @serves
    def order_check(self, request: TradeRequest) -> CheckResult:
        """Return what a request would leave."""
        return self._desk.check(self.account, request, refuse=self._refusal(request))

    @serves
    def order_send(self, request: TradeRequest) -> SendResult:
        """Carry out a request."""
        return self._desk.send(self.account, request, refuse=self._refusal(request))

    def refuse_order(self, arguments: list[Any], retcode: int) -> SendResult:
        """Answer `order_send` with a return code, carrying nothing out (a fault).

        Raises:
            CallFailed: the arguments are no request.
        """
        try:
            (request,) = msgspec.convert(arguments, tuple[TradeRequest])
        except msgspec.ValidationError as error:
            raise invalid_params() from error
        return self._desk.send(self.account, request, refuse=retcode)

    @serves
    def order_calc_margin(self, action: int, name: str, volume: float, price: float) -> float:
        """Return the margin of one order alone."""
        symbol, settings = self._symbol(name), self.account.settings
        if action not in {api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL} or not (volume > 0 and price > 0):
            raise invalid_params()
        try:
            margin = self._engine.converter.margin(
                symbol, volume=volume, price=price, leverage=settings.leverage, to=settings.currency
            )
        except NoRate as error:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed") from error
        return self.account.money(margin)

    @serves
    def order_calc_profit(self, action: int, name: str, volume: float, opened: float, closed: float) -> float:
        """Return the profit of a volume opened and closed at two prices."""
        symbol = self._symbol(name)
        if action not in {api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL} or not (volume > 0 and opened > 0 and closed > 0):
            raise invalid_params()
        try:
            profit = self._engine.converter.profit(
                symbol,
                buy=action == api.ORDER_TYPE_BUY,
                volume=volume,
                opened=opened,
                closed=closed,
                to=self.account.settings.currency,
            )
        except NoRate as error:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed") from error
        return self.account.money(profit)
