"""Sending an order in a link: the last checks and `order_send`, in one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from broker_adapter.api_failure import ApiFailure, last_failure
from broker_adapter.api_types import ApiCheckResult, ApiSendResult, ApiTradeRequest
from broker_adapter.link_messages import RAISED, Check, Send, SendOutcome

_TRADE_ACTION_DEAL = 1
_TRADE_ACTION_PENDING = 5
_ALWAYS_IN_ORDERS = ("type", "type_filling", "type_time", "symbol", "volume")


def request_dict(request: ApiTradeRequest) -> dict[str, int | float | str]:
    """Return the dict that `order_send` takes: exact types, fields at their defaults left out."""
    values: dict[str, int | float | str] = msgspec.structs.asdict(request)
    always = {"action"}
    if request.action in {_TRADE_ACTION_DEAL, _TRADE_ACTION_PENDING}:
        always.update(_ALWAYS_IN_ORDERS)
    return {name: value for name, value in values.items() if value or name in always}


class OrderSender:
    """Sends orders for one adapter."""

    def __init__(self, api: Any, *, monotonic_ns: Callable[[], int], adapter_lives: Callable[[], bool]) -> None:
        self._api = api
        self._monotonic_ns = monotonic_ns
        self._adapter_lives = adapter_lives

    def send(self, command: Send) -> SendOutcome:
        """Call `order_send` at most once. Every way that does not call it says so in `not_sent`."""
        refusal = self._wrong_account(command)
        if refusal is not None:
            return refusal
        request = self._adapted(command)
        if isinstance(request, SendOutcome):
            return request
        fields = request_dict(request)
        # The last two checks come right before the call: what they find must still hold in it.
        if not self._adapter_lives():
            return SendOutcome(not_sent="adapter_gone")
        sent_ns = self._monotonic_ns()
        if sent_ns >= command.deadline_ns:
            return SendOutcome(
                not_sent="deadline", comment=f"late by {(sent_ns - command.deadline_ns) // 1_000_000} ms"
            )
        # From here on the order may have taken effect, whatever happens: no failure may look like "not sent".
        try:
            returned = self._api.order_send(fields)
            done_ns = self._monotonic_ns()
            failure = last_failure(self._api) if returned is None else None
            result = None if returned is None else msgspec.convert(returned, ApiSendResult, strict=False)
        except Exception as error:
            done_ns, result = self._monotonic_ns(), None
            failure = ApiFailure(RAISED, f"{type(error).__name__}: {error}"[:300])
        return SendOutcome(
            result=result,
            code=1 if failure is None else failure.code,
            text="" if failure is None else failure.text,
            volume=request.volume,
            sent_ns=sent_ns,
            done_ns=done_ns,
        )

    def check(self, command: Check) -> ApiCheckResult:
        """Call `order_check`.

        Raises:
            ApiFailure: The terminal refused.
        """
        result = self._api.order_check(request_dict(command.request))
        if result is None:
            raise last_failure(self._api)
        return msgspec.convert(result, ApiCheckResult, strict=False)

    def _wrong_account(self, command: Send) -> SendOutcome | None:
        account = self._api.account_info()
        terminal = self._api.terminal_info() if account is not None else None
        if account is None or terminal is None:
            failure = last_failure(self._api)
            return SendOutcome(not_sent="not_attached", code=failure.code, text=failure.text)
        present = (int(account.login), str(account.server))
        if present != (command.login, command.server):
            return SendOutcome(not_sent="wrong_account", comment=f"the terminal is on {present[0]} at {present[1]}")
        if command.data_path and str(terminal.data_path) != command.data_path:
            return SendOutcome(not_sent="wrong_account", comment=f"another terminal: {terminal.data_path}")
        return None

    def _adapted(self, command: Send) -> ApiTradeRequest | SendOutcome:
        """Return the request as the netting position that it meets wants it, or why it is not sent."""
        request, clip, keep = command.request, command.clip, command.keep
        if clip is None and keep is None:
            return request
        found = self._api.positions_get(symbol=request.symbol)
        if found is None:
            failure = last_failure(self._api)
            return SendOutcome(not_sent="position_unreadable", code=failure.code, text=failure.text)
        # POSITION_TYPE_BUY and _SELL are ORDER_TYPE_BUY and _SELL: an exit meets the other one, an addition the same.
        if clip is not None:
            held = next((p for p in found if int(p.identifier) == clip.position and int(p.type) != request.type), None)
            if held is None:
                return SendOutcome(not_sent="position_gone")
            volume = min(request.volume, float(held.volume))
            return msgspec.structs.replace(request, volume=volume, position=int(held.ticket))
        assert keep is not None
        for held in found:
            if int(held.type) == request.type:
                sl = float(held.sl) if keep.sl else request.sl
                tp = float(held.tp) if keep.tp else request.tp
                return msgspec.structs.replace(request, sl=sl, tp=tp)
        return request
