"""Leaving an account without what the suite opened, whatever happened."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

MAGIC: Final = 20_250_701
"""The magic of everything the suite sends, but for the cases that try out magics."""

_LIMIT_S: Final = 30.0
_PAUSE_S: Final = 0.1
_QUIET_LOOKS: Final = 3
"""So often in a row nothing may be there: what was sent may show a little later."""
_LAST_LOOKS: Final = 30


class NotFlat(Exception):
    """Something is left, and cannot be closed; the text says what."""


class Cleaner:
    """Closes and removes everything on a symbol that was without positions and orders before."""

    def __init__(self, api: Any, symbol: str, login: int, *, connect: Callable[[], bool]) -> None:
        """Clean this symbol on the account `login` only; `connect` connects again where the connection is gone."""
        self._api = api
        self._connect = connect
        self._symbol = symbol
        self._login = login

    def require_same_account(self) -> None:
        """Check that the terminal is still logged in to the account that was allowed.

        Raises:
            NotFlat: another account, or a terminal that does not answer.
        """
        account = self._api.account_info()
        if account is None and self._connect():  # it was cut, perhaps by the very Ctrl-C
            account = self._api.account_info()
        if account is None:
            raise NotFlat(f"the terminal no longer answers: {self._api.last_error()}")
        if account.login != self._login:
            raise NotFlat(f"the terminal is no longer logged in to {self._login}: nothing more is sent")

    def flatten(self, *, last: bool = False) -> None:
        """Close every position and remove every order of the symbol; a Ctrl-C meanwhile waits.

        With `last` it looks for longer whether something still comes.

        Raises:
            NotFlat: some are left after 30 s, or the account is another one.
        """
        with _undisturbed():
            deadline, quiet = time.monotonic() + _LIMIT_S, 0
            while quiet < (_LAST_LOOKS if last else _QUIET_LOOKS):
                self.require_same_account()
                positions = self._api.positions_get(symbol=self._symbol)
                orders = self._api.orders_get(symbol=self._symbol)
                if positions is None or orders is None:
                    quiet = 0
                elif positions or orders:
                    quiet = 0
                    self._end(positions, orders)
                else:
                    quiet += 1
                if time.monotonic() > deadline:
                    left = [each.ticket for each in (*(positions or ()), *(orders or ()))]
                    raise NotFlat(f"positions and orders {left} of {self._symbol} cannot be closed")
                threading.Event().wait(_PAUSE_S if quiet else 0.0)

    def _end(self, positions: Any, orders: Any) -> None:
        for order in orders:
            self._api.order_send({"action": self._api.TRADE_ACTION_REMOVE, "order": order.ticket})
        for position in positions:
            self._close(position)

    def _close(self, position: Any) -> None:
        api, tick, info = self._api, self._api.symbol_info_tick(self._symbol), self._api.symbol_info(self._symbol)
        if tick is None or info is None:
            return
        long = position.type == api.POSITION_TYPE_BUY
        api.order_send({
            "action": api.TRADE_ACTION_DEAL,
            "symbol": self._symbol,
            "position": position.ticket,
            "volume": min(position.volume, info.volume_max),
            "type": api.ORDER_TYPE_SELL if long else api.ORDER_TYPE_BUY,
            "price": tick.bid if long else tick.ask,
            "deviation": 1000,
            "magic": MAGIC,
            "type_filling": market_filling(api, info),
        })


def market_filling(api: Any, info: Any) -> int:
    """Return a filling that market orders of a symbol may have."""
    return int(api.ORDER_FILLING_FOK if info.filling_mode & 1 else api.ORDER_FILLING_IOC)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let a request to end the process be a KeyboardInterrupt, so that what is open is closed first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)]
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no signal end what is inside; it counts afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = [signal.signal(number, lambda number, _frame: pressed.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if pressed:
        raise KeyboardInterrupt
