"""A small API module for tests: it answers, stalls, hangs with the GIL held, or dies, as a file tells it.

`initialize(path)` names a folder; `behaviour.json` in it maps a function's name to what it does. Every call is noted
in `calls.txt` there, with the process id.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np

from broker_adapter.api_types import (
    ApiAccount,
    ApiDeal,
    ApiOrder,
    ApiPosition,
    ApiSendResult,
    ApiSymbol,
    ApiTerminal,
    ApiTick,
    ApiTradeRequest,
)
from protocol.ticks import TICK_DTYPE

__version__ = "fake"


def _struct(kind: Any) -> Any:
    # Not picklable and a tuple, as the real types are.
    return namedtuple(kind.__name__, kind.__struct_fields__)


AccountInfo = _struct(ApiAccount)
TerminalInfo = _struct(ApiTerminal)
SymbolInfo = _struct(ApiSymbol)
Tick = _struct(ApiTick)
TradePosition = _struct(ApiPosition)
TradeOrder = _struct(ApiOrder)
TradeDeal = _struct(ApiDeal)
TradeRequest = _struct(ApiTradeRequest)
OrderSendResult = _struct(ApiSendResult)

_folder: Path | None = None
_error = (1, "Success")


def filled(kind: Any, api_type: Any, **values: Any) -> Any:
    """Return a struct with plain values where none are given."""
    plain = {"int": 0, "float": 0.0, "str": "", "bool": False}
    named = {name: plain.get(annotation, 0) for name, annotation in api_type.__annotations__.items()}
    return kind(**(named | values))


def _behave(function: str) -> dict[str, Any]:
    global _error
    if _folder is None:
        _error = (-10_004, "No IPC connection")
        return {"fail": True}
    with (_folder / "calls.txt").open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {function}\n")
    behaviour: dict[str, Any] = json.loads((_folder / "behaviour.json").read_text(encoding="utf-8"))
    own: dict[str, Any] = behaviour.get(function, {})
    if own.get("once") and not _take_once(function):
        own = {}
    _error = tuple(own["error"]) if "error" in own else (1, "Success")
    if own.get("hang"):
        _hang()
    if own.get("die"):
        os._exit(9)
    if "sleep_s" in own:
        time.sleep(own["sleep_s"])
    if own.get("raise"):
        raise RuntimeError(own["raise"])
    return own


def _take_once(function: str) -> bool:
    assert _folder is not None
    marker = _folder / f"{function}.taken"
    if marker.exists():
        return False
    marker.touch()
    return True


def _hang() -> None:
    # Through PyDLL the GIL stays held, as in the real module.
    if sys.platform == "win32":
        ctypes.PyDLL("kernel32").Sleep(3_600_000)
    else:
        ctypes.PyDLL(None).sleep(3600)


def initialize(path: str = "", **_options: Any) -> bool:
    global _folder
    _folder = Path(path)
    if "error" in _behave("initialize"):
        _folder = None
        return False
    return True


def login(login: int, password: str = "", server: str = "", timeout: int = 0) -> bool:
    own = _behave("login")
    if "error" in own:
        return False
    assert _folder is not None
    (_folder / "account.json").write_text(json.dumps([login, server]), encoding="utf-8")
    return True


def shutdown() -> bool:
    return True


def last_error() -> tuple[int, str]:
    return _error


def version() -> tuple[int, int, str]:
    return (500, 5000, "1 Jan 2026")


def account_info() -> Any:
    own = _behave("account_info")
    if "error" in own or "fail" in own:
        return None
    assert _folder is not None
    account = _folder / "account.json"
    login, server = json.loads(account.read_text(encoding="utf-8")) if account.exists() else (1001, "Fake-Server")
    return filled(
        AccountInfo,
        ApiAccount,
        login=login,
        server=server,
        balance=10_000.0,
        equity=10_000.0,
        currency="USD",
        margin_mode=2,
        leverage=100,
        trade_allowed=True,
        trade_expert=True,
    )


def terminal_info() -> Any:
    own = _behave("terminal_info")
    if "error" in own or "fail" in own:
        return None
    return filled(
        TerminalInfo, ApiTerminal, connected=own.get("connected", True), trade_allowed=True, data_path=str(_folder)
    )


def symbols_total() -> int | None:
    own = _behave("symbols_total")
    return None if "error" in own or "fail" in own else 2


def symbol_select(symbol: str, enable: bool = True) -> bool:
    return "error" not in _behave("symbol_select")


def positions_get(**_filter: Any) -> Any:
    own = _behave("positions_get")
    if "error" in own or "fail" in own:
        return None
    found = [filled(TradePosition, ApiPosition, **each) for each in own.get("positions", [])]
    return tuple(each for each in found if _filter.get("ticket", each.ticket) == each.ticket)


def orders_get(**_filter: Any) -> Any:
    return None if "error" in _behave("orders_get") else ()


def history_orders_total(_from: int, _to: int) -> int:
    return 0


def history_deals_total(_from: int, _to: int) -> int:
    return 0


def history_orders_get(*_range: int, **_by: int) -> Any:
    return ()


def history_deals_get(*_range: int, **_by: int) -> Any:
    return ()


def _stored_ticks() -> np.ndarray[Any, Any]:
    assert _folder is not None
    file = _folder / "ticks.npy"
    return np.load(file) if file.exists() else np.empty(0, TICK_DTYPE)


def symbol_info_tick(symbol: str) -> Any:
    own = _behave("symbol_info_tick")
    if "error" in own or "fail" in own:
        return None
    ticks = _stored_ticks()
    if not len(ticks):
        return filled(Tick, ApiTick)
    return Tick(*(each.item() for each in ticks[-1]))


def copy_ticks_from(symbol: str, from_s: int, count: int, flags: int) -> Any:
    own = _behave("copy_ticks_from")
    if "error" in own or "fail" in own:
        return None
    ticks = _stored_ticks()
    return ticks[ticks["time"] >= from_s][:count].copy()


def order_send(request: dict[str, Any]) -> Any:
    own = _behave("order_send")
    if "error" in own:
        return None
    echo = filled(TradeRequest, ApiTradeRequest, **request)
    return filled(
        OrderSendResult,
        ApiSendResult,
        retcode=10_009,
        order=7,
        deal=8,
        volume=request["volume"],
        price=1.1,
        request=echo,
    )
