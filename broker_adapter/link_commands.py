"""What a link does for each command. No socket here: tests run it in-process on a fake API module."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from broker_adapter.api_failure import ApiFailure, last_failure
from broker_adapter.api_types import ApiAccount, ApiDeal, ApiOrder, ApiPosition, ApiTerminal
from broker_adapter.link_history import HistoryReader
from broker_adapter.link_messages import (
    NO_API,
    NO_TERMINAL,
    PIPE_CODES,
    REFUSED,
    RES_E_AUTH_FAILED,
    RES_E_TIMEOUT,
    SWITCHED,
    AnyCommand,
    Attach,
    Attached,
    Call,
    Check,
    HistoryPage,
    ListSymbols,
    PollTicks,
    PollTrade,
    ReadHistory,
    ReadTicks,
    Send,
    SymbolEntry,
    SymbolPage,
    TradePolled,
)
from broker_adapter.link_orders import OrderSender
from broker_adapter.link_ticks import TickReader
from broker_adapter.terminal_presence import terminal_runs

READING_FUNCTIONS = frozenset({
    "account_info",
    "copy_rates_from",
    "copy_rates_from_pos",
    "copy_rates_range",
    "copy_ticks_from",
    "copy_ticks_range",
    "history_deals_get",
    "history_deals_total",
    "history_orders_get",
    "history_orders_total",
    "order_calc_margin",
    "order_calc_profit",
    "orders_get",
    "orders_total",
    "positions_get",
    "positions_total",
    "symbol_info",
    "symbol_info_tick",
    "symbol_select",
    "symbols_get",
    "symbols_total",
    "terminal_info",
    "version",
})


class Executor:
    """Carries out commands on an API module.

    Args:
        api: The module; None if it could not be imported, then every command fails with `problem`.
        module: Its name.
        adapter_lives: Whether the adapter that started this link is still there.
    """

    def __init__(
        self,
        api: Any,
        *,
        module: str,
        problem: str = "",
        monotonic_ns: Callable[[], int],
        adapter_lives: Callable[[], bool],
    ) -> None:
        self._api = api
        self._module = module
        self._problem = problem
        self._ticks = TickReader(api)
        self._history = HistoryReader(api)
        self._orders = OrderSender(api, monotonic_ns=monotonic_ns, adapter_lives=adapter_lives)
        self._symbols: tuple[SymbolEntry, ...] = ()
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            Call: self._call,
            Attach: self._attach,
            Send: self._orders.send,
            Check: self._orders.check,
            PollTicks: self._ticks.poll,
            ReadTicks: self._ticks.read,
            PollTrade: self._poll_trade,
            ReadHistory: self._read_history,
            ListSymbols: self._list_symbols,
        }

    def execute(self, command: AnyCommand) -> bytes:
        """Return the command's value as MessagePack.

        Raises:
            ApiFailure: The API or the link refused.
            Exception: Whatever else the API module raises.
        """
        if self._api is None:
            raise ApiFailure(NO_API, self._problem)
        return encode_value(self._handlers[type(command)](command))

    def _call(self, command: Call) -> Any:
        if command.function not in READING_FUNCTIONS:
            raise ApiFailure(REFUSED, f"{command.function} is not called this way")
        function = getattr(self._api, command.function, None)
        if function is None:
            raise ApiFailure(NO_API, f"{self._module} has no function {command.function}")
        # An empty dict of keywords counts as keywords in this API, so none is ever passed.
        value = function(*command.args, **command.kwargs) if command.kwargs else function(*command.args)
        if value is None or value is False:
            raise last_failure(self._api)
        return value

    def _attach(self, command: Attach) -> Attached:
        if not command.may_start and not terminal_runs(self._module, self._api, command.path):
            raise ApiFailure(NO_TERMINAL, f"no terminal runs at {command.path or 'any path'}")
        logged_in = self._initialize(command)
        account = self._api.account_info()
        if account is None:
            failure = last_failure(self._api)
            if failure.code in PIPE_CODES:
                raise failure
        if command.login and not logged_in and not _is_account(account, command):
            if not self._api.login(
                command.login, password=command.password, server=command.server, timeout=command.timeout_ms
            ):
                raise last_failure(self._api)
            logged_in = True
            account = self._api.account_info()
        terminal = self._api.terminal_info()
        if terminal is None:
            raise last_failure(self._api)
        return Attached(
            terminal=msgspec.convert(terminal, ApiTerminal, strict=False),
            account=None if account is None else msgspec.convert(account, ApiAccount, strict=False),
            version=self._api.version(),
            logged_in=logged_in,
        )

    def _initialize(self, command: Attach) -> bool:
        """Attach, logging in only where the terminal has no account of its own; return whether it logged in."""
        words: tuple[Any, ...] = (command.path,) if command.path else ()
        options: dict[str, Any] = {"timeout": command.timeout_ms}
        if command.portable:
            options["portable"] = True
        if self._api.initialize(*words, **options):
            return False
        failure = last_failure(self._api)
        if not command.login or failure.code not in {RES_E_AUTH_FAILED, RES_E_TIMEOUT}:
            raise failure
        # Straight from the command, whose text hides it: a traceback that shows local names shows no password.
        done = self._api.initialize(
            *words, **options, login=command.login, password=command.password, server=command.server
        )
        if not done:
            raise last_failure(self._api)
        return True

    def _poll_trade(self, command: PollTrade) -> TradePolled:
        api = self._api
        terminal = self._must(api.terminal_info())
        account = self._must(api.account_info())
        positions = self._must(api.positions_get())
        orders = self._must(api.orders_get())
        news = self._history.look((command.from_s, command.to_s), serial=command.serial, reread=command.reread)
        afterwards = self._must(api.terminal_info())
        self._must_be_on(account)
        return TradePolled(
            terminal=msgspec.convert(terminal, ApiTerminal, strict=False),
            account=msgspec.convert(account, ApiAccount, strict=False),
            positions=msgspec.convert(positions, tuple[ApiPosition, ...], strict=False),
            orders=msgspec.convert(orders, tuple[ApiOrder, ...], strict=False),
            history_orders=msgspec.convert(news.orders, tuple[ApiOrder, ...], strict=False),
            deals=msgspec.convert(news.deals, tuple[ApiDeal, ...], strict=False),
            complete=news.complete,
            more=news.more,
            serial=news.serial,
            connected_after=bool(afterwards.connected),
        )

    def _read_history(self, command: ReadHistory) -> HistoryPage:
        account = self._must(self._api.account_info())
        through_s = self._page_end(command)
        between = (command.from_s, through_s)
        if command.what == "deals":
            found = sorted(self._must(self._api.history_deals_get(*between)), key=lambda deal: int(deal.time_msc))
        else:
            found = sorted(
                self._must(self._api.history_orders_get(*between)), key=lambda order: int(order.time_done_msc)
            )
        self._must_be_on(account)
        return HistoryPage(
            orders=msgspec.convert(found, tuple[ApiOrder, ...], strict=False) if command.what == "orders" else (),
            deals=msgspec.convert(found, tuple[ApiDeal, ...], strict=False) if command.what == "deals" else (),
            through_s=through_s,
            login=int(account.login),
            server=str(account.server),
        )

    def _page_end(self, command: ReadHistory) -> int:
        # By the numbers alone, which cost no more than a call each: what is read is read once.
        total = self._api.history_deals_total if command.what == "deals" else self._api.history_orders_total

        def count(to_s: int) -> int:
            return int(self._must(total(command.from_s, to_s)))

        if count(command.to_s) <= command.limit:
            return command.to_s
        seconds = range(command.from_s, command.to_s + 1)
        first_over_s = seconds[bisect_right(seconds, command.limit, hi=len(seconds) - 1, key=count)]
        through_s = first_over_s - 1
        return through_s if through_s >= command.from_s and count(through_s) else first_over_s

    def _list_symbols(self, command: ListSymbols) -> SymbolPage:
        if command.offset == 0:
            found = self._api.symbols_get()
            if found is None or found is False:
                raise last_failure(self._api)
            self._symbols = tuple(
                SymbolEntry(
                    str(each.name),
                    str(each.description),
                    str(each.path),
                    str(each.currency_base),
                    str(each.currency_profit),
                    int(each.trade_mode),
                    bool(each.select),
                )
                for each in found
            )
        page = self._symbols[command.offset : command.offset + command.limit]
        return SymbolPage(page, len(self._symbols))

    def _must_be_on(self, before: Any) -> None:
        """Return if the account is still the one of `before`: a person may change it at any moment.

        Raises:
            ApiFailure: It is another: what was read may be of either.
        """
        now = self._must(self._api.account_info())
        if (int(now.login), str(now.server)) != (int(before.login), str(before.server)):
            raise ApiFailure(SWITCHED, f"the terminal changed from account {before.login} to {now.login} meanwhile")

    def _must(self, value: Any) -> Any:
        if value is None:
            raise last_failure(self._api)
        return value


def _is_account(account: Any, command: Attach) -> bool:
    if account is None or int(account.login) != command.login:
        return False
    return not command.server or str(account.server) == command.server


def encode_value(value: Any) -> bytes:
    """Return `value` as MessagePack: struct sequences as arrays, record arrays as their bytes."""
    try:
        return msgspec.msgpack.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        # A broker's text with half a surrogate pair; one odd sign must not cost the whole answer.
        return msgspec.msgpack.encode(_clean(value), enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a {type(value).__name__} cannot be handed over")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, msgspec.Struct):
        return [_clean(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value
