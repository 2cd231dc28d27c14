"""Finding the ticks at which nothing can happen, so that an engine need not look at each of them.

A window of ticks is quiet up to the first one that reaches a stop, a take profit or a pending price, a midnight or an
expiry. The stop-out is excluded for a window as a whole, by the worst equity and the largest margin that its
extremes allow; a window that cannot be excluded so is gone through tick by tick.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.margin import EXCHANGE_MODES, Closing, NoRate
from paper_terminal.matching import Triggers
from paper_terminal.records import Records
from paper_terminal.specifications import Specification
from paper_terminal.valuation import Valuer

WINDOW: Final = 4096
LARGEST_WINDOW: Final = 1 << 16
"""Windows grow up to this size as long as they are quiet."""
WORTH_IT: Final = 64
"""Fewer ticks than this are quicker gone through one by one."""
_LONGEST_CHAIN: Final = 3
"""Symbols that a conversion goes over at most."""

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Ticks:
    """Ticks of several symbols in order of time; within a millisecond in the order of their blocks."""

    names: list[str]
    owner: NDArray[np.int64]
    """Index into `names`."""
    times_ms: NDArray[np.int64]
    bids: NDArray[np.float64]
    asks: NDArray[np.float64]
    lasts: NDArray[np.float64]
    """Price of the last deal, 0 where there was none."""

    def __len__(self) -> int:
        """Return how many ticks there are."""
        return len(self.times_ms)

    def window(self, at: int, end: int) -> Ticks:
        """Return the ticks from index `at` up to `end`."""
        part = slice(at, end)
        return Ticks(
            self.names, self.owner[part], self.times_ms[part], self.bids[part], self.asks[part], self.lasts[part]
        )

    def last_of(self, name_index: int, at: int, end: int) -> int | None:
        """Return the index of the last tick of a symbol from `at` up to `end`, or None."""
        if len(self.names) == 1:
            return end - 1 if end > at else None
        found = np.flatnonzero(self.owner[at:end] == name_index)
        return at + int(found[-1]) if len(found) else None


def merged(blocks: Iterable[tuple[str, Records]]) -> Ticks:
    """Return the ticks of all blocks in order, but for those without bid or ask: at such nothing can be dealt."""
    blocks = [(name, quoted(ticks)) for name, ticks in blocks]
    owner = np.repeat(np.arange(len(blocks)), [len(ticks) for _, ticks in blocks])
    columns = [np.concatenate([ticks[name] for _, ticks in blocks]) for name in ("time_msc", "bid", "ask", "last")]
    if len(blocks) > 1:
        order = np.argsort(columns[0], kind="stable")
        owner, columns = owner[order], [column[order] for column in columns]
    return Ticks([name for name, _ in blocks], owner, *columns)


def quoted(ticks: Records) -> Records:
    """Return the ticks that have both a bid and an ask: of an exchange symbol a deal may come before any offer."""
    both = (ticks["bid"] > 0) & (ticks["ask"] > 0)
    return ticks if both.all() else ticks[both]


def quiet_ticks(
    window: Ticks,
    accounts: Collection[Account],
    *,
    symbols: Mapping[str, Specification],
    valuer: Valuer,
    before_ms: int,
) -> int:
    """Return how many ticks of a window, from its first on, can be skipped; `before_ms` itself cannot."""
    quiet = int(np.searchsorted(window.times_ms, before_ms, side="left"))
    if not any(account.positions or account.orders for account in accounts):
        return quiet
    masks: dict[str, Hits | None] = dict.fromkeys(window.names)
    if len(masks) > 1:
        masks = {name: window.owner == index for index, name in enumerate(window.names)}
    for account in accounts:
        for name, book in account.books.items():
            if book.triggers.always:
                return 0
            if name in masks:
                quiet = min(quiet, _first_hit(book.triggers, symbols[name], window, masks[name]))
        if account.books and not _safe(account, window, masks, valuer):
            return 0
    return quiet


def _first_hit(triggers: Triggers, symbol: Specification, window: Ticks, mask: Hits | None) -> int:
    """Return the index of the first tick at which something happens, the length where nothing does.

    The symbol's own ticks are those of `mask`, shape (n,); None: all.
    """
    hits = np.zeros(len(window), dtype=bool)
    for prices, floor, ceiling in (
        (window.bids, triggers.bid_floor, triggers.bid_ceiling),
        (window.asks, triggers.ask_floor, triggers.ask_ceiling),
    ):
        if np.isfinite(floor):
            hits |= _watched(symbol, prices, window) <= floor
        if np.isfinite(ceiling):
            hits |= _watched(symbol, prices, window) >= ceiling
    found = np.flatnonzero(hits if mask is None else hits & mask)
    return int(found[0]) if len(found) else len(hits)


def _watched(symbol: Specification, prices: NDArray[np.float64], window: Ticks) -> NDArray[np.float64]:
    """Return what orders and stops wait for, as `matching` has it: on exchange symbols the last price."""
    return np.where(window.lasts > 0, window.lasts, prices) if symbol.calc_mode in EXCHANGE_MODES else prices


def _safe(
    account: Account,
    window: Ticks,
    masks: Mapping[str, Hits | None],
    valuer: Valuer,
) -> bool:
    """Tell whether no tick of the window can bring the account to its stop-out level."""
    spread, lows, highs = 1.0, {}, {}
    for name, mask in masks.items():
        bids, asks = (window.bids, window.asks) if mask is None else (window.bids[mask], window.asks[mask])
        if len(bids):
            lows[name], highs[name] = float(bids.min()), float(asks.max())
            quote = valuer.quote(name)
            if quote is not None:
                lows[name], highs[name] = min(lows[name], quote.bid), max(highs[name], quote.ask)
            spread = max(spread, highs[name] / lows[name] if lows[name] > 0 else np.inf)
    slack = spread**_LONGEST_CHAIN
    equity = account.balance + account.credit
    try:
        equity += account.swap
        for name, book in account.books.items():
            for long, worst in ((True, lows.get(name)), (False, highs.get(name))):
                closings: dict[float, Closing] = {}
                for position in book.positions.values():
                    if position.is_buy != long:
                        continue
                    price = position.price_current if worst is None else worst
                    closing = closings.get(price) or valuer.closing(account, name, price)
                    closings[price] = closing
                    profit = closing.profit(buy=long, volume=position.volume, opened=position.price_open)
                    equity += profit * slack if profit < 0 else profit / slack
        margin = valuer.margin(account) * slack
    except NoRate:
        return False
    if account.settings.stop_out_mode == api.ACCOUNT_STOPOUT_MODE_PERCENT:
        return equity * 100.0 > account.settings.stop_out_level * margin
    return equity > account.settings.stop_out_level
