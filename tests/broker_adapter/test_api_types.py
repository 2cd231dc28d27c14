"""The typed values have exactly the fields of the API's structs, in their order, and decode from them."""

from __future__ import annotations

import msgspec
import pytest

import paper_terminal.structs as api
from broker_adapter import api_types
from broker_adapter.link_commands import encode_value
from broker_adapter.link_orders import request_dict

PAIRS = {
    "ApiTerminal": "TerminalInfo",
    "ApiAccount": "AccountInfo",
    "ApiSymbol": "SymbolInfo",
    "ApiTick": "Tick",
    "ApiPosition": "TradePosition",
    "ApiOrder": "TradeOrder",
    "ApiDeal": "TradeDeal",
    "ApiTradeRequest": "TradeRequest",
    "ApiSendResult": "OrderSendResult",
    "ApiCheckResult": "OrderCheckResult",
}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.items())
def test_fields_are_the_apis(ours: str, theirs: str) -> None:
    struct = getattr(api, theirs)
    names = list(getattr(api_types, ours).__struct_fields__)
    sample = struct([0] * len(names))
    assert list(sample._asdict()) == names


def test_a_struct_sequence_arrives_typed() -> None:
    tick = api.Tick([1, 1.1, 1.2, 0.0, 5, 1007, 6, 0.5])
    assert msgspec.msgpack.decode(encode_value(tick), type=api_types.ApiTick).time_msc == 1007
    several = msgspec.msgpack.decode(encode_value((tick, tick)), type=tuple[api_types.ApiTick, ...])
    assert len(several) == 2


def test_half_a_surrogate_pair_costs_only_itself() -> None:
    assert msgspec.msgpack.decode(encode_value(("ok", "bad\ud800"))) == ["ok", "bad?"]


def test_a_request_is_exactly_typed_and_leaves_out_what_is_not_set() -> None:
    market = api_types.ApiTradeRequest(action=1, symbol="EURUSD", volume=0.1)
    assert request_dict(market) == {
        "action": 1,
        "symbol": "EURUSD",
        "volume": 0.1,
        "type": 0,
        "type_filling": 0,
        "type_time": 0,
    }
    stops = api_types.ApiTradeRequest(action=6, position=5, sl=1.1)
    assert request_dict(stops) == {"action": 6, "position": 5, "sl": 1.1}
    assert all(type(value) in {int, float, str} for value in request_dict(market).values())
