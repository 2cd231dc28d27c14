"""The dealer of Request execution: takes the price a client asks for, offers another one, or does not deal.

A share of the requests set in the settings is answered by another price (10004); the client may take it for a few
seconds by sending it back, and is then filled at it wherever the market is. Another share is refused (10006).
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from paper_terminal import constants as api
from paper_terminal.checks import BUY_TYPES
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.retcodes import Refusal
from paper_terminal.settings import Settings
from paper_terminal.specifications import Specification

OFFER_STANDS_MS: Final = 5_000
"""How long a price offered may be taken, milliseconds of the market's time."""


class _Offer(NamedTuple):
    price: float
    until_ms: int


class PriceDesk:
    """Answers requests for a price; what it does is drawn from the feed's seed."""

    def __init__(self, settings: Settings) -> None:
        """Answer as often as the settings say with another price, or not at all."""
        self._requotes = settings.dealer_requotes
        self._rejects = settings.dealer_rejects
        self._points = settings.dealer_requote_points
        self._random = random.Random(settings.feed.seed)  # noqa: S311  # not cryptography
        self._offers: dict[tuple[int, str, bool], _Offer] = {}

    def offered(
        self, login: int, name: str, symbol: Specification, request: TradeRequest, *, now_ms: int
    ) -> float | None:
        """Return the price offered to the client if the request takes it and it still stands."""
        offer = self._offers.get((login, name, request.type in BUY_TYPES))
        if offer is None or now_ms > offer.until_ms:
            return None
        return offer.price if symbol.price(request.price) == offer.price else None

    def agree(
        self, login: int, name: str, symbol: Specification, request: TradeRequest, quote: Quote, *, now_ms: int
    ) -> float:
        """Return the price of a deal.

        Raises:
            Refusal: another price is offered (10004, with it as bid or ask), or none (10006).
        """
        buy = request.type in BUY_TYPES
        taken = self.offered(login, name, symbol, request, now_ms=now_ms)
        self._offers.pop((login, name, buy), None)
        if taken is not None:
            return taken
        drawn = self._random.random() if self._requotes or self._rejects else 1.0
        if drawn < self._rejects:
            raise Refusal(api.TRADE_RETCODE_REJECT)
        if drawn < self._rejects + self._requotes:
            worse = self._points * symbol.point
            fresh = (
                quote._replace(ask=symbol.price(quote.ask + worse))
                if buy
                else quote._replace(bid=symbol.price(quote.bid - worse))
            )
            self._offers[login, name, buy] = _Offer(fresh.ask if buy else fresh.bid, now_ms + OFFER_STANDS_MS)
            raise Refusal(api.TRADE_RETCODE_REQUOTE, fresh)
        return quote.ask if buy else quote.bid
