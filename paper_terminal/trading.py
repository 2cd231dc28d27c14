"""Trade requests: the answers of `order_send` and `order_check`, with the return codes of the API."""

from __future__ import annotations

from collections import deque

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import CheckResult, SendResult, TradeRequest
from paper_terminal.margin import NoRate, Quote
from paper_terminal.planning import Planner
from paper_terminal.retcodes import (
    CHECKED_COMMENT,
    EXECUTED_COMMENT,
    PLACED_COMMENT,
    SERVER_SIDE,
    Refusal,
    comment_of,
)


class TradeDesk:
    """Takes trade requests for the accounts of one engine."""

    def __init__(self, engine: Engine) -> None:
        """Serve this engine's accounts."""
        self._engine = engine
        self._planner = Planner(engine)
        self._request_id = 0
        self._recent_ms: deque[int] = deque()

    def send(self, account: Account, request: TradeRequest, *, refuse: int = 0, portion: float = 1.0) -> SendResult:
        """Carry out a request; what it changes is durable when this returns.

        Args:
            account: Whose order.
            request: What is asked.
            refuse: A return code to refuse with whatever the request is (terminal state, faults); 0: none.
            portion: How much of a market order fills at once, above 0 and at most 1 (faults).

        Raises:
            StateError: the change cannot be made durable.
        """
        try:
            plan = self._planner.plan(account, request, refuse or self._too_many())
            with self._engine.filling(portion):
                outcome = plan.execute()
        except Refusal as refusal:
            return self._refused(request, refusal.retcode, refusal.quote)
        except NoRate:
            return self._refused(request, api.TRADE_RETCODE_PRICE_OFF)
        self._engine.commit()
        self._request_id += 1
        bid, ask = (outcome.quote.bid, outcome.quote.ask) if outcome.quote else (0.0, 0.0)
        return SendResult(
            outcome.retcode,
            outcome.deal,
            outcome.order,
            outcome.volume,
            outcome.price,
            bid,
            ask,
            PLACED_COMMENT if outcome.retcode == api.TRADE_RETCODE_PLACED else EXECUTED_COMMENT,
            self._request_id,
            0,
            request,
        )

    def _too_many(self) -> int:
        """Return the refusal when this request is one too many within a second, else 0."""
        limit, now_ms, recent = self._engine.settings.max_requests_per_second, self._engine.now_ms, self._recent_ms
        if not limit:
            return 0
        while recent and recent[0] <= now_ms - 1000:
            recent.popleft()
        recent.append(now_ms)
        return api.TRADE_RETCODE_TOO_MANY_REQUESTS if len(recent) > limit else 0

    def _refused(self, request: TradeRequest, retcode: int, quote: Quote | None = None) -> SendResult:
        if retcode == api.TRADE_RETCODE_REQUOTE and quote is None:  # a fault: nobody has looked at the market yet
            quote = self._engine.quotes.get(request.symbol)
        bid, ask = (quote.bid, quote.ask) if quote else (0.0, 0.0)
        self._request_id += retcode in SERVER_SIDE
        request_id = self._request_id if retcode in SERVER_SIDE else 0
        return SendResult(retcode, 0, 0, 0.0, 0.0, bid, ask, comment_of(retcode), request_id, 0, request)

    def check(self, account: Account, request: TradeRequest, *, refuse: int = 0) -> CheckResult:
        """Return what carrying out a request would leave; nothing is changed.

        The numbers are those after the trade; on a refusal they are 0.
        """
        try:
            plan = self._planner.plan(account, request, refuse)
            worth = plan.preview()
        except Refusal as refusal:
            return CheckResult(refusal.retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, comment_of(refusal.retcode), request)
        except NoRate:
            retcode = api.TRADE_RETCODE_PRICE_OFF
            return CheckResult(retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, comment_of(retcode), request)
        return CheckResult(
            0,
            worth.balance,
            worth.equity,
            worth.profit,
            worth.margin,
            worth.margin_free,
            worth.margin_level,
            CHECKED_COMMENT,
            request,
        )
