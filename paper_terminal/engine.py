"""The broker: accounts, the market's quotes, and everything that happens to orders and positions.

No sockets and no clock of its own: ticks and requests come in, records change, and each change is in the store
before the call returns. The same object runs behind the terminal process and inside a backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec.structs

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import VOLUME_DIGITS, Moment, Origin, Tickets
from paper_terminal.checks import BUY_TYPES, MARKET_TYPES, STOP_LIMIT_TYPES
from paper_terminal.dealing import Dealer
from paper_terminal.ledger_records import Deal, Order, Position
from paper_terminal.margin import Converter, NoRate, Quote
from paper_terminal.matching import activated, fill_price, goes_on, order_hit, stop_hit, trigger_price
from paper_terminal.nightly import Nightly
from paper_terminal.records import Records
from paper_terminal.rehearsal import Rehearsal
from paper_terminal.rollover import DAY_S
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.settings import AccountSettings, Settings
from paper_terminal.skipping import LARGEST_WINDOW, WINDOW, WORTH_IT, Ticks, merged, quiet_ticks, quoted
from paper_terminal.specifications import Specification
from paper_terminal.state import Change, Loaded, Store
from paper_terminal.stop_out import StopOut
from paper_terminal.trading_hours import TradingHours
from paper_terminal.valuation import Valuer

FIRST_ORDER: Final = 50_000_001
FIRST_DEAL: Final = 40_000_001


class Engine:
    """The broker behind a terminal."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        facts: dict[str, int],
        now_ms: int,
        is_open: Callable[[int], bool] = lambda _utc_ms: True,
    ) -> None:
        """Make a broker without accounts.

        Args:
            settings: Symbols, commissions, server time.
            store: Where changes are made durable.
            facts: Numbers kept by the store: the next tickets.
            now_ms: Present time, UTC milliseconds.
            is_open: Tells whether the market as a whole trades at a UTC millisecond; symbols have hours besides.
        """
        self.settings = settings
        self.symbols = {f"{settings.prefix}{each.name}{settings.suffix}": each for each in settings.symbols}
        self.quotes: dict[str, Quote] = {}
        self.accounts: dict[int, Account] = {}
        self.now_ms = now_ms
        self.is_open = is_open
        self._rule = ServerTimeRule(settings.server_time)
        self._moment_of_ms: int | None = None
        self._moment = Moment(0, 0)
        self._midnight_ms = self._next_midnight_ms(now_ms)
        self._store = store
        self._changes: list[Change] = []
        self._portion = 1.0
        self.changed_at_last_tick = False
        """Whether the tick that `go_through` took last changed the book."""
        self._tickets = Tickets(order=facts.get("next_order", FIRST_ORDER), deal=facts.get("next_deal", FIRST_DEAL))
        renamed = [_renamed(each, name) for name, each in self.symbols.items()]
        self.converter = Converter(renamed, self.quotes)
        self.valuer = Valuer(self.symbols, self.quotes, self.converter)
        self.dealer = Dealer(self._tickets, self.converter, costs=settings, now=self.moment)
        self.rehearsal = Rehearsal(
            self.symbols, self.quotes, self.valuer, self.converter, costs=settings, now=self.moment
        )
        self._hours = {name: TradingHours(each.sessions, each.holidays) for name, each in self.symbols.items()}
        self._nightly = Nightly(self)
        self._stop_out = StopOut(self)

    def trades(self, name: str) -> bool:
        """Tell whether a symbol's market is open now."""
        if not self.is_open(self.now_ms):
            return False
        hours = self._hours[name]
        return hours.always or hours.is_open(self._rule.to_server_ms(self.now_ms))

    def moment(self) -> Moment:
        """Return the present moment on the server's clock."""
        if self._moment_of_ms != self.now_ms:
            server_ms = self._rule.to_server_ms(self.now_ms)
            self._moment_of_ms, self._moment = self.now_ms, Moment(server_ms // 1000, server_ms)
        return self._moment

    def open_account(self, settings: AccountSettings, loaded: Loaded) -> Account:
        """Take over an account; one without any deal receives its deposit."""
        account = Account(settings, loaded, self._changes)
        self.accounts[settings.login] = account
        if not len(account.deals) and settings.balance:
            self.dealer.deposit(account, settings.balance, "Initial deposit")
            self.commit()
        return account

    def commit(self) -> None:
        """Make every change so far durable.

        Raises:
            StateError: the store cannot: the engine must be abandoned, nothing more acknowledged.
        """
        if not self._changes:
            return
        facts = {
            "next_order": self._tickets.next_order,
            "next_deal": self._tickets.next_deal,
            "settled_ms": self.now_ms,
        }
        self._store.commit(self._changes, facts)
        self._changes.clear()

    # The market ----------------------------------------------------------------------------------------------

    def on_ticks(self, blocks: Sequence[tuple[str, Records]], now_ms: int) -> None:
        """Take ticks (times UTC), then the time: stops, pending orders, expiry and stop-out happen at each tick.

        Raises:
            StateError: see `commit`.
        """
        if any(account.positions or account.orders for account in self.accounts.values()):
            if blocks:
                whole, at = merged(blocks), 0
                while at < len(whole):
                    at = self.go_through(whole, at, len(whole))
        else:
            for name, ticks in blocks:
                self.seed_quote(name, ticks)
        self._pass_time(now_ms)
        self._expire_orders()
        self.commit()

    def go_through(self, ticks: Ticks, at: int, end: int) -> int:
        """Take ticks from index `at` on, up to `end` or after the one that changes the book; return the index after it.

        Those at which nothing can happen are skipped; time and values are then as if each had been taken.
        """
        before, size = len(self._changes), WINDOW
        self.changed_at_last_tick = False
        while at < end:
            to = min(at + size, end)
            if to - at >= WORTH_IT:
                quiet = at + self._quiet(ticks.window(at, to))
                size = min(2 * size, LARGEST_WINDOW) if quiet == to else WINDOW
                at = self._skip(ticks, at, quiet)
                to = min(quiet + WORTH_IT, to)
            for each in range(at, to):
                self._take(ticks, each)
                if len(self._changes) != before:
                    self.changed_at_last_tick = True
                    return each + 1
            at = to
        return end

    def _skip(self, ticks: Ticks, at: int, end: int) -> int:
        """Leave out quiet ticks: the time and every value become those after the last of them."""
        if end == at:
            return end
        for index, name in enumerate(ticks.names):
            last = ticks.last_of(index, at, end)
            if last is not None:
                self.quotes[name] = _quote_at(ticks, last)
                self._reprice(name)
        self._pass_time(int(ticks.times_ms[end - 1]))
        return end

    def _quiet(self, window: Ticks) -> int:
        expiries_s = [each.next_expiry_s for each in self.accounts.values() if each.next_expiry_s]
        before_ms = self._midnight_ms
        if expiries_s:
            before_ms = min(before_ms, self._rule.to_utc_ms(min(expiries_s) * 1000))
        return quiet_ticks(
            window, self.accounts.values(), symbols=self.symbols, valuer=self.valuer, before_ms=before_ms
        )

    def _reprice(self, name: str) -> None:
        for account in self.accounts.values():
            if name in account.books:
                self._reprice_book(account, name)

    def _reprice_book(self, account: Account, name: str) -> None:
        """Bring the positions and orders of an account on a symbol to its present quote."""
        book, quote = account.books[name], self.quotes[name]
        self.valuer.reprice_positions(account, name, book.positions.values())
        for order in book.orders.values():
            order.price_current = quote.ask if order.type in BUY_TYPES else quote.bid

    def _take(self, ticks: Ticks, at: int) -> None:
        name, time_ms = ticks.names[ticks.owner[at]], int(ticks.times_ms[at])
        self._pass_time(time_ms)
        self.quotes[name] = _quote_at(ticks, at)
        self._on_quote(name)

    def _pass_time(self, now_ms: int) -> None:
        """Let the clock reach a moment, and charge swaps at each of the server's midnights on the way."""
        while now_ms >= self._midnight_ms:
            self.now_ms = max(self.now_ms, self._midnight_ms)
            for account in self.accounts.values():
                self._nightly.settle(account)
            self._midnight_ms = self._next_midnight_ms(self._midnight_ms)
        self.now_ms = max(self.now_ms, now_ms)

    def _next_midnight_ms(self, after_ms: int) -> int:
        server_s = self._rule.to_server_ms(after_ms) // 1000
        return self._rule.to_utc_ms((server_s // DAY_S + 1) * DAY_S * 1000)

    def seed_quote(self, name: str, ticks: Records) -> None:
        """Take the newest of some past ticks as the quote; it triggers nothing."""
        found = quoted(ticks)
        if len(found):
            last = found[-1]
            self.quotes[name] = Quote(
                float(last["bid"]), float(last["ask"]), int(last["time_msc"]), float(last["last"])
            )

    def _on_quote(self, name: str) -> None:
        quote, symbol = self.quotes[name], self.symbols[name]
        self._expire_orders()
        for account in self.accounts.values():
            book = account.books.get(name)
            if book is None:
                continue
            self._reprice_book(account, name)
            if book.triggers.hit(symbol, quote) and self.trades(name):
                orders = account.orders_on(name)
                for position in account.positions_on(name):
                    self._close_if_stopped(account, position, quote)
                for order in orders:
                    self._check_order(account, order, quote)
            self._stop_out.enforce(account)

    def _close_if_stopped(self, account: Account, position: Position, quote: Quote) -> None:
        """Close a position whose stop or take profit is hit; a close that fails is tried again at the next tick."""
        hit = stop_hit(self.symbols[position.symbol], position, quote)
        if hit is None:
            return
        reason, price = hit
        symbol = self.symbols[position.symbol]
        word, level = ("sl", position.sl) if reason == api.DEAL_REASON_SL else ("tp", position.tp)
        comment = f"[{word} {level:.{symbol.digits}f}]"
        try:
            self.close(account, position, price=price, origin=self.server_origin(reason, position, comment))
        except NoRate:  # without a rate it stays open
            return

    def server_origin(self, reason: int, position: Position, comment: str) -> Origin:
        """Return the origin of a deal that the server makes for a position."""
        return Origin(reason, position.magic if self.settings.stop_magic else 0, comment)

    def close(
        self, account: Account, position: Position, *, price: float, origin: Origin, volume: float | None = None
    ) -> None:
        """Close a position, or a volume of it, at a price, whatever the liquidity.

        Raises:
            NoRate: the profit cannot be converted; nothing has changed.
        """
        lots = position.volume if volume is None else volume
        # Asked first, so that a refusal leaves no order behind.
        self.dealer.profit(account, self.symbols[position.symbol], position, volume=lots, price=price)
        order = self.dealer.closing_order(position, volume=lots, price=price, origin=origin)
        self.fill(account, order, price=price, volume=lots, market_price=price)

    def _check_order(self, account: Account, order: Order, quote: Quote) -> None:
        if order.type in MARKET_TYPES:
            self._go_on_filling(account, order)
            return
        if not (goes_on(order) or order_hit(order, trigger_price(self.symbols[order.symbol], order, quote))):
            return
        if order.type in STOP_LIMIT_TYPES:
            order.type, order.price_open, order.price_stoplimit = activated(order), order.price_stoplimit, 0.0
            account.put_order(order)
            return
        price = fill_price(order, quote, better=self.settings.fill_limit_better)
        if not self._activated(account, order, price):
            self.dealer.cancel(account, order, api.ORDER_STATE_REJECTED)

    def _activated(self, account: Account, order: Order, price: float) -> bool:
        """Execute a triggered order; False when it cannot be: no money, no liquidity, a hedge that is forbidden."""
        if account.forbids(order.symbol, buy=order.type in BUY_TYPES):
            return False
        if not self.rehearsal.affords(account, order, volume=self.available(order), price=price):
            return False
        return self.execute(account, order, price=price) is not None

    def _go_on_filling(self, account: Account, order: Order) -> None:
        """Fill more of the rest of a market order; a closing one whose position has gone is cancelled."""
        closing = not account.netting and order.position_id not in {0, order.ticket}
        if closing:
            position = account.position_of(order.symbol, order.position_id)
            order.volume_current = min(order.volume_current, position.volume if position is not None else 0)
        volume = self.available(order)
        affordable = closing or self.rehearsal.affords(account, order, volume=volume, price=order.price_current)
        if volume <= 0 or not affordable:
            self.dealer.cancel(account, order, api.ORDER_STATE_CANCELED)
            return
        try:
            self.execute(account, order, price=order.price_current)
        except NoRate:  # the profit cannot be converted now: the rest waits for the next tick
            return

    def available(self, order: Order) -> float:
        """Return how much of an order's rest can be filled at this tick."""
        symbol = self.symbols[order.symbol]
        volume = min(order.volume_current, symbol.liquidity_lots or order.volume_current)
        if self._portion < 1 and order.type_filling != api.ORDER_FILLING_FOK:
            steps = max(1, round(order.volume_initial * self._portion / symbol.volume_step))
            volume = min(volume, round(steps * symbol.volume_step, VOLUME_DIGITS))
        return volume

    @contextmanager
    def filling(self, portion: float) -> Iterator[None]:
        """Let orders meanwhile fill no more than a part of their volume, rounded to a step; FOK ones fill whole."""
        self._portion = portion
        try:
            yield
        finally:
            self._portion = 1.0

    def execute(self, account: Account, order: Order, *, price: float) -> Deal | None:
        """Fill what liquidity and filling mode allow; None when that is nothing (FOK without enough of it).

        What is left of an order is cancelled under IOC, else it stays active.
        """
        volume = self.available(order)
        short = volume < order.volume_current
        if short and order.type_filling == api.ORDER_FILLING_FOK:
            return None
        deal = self.fill(account, order, price=price, volume=volume)
        if short and order.type_filling == api.ORDER_FILLING_IOC:
            self.dealer.cancel(account, order, api.ORDER_STATE_CANCELED)
        return deal

    def fill(
        self, account: Account, order: Order, *, price: float, volume: float, market_price: float | None = None
    ) -> Deal:
        """Fill a volume of an order at a price.

        Raises:
            NoRate: a profit cannot be converted.
        """
        quote = self.quotes[order.symbol]
        if market_price is None:
            market_price = quote.bid if order.type in BUY_TYPES else quote.ask
        symbol = self.symbols[order.symbol]
        deal = self.dealer.fill(account, symbol, order, volume=volume, price=price, market_price=market_price)
        self.valuer.reprice_positions(account, order.symbol, account.positions_on(order.symbol))
        return deal

    def _expire_orders(self) -> None:
        for account in self.accounts.values():
            if not account.next_expiry_s:
                continue
            now_s = self.moment().seconds
            if now_s < account.next_expiry_s:
                continue
            for order in list(account.orders.values()):
                if 0 < order.time_expiration <= now_s:
                    self.dealer.cancel(account, order, api.ORDER_STATE_EXPIRED)


def _quote_at(ticks: Ticks, at: int) -> Quote:
    return Quote(float(ticks.bids[at]), float(ticks.asks[at]), int(ticks.times_ms[at]), float(ticks.lasts[at]))


def _renamed(symbol: Specification, name: str) -> Specification:
    return msgspec.structs.replace(symbol, name=name)
