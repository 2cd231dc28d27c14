"""What `mt5bus risk` shows: every limit, what is left of it, and what stands in the way."""

from __future__ import annotations

import json

import msgspec

from broker_adapter import risk_view
from market.risk import LimitUse
from protocol.messages import RiskReport, StrategyPresence, SymbolRisk

REPORT = RiskReport(
    id=1,
    server="Broker-Real",
    login=7,
    currency="EUR",
    real=True,
    armed=False,
    trading_mode="reducing",
    reason="news",
    limits=(LimitUse("daily_loss", "", "EUR", 500.0, 620.5), LimitUse("positions", "", "positions", 20, 3)),
    symbols=(
        SymbolRisk("EURUSD", "not_armed", "risk: arm it", (LimitUse("spread", "EURUSD", "points", None, None),)),
        SymbolRisk("GBPUSD", "", "", (LimitUse("volume_per_symbol", "GBPUSD", "lots", 0.3, 0.1 + 0.1),)),
    ),
    strategies=(StrategyPresence("one", "silent", 40.0, 30.0, "reduce", ("EURUSD",)),),
    flatten=("position 5",),
)


def test_text() -> None:
    assert list(risk_view.lines(REPORT)) == [
        "account 7 at Broker-Real (real): observed only: 'mt5bus arm' lets orders out",
        "trading reducing: news",
        "flatten: position 5",
        "strategy one silent: heard of 40 s ago, limit 30 s, then reduce; EURUSD",
        "limit              symbol  now    allowed  left    unit",
        "daily_loss                 620.5  500      -120.5  EUR",
        "positions                  3      20       17      positions",
        "spread             EURUSD  -      none     -       points",
        "volume_per_symbol  GBPUSD  0.2    0.3      0.1     lots",
        "EURUSD: no new exposure now: risk: arm it",
        "GBPUSD: takes new exposure",
    ]
    assert next(risk_view.lines(msgspec.structs.replace(REPORT, login=0))) == "account: not read yet"


def test_json_has_what_is_left_beside_each_limit() -> None:
    document = json.loads(json.dumps(risk_view.plain(REPORT)))
    assert document["account"] == {
        "server": "Broker-Real",
        "login": 7,
        "currency": "EUR",
        "real": True,
        "armed": False,
    }
    assert document["limits"][0] == {"name": "daily_loss", "unit": "EUR", "limit": 500.0, "used": 620.5, "left": -120.5}
    assert document["symbols"][0]["code"] == "not_armed"
    assert document["strategies"][0]["state"] == "silent"
    assert document["flatten"] == ["position 5"]
