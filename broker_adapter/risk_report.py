"""The risk gate as an operator sees it: every limit with what is held against it, and what stands in the way now."""

from __future__ import annotations

from broker_adapter.broker_state import TRADE_MODE_REAL
from broker_adapter.flattening import Flattening
from broker_adapter.order_desk import OrderDesk
from broker_adapter.order_market import Market
from broker_adapter.order_requests import Draft
from broker_adapter.strategy_watch import StrategyWatch
from protocol.clock import Clock
from protocol.errors import BusError, NotReady
from protocol.messages import Account, RiskReport, SymbolRisk


class RiskReporter:
    """Answers what the gate would say.

    Args:
        symbols: Canonical names of the symbols that are streamed.
    """

    def __init__(
        self,
        desk: OrderDesk,
        market: Market,
        clock: Clock,
        *,
        symbols: tuple[str, ...],
        watch: StrategyWatch,
        flattening: Flattening,
    ) -> None:
        self._desk = desk
        self._market = market
        self._clock = clock
        self._symbols = symbols
        self._watch = watch
        self._flattening = flattening

    def report(self, request_id: int) -> RiskReport:
        """Return the gate as it is now."""
        desk, gate, account = self._desk, self._desk.gate, self._desk.account
        exposure = desk.exposure()
        return RiskReport(
            id=request_id,
            server=account.server if account else "",
            login=account.login if account else 0,
            currency=account.currency if account else "",
            real=account is not None and account.trade_mode == TRADE_MODE_REAL,
            armed=account is not None and gate.is_armed(account),
            trading_mode=gate.mode.value,
            reason=gate.mode_reason,
            limits=gate.account_uses(account, exposure, self._clock.monotonic_ns()) if account else (),
            symbols=tuple(self._of(symbol, account) for symbol in self._symbols),
            strategies=self._watch.presences(),
            flatten=self._flattening.status(),
        )

    def restrictions(self) -> tuple[str, ...]:
        """Return for people what stands against new exposure beside the mode, and what is being flattened."""
        return (*self._watch.restrictions(), *self._flattening.status())

    def _of(self, symbol: str, account: Account | None) -> SymbolRisk:
        try:
            self._desk.check_ready()
            if account is None:
                raise NotReady("no account has been read yet")
            instrument = self._desk.instrument(symbol)
        except BusError as error:
            return SymbolRisk(symbol, error.code, error.text, ())
        market, gate, exposure = self._market, self._desk.gate, self._desk.exposure()
        quote, now_ms = self._desk.quote(symbol), self._desk.now_ms
        uses = gate.symbol_uses(symbol, account, exposure, quote, instrument.point, now_ms)
        try:
            gate.check(
                Draft(action="open", symbol=symbol, side="buy", volume=instrument.volume_min),
                account=account,
                exposure=exposure,
                quote=quote,
                point=instrument.point,
                now_ms=now_ms,
                now_ns=self._clock.monotonic_ns(),
                server_time_known=market.server_time_known,
                gap=market.has_gap(symbol),
                any_strategy=True,
            )
        except BusError as error:
            return SymbolRisk(symbol, error.details.get("limit", error.code), error.text, uses)
        return SymbolRisk(symbol, "", "", uses)
