"""The terminal: what each function of the API answers. It joins the broker (`engine`) with the market's history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from paper_terminal import constants as api
from paper_terminal import info
from paper_terminal.accounts import Account
from paper_terminal.journal import told
from paper_terminal.ledger_records import CheckResult, Deal, Order, Position, SendResult, TradeRequest
from paper_terminal.margin import NoRate
from paper_terminal.market_functions import MarketFunctions
from paper_terminal.served import CallFailed, invalid_params, serves
from paper_terminal.settings import AccountSettings

R = TypeVar("R", Order, Deal)
_CANCELED: Final = frozenset({api.DEAL_TYPE_BUY_CANCELED, api.DEAL_TYPE_SELL_CANCELED})


def _opens(account: AccountSettings, password: str, server: str) -> bool:
    """Tell whether these open an account; what is left out is what the terminal has saved."""
    right = not account.password or password in {"", account.password}
    return right and server in {"", account.server}


class Terminal(MarketFunctions):
    """One terminal: its connection and account, and trading."""

    build = info.BUILD
    """Build number, one more after each update."""
    incompatible = False
    """Whether this build refuses the client module (-5)."""

    @property
    def logged_in(self) -> int:
        """Return the number of the account the terminal is logged in to."""
        return self._login

    def set_state(self, name: str, *, on: bool, symbols: Sequence[str] = ()) -> None:
        """Switch one of the faults that are states.

        Raises:
            CallFailed: a symbol does not exist.
            StateError: a change cannot be made durable.
        """
        if name == "disconnect":
            self.connected = not on
            self._seen = {login: each.frozen() for login, each in self._engine.accounts.items()} if on else {}
        elif name == "trade_off":
            self.trade_allowed = self._settings.trade_allowed and not on
        elif name == "api_off":
            self.api_off = on
        elif name == "no_quotes":
            now_ms = self._market.now_ms
            facts = self._silences.begin(self._named(symbols), now_ms) if on else self._silences.end(now_ms)
            self._store.commit((), facts)
        elif name == "late_history":
            self._hidden_from_ms = self._engine.moment().milliseconds if on else None
        elif on:
            self._swapped_from, self._login = self._login, self._another_account()
        elif self._swapped_from is not None:
            self._login, self._swapped_from = self._swapped_from, None

    def _named(self, symbols: Sequence[str]) -> frozenset[str]:
        for name in symbols:
            self._symbol(name)
        return frozenset(symbols or self._engine.symbols)

    def update(self, *, incompatible: bool) -> None:
        """Become the next build, from the next start on.

        Raises:
            StateError: the change cannot be made durable.
        """
        self._store.commit((), {"build": self.build + 1, "incompatible": incompatible})
        self.note("LiveUpdate", f"build {self.build + 1} is installed: the terminal restarts")

    def accept_again(self) -> None:
        """Take clients again that an update has made incompatible.

        Raises:
            StateError: the change cannot be made durable.
        """
        if self.incompatible:
            self.incompatible = False
            self._store.commit((), {"incompatible": False})

    def _another_account(self) -> int:
        others = [login for login in self._engine.accounts if login != self._login]
        return others[0] if others else self._open_account(self._login + 1, "swapped", "").login

    def balance_operation(self, login: int, amount: float, comment: str, kind: int) -> int:
        """Deposit to an account (0: the present one), a negative amount withdraws; return the deal's ticket.

        `kind` is the type of the deal: BALANCE, CREDIT, a correction, interest, dividend, tax.

        Raises:
            CallFailed: no such account, the amount is no number, or the type one of trading.
            StateError: the change cannot be made durable.
        """
        account = self._engine.accounts.get(login or self._login)
        of_money = api.DEAL_TYPE_BALANCE <= kind <= api.DEAL_TAX and kind not in _CANCELED
        if account is None or not math.isfinite(amount) or not of_money:
            raise invalid_params()
        deal = self._engine.dealer.deposit(account, amount, comment, kind=kind)
        self._engine.commit()
        return deal.ticket

    def first_symbol(self) -> str:
        """Return the first symbol of Market Watch, '' for an empty one."""
        return next((name for name in self._engine.symbols if name in self._selected), "")

    def open_chart(self, name: str) -> bool:
        """Put a symbol into Market Watch, to stay while its chart does; tell whether there is such a symbol.

        Raises:
            StateError: the change cannot be made durable.
        """
        if name not in self._engine.symbols:
            return False
        self.symbol_select(name, True)
        self._charts.add(name)
        return True

    # Connection ----------------------------------------------------------------------------------------------

    @serves
    def login(self, login: int, password: str, server: str) -> bool:
        """Switch the account; a password left out is the saved one."""
        account = self._engine.accounts.get(login or self._login)
        if account is None and self._settings.open_unknown_accounts:
            account = self._open_account(login, password, server)
        settings = account.settings if account else None
        if settings is None or not _opens(settings, password, server):
            self.note("Network", f"'{login or self._login}': authorization failed")
            raise CallFailed(api.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        self.note("Network", f"'{settings.login}': authorized on {settings.server}")
        self._swapped_from = None
        if settings.login != self._login:
            self._store.commit((), {"login": settings.login})
            self._login = settings.login
        return True

    def _open_account(self, login: int, password: str, server: str) -> Account:
        first = self._settings.accounts[0]
        settings = msgspec.structs.replace(
            first, login=login, password=password or first.password, server=server or first.server
        )
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
        return [info.VERSION, self.build, info.BUILD_DATE]

    @serves
    def terminal_info(self) -> list[Any]:
        """Return the terminal's values."""
        return info.terminal_info(
            self._folder,
            self._settings,
            build=self.build,
            connected=self.connected,
            trade_allowed=self.trade_allowed,
            api_off=self.api_off,
        )

    @serves
    def account_info(self) -> list[Any]:
        """Return the account's values at the present quotes."""
        try:
            valuer = self._engine.valuer
            worth = valuer.value(self.account) if self.connected else valuer.value_as_priced(self.account)
            return info.account_info(self.account, worth)
        except NoRate as error:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed") from error

    # Trading -------------------------------------------------------------------------------------------------

    @serves
    def positions_total(self) -> int:
        """Return how many positions are open."""
        return len(self.account.positions)

    @serves
    def positions_get(self) -> list[Position]:
        """Return the open positions at the present quotes."""
        account = self.account
        if self.connected:
            self._engine.valuer.reprice(account)
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
        return self._shown(self.account.history_orders.between(from_s, to_s))

    @serves
    def history_orders_get_by(self, field: str, number: int) -> list[Order]:
        """Return the order of a ticket, or those of a position."""
        history = self.account.history_orders
        if field == "ticket":
            order = history.get(number)
            return self._shown([order] if order else [])
        return self._shown(history.of_position(number))

    @serves
    def history_deals_total(self, from_s: int, to_s: int) -> int:
        """Return how many deals were made between two seconds."""
        return len(self.history_deals_get(from_s, to_s))

    @serves
    def history_deals_get(self, from_s: int, to_s: int) -> list[Deal]:
        """Return the deals made between two seconds."""
        return self._shown(self.account.deals.between(from_s, to_s))

    @serves
    def history_deals_get_by(self, field: str, number: int) -> list[Deal]:
        """Return the deal of a ticket (a deal's ticket: what it means is not certain), or those of a position."""
        deals = self.account.deals
        if field == "ticket":
            deal = deals.get(number)
            return self._shown([deal] if deal else [])
        return self._shown(deals.of_position(number))

    def _shown(self, records: list[R]) -> list[R]:
        """Leave out what late history does not show yet."""
        hidden_ms = self._hidden_from_ms
        if hidden_ms is None:
            return records
        return [
            each for each in records if (each.time_msc if isinstance(each, Deal) else each.time_done_msc) < hidden_ms
        ]

    def _refusal(self, request: TradeRequest) -> int:
        if self.api_off and self._settings.api_off_retcode:
            return self._settings.api_off_retcode
        if not self.trade_allowed:
            return api.TRADE_RETCODE_CLIENT_DISABLES_AT
        if not self.connected:
            return api.TRADE_RETCODE_CONNECTION
        if self._symbol_of(request) in self._silences.names:
            return api.TRADE_RETCODE_PRICE_OFF
        outside = request.symbol in self._engine.symbols and request.symbol not in self._selected
        return api.TRADE_RETCODE_PRICE_OFF if outside else 0

    def _symbol_of(self, request: TradeRequest) -> str:
        account = self.account
        named = account.positions.get(request.position) or account.orders.get(request.order)
        return named.symbol if named is not None else request.symbol

    @serves
    def order_check(self, request: TradeRequest) -> CheckResult:
        """Return what a request would leave."""
        return self._desk.check(self.account, request, refuse=self._refusal(request))

    @serves
    def order_send(self, request: TradeRequest) -> SendResult:
        """Carry out a request."""
        if self.api_off and not self._settings.api_off_retcode:
            text = "Auto-Trading using Python API disabled in Terminal"
            raise CallFailed(api.RES_E_AUTO_TRADING_DISABLED, text)
        result = self._desk.send(self.account, request, refuse=self._refusal(request))
        self.note(
            "Trades", f"'{self._login}': {told(request)}: {result.retcode} {result.comment}, order {result.order}"
        )
        return result

    def refuse_order(self, arguments: list[Any], retcode: int) -> SendResult:
        """Answer `order_send` with a return code, carrying nothing out (a fault).

        Raises:
            CallFailed: the arguments are no request.
        """
        return self._desk.send(self.account, _request_of(arguments), refuse=retcode)

    def carry_out(self, login: int, arguments: list[Any], *, portion: float) -> SendResult:
        """Carry out `order_send` at the broker alone, whatever this terminal's own state is (a fault).

        Args:
            login: The account that sent it.
            arguments: Those of `order_send`.
            portion: How much of a market order fills at once, above 0 and at most 1.

        Raises:
            CallFailed: the arguments are no request.
            StateError: the change cannot be made durable.
        """
        request = _request_of(arguments)
        result = self._desk.send(self._engine.accounts[login], request, portion=portion)
        self.note("Trades", f"'{login}': {told(request)}, late: {result.retcode} {result.comment}")
        return result

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


def _request_of(arguments: list[Any]) -> TradeRequest:
    try:
        (request,) = msgspec.convert(arguments, tuple[TradeRequest])
    except msgspec.ValidationError as error:
        raise invalid_params() from error
    return request
