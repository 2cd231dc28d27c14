"""One hand-written value of everything that the wire carries; the golden fixtures are made of these."""

from __future__ import annotations

from market.bars import Bar
from market.instrument import Instrument
from market.risk import LimitUse
from protocol import messages as m

ACCOUNT = m.Account(
    "Demo-Server", 5_012_345, "Ada", "EUR", 100, 0, 2, 10_000.0, 0.0, 12.5, 10_012.5, 108.5, 9904.0, 9228.11, True, True
)
POSITION = m.Position(
    ticket=71,
    identifier=70,
    symbol="EURUSD",
    type=0,
    volume=0.1,
    price_open=1.0851,
    sl=1.08,
    tp=1.095,
    price_current=1.0863,
    profit=12.0,
    swap=-0.5,
    magic=12345,
    comment="conf 1",
    reason=3,
    time_ms=1_700_000_000_000,
    time_update_ms=1_700_000_060_000,
    strategy="confluence",
    client_order_id="a1b2",
)
ORDER = m.Order(
    81, "EURUSD", 2, 1, 0.2, 0.2, 1.08, 0.0, 1.07, 1.1, 2, 0, 0, 0, 12345, "", 3, 1_700_000_000_000, 0, 0, "", "c-7"
)
DEAL = m.Deal(
    91, 81, 70, "EURUSD", 0, 0, 3, 0.1, 1.0851, 0.0, -0.35, 0.0, 0.0, 12345, "conf 1", 1_700_000_000_123, "confluence"
)
QUOTE = m.Quote("EURUSD", 1_700_000_000_456, 1.08501, 1.08509)
BAR = Bar(1_700_000_000_000, 1.1, 1.2, 1.0, 1.15, 42, 8)
INSTRUMENT = Instrument(
    symbol="EURUSD",
    broker_symbol="EURUSD.m",
    digits=5,
    point=1e-5,
    tick_size=1e-5,
    tick_value=1.0,
    contract_size=100_000.0,
    volume_min=0.01,
    volume_max=50.0,
    volume_step=0.01,
    volume_limit=0.0,
    stops_level_points=10,
    freeze_level_points=0,
    execution=2,
    filling_mask=3,
    order_mask=127,
    expiration_mask=15,
    trade_mode=4,
    calc_mode=0,
    currency_base="EUR",
    currency_profit="USD",
    currency_margin="EUR",
    description="Euro vs US Dollar",
    path="Forex\\Majors\\EURUSD",
)
INTENT = m.IntentEvent("a1b2", "confluence", "open", "done", "EURUSD", "buy", 0.1, 0.0, 1.08, 1.095, 10009)
UNSETTLED = m.UnsettledOrder(INTENT, 1_700_000_000_000, 12345, "mb00000001", "no trace", "120 s of connection", 7)
SIGNAL = m.SignalEvent(
    "s-1", "confluence", "EURUSD", "S5", 1_700_000_000_000, 1, 0.75, 1.0851, {"rsi": 61.5}, True, "a1b2"
)

TICKS = bytes.fromhex(
    "00f1536500000000"  # time 1700000000
    "000000000000f03f"  # bid 1.0
    "000000000000f83f"  # ask 1.5
    "0000000000000000"  # last
    "0000000000000000"  # volume
    "7b68e5cf8b010000"  # time_msc 1700000000123
    "06000000"  # flags: bid and ask
    "0000000000000000"  # volume_real
)
RATES = bytes.fromhex(
    "00f1536500000000"  # time 1700000000
    "000000000000f03f"  # open 1.0
    "0000000000000040"  # high 2.0
    "000000000000e03f"  # low 0.5
    "000000000000f83f"  # close 1.5
    "2a00000000000000"  # tick_volume 42
    "08000000"  # spread 8
    "0000000000000000"  # real_volume
)
REPORT = m.StreamReport("ticks", 100, 1, 2, 3, 0.5)
EVENT = m.Event("log-1", 7, 1, 2, 3, "Demo-Server", 5_012_345, m.DealEvent(DEAL))
LINK = m.LinkHealth(4242, "trade", "ready", 10, 1, 2, 0.25)
BODIES: tuple[m.EventBody, ...] = (
    m.DealEvent(DEAL),
    m.OrderEvent(ORDER),
    m.PositionEvent("opened", POSITION),
    INTENT,
    SIGNAL,
    m.ModeEvent("halted", "news", 1),
    m.AlertEvent("a-1", "critical", "disk_full", "no space", {"free": "0"}),
)
REPORTS: tuple[m.NodeReport, ...] = (
    m.AdapterReport(
        "connected",
        5_012_345,
        "Demo-Server",
        "EUR",
        10_000.0,
        10_012.5,
        m.OrderCounts(3, 2, 1, 0),
        (POSITION,),
        (QUOTE,),
        (DEAL,),
        "active",
    ),
    m.StrategyReport(("confluence",), 5, 4, warm=True),
    m.LoggerReport(1, 2, 3, 4, 5),
    None,
)


def _pong(report: m.NodeReport) -> m.Pong:
    return m.Pong("strategy", "ab12", 9, 1000, "ready", 77, 0, (REPORT,), report)


MESSAGES: dict[str, m.Message] = {
    "tick": m.TickBatch(1_700_000_000_000, 5, 123_456_789, TICKS),
    "bar": m.BarUpdate(1_700_000_000_000, 3, 123_456_789, "S5", 0, BAR),
    "state": m.StateUpdate(1, 2, 3, ACCOUNT, (POSITION,), (QUOTE,)),
    "beacon": m.Beacon(1, 2, 3, 4, "log-1", 7, {"EURUSD": 5}, {"EURUSD": 3}, "connected", "active", 120, "measured"),
    **{f"event.{body.__struct_config__.tag}": m.Event("log-1", 7, 1, 2, 3, "Demo", 5, body) for body in BODIES},
    "error": m.ErrorReply(1, "risk_refused", "too much", {"limit": "max_positions"}),
    "done": m.Done(1, "so be it"),
    "get_snapshot": m.GetSnapshot(1, "confluence"),
    "snapshot": m.Snapshot(
        1,
        "log-1",
        7,
        1,
        3,
        ACCOUNT,
        (POSITION,),
        (ORDER,),
        (INSTRUMENT,),
        (INTENT,),
        "active",
        "connected",
        120,
        "measured",
    ),
    "snapshot.no_account": m.Snapshot(1, "log-1", 0, 1, 3, None, (), (), (), (), "halted", "down", 0, "assumed"),
    "get_events": m.GetEvents(1, 6, "log-1", 100),
    "events": m.Events(1, "log-1", 1, 7, (EVENT,)),
    "get_account": m.GetAccount(1),
    "account": m.AccountReply(1, ACCOUNT),
    "get_positions": m.GetPositions(1, "EURUSD"),
    "positions": m.Positions(1, (POSITION,)),
    "get_orders": m.GetOrders(1),
    "orders": m.Orders(1, (ORDER,), more=True),
    "get_history_orders": m.GetHistoryOrders(1, 2, 3),
    "get_deals": m.GetDeals(1, 2, 3, 70),
    "deals": m.Deals(1, (DEAL,)),
    "get_prices": m.GetPrices(1, ("EURUSD", "XAUUSD")),
    "prices": m.Prices(1, (QUOTE,)),
    "get_rates": m.GetRates(1, "EURUSD", "M1", count=500),
    "rates": m.Rates(1, "EURUSD", "M1", RATES, more=True, next_ms=1_700_000_060_000),
    "get_ticks": m.GetTicks(1, "EURUSD", 2, 3, 1, 1000),
    "get_tick_range": m.GetTickRange(1, "EURUSD", 1_700_000_000_000, 5, 10),
    "ticks": m.Ticks(1, "EURUSD", TICKS, 5, more=True, next_ms=6, next_skip=2),
    "find_symbols": m.FindSymbols(1, "EUR*", 10),
    "symbols": m.Symbols(1, (m.SymbolMatch("EURUSD.m", "EURUSD", "Euro", "Forex\\EURUSD.m", selected=True),)),
    "get_instrument": m.GetInstrument(1, "EURUSD"),
    "instrument": m.InstrumentReply(1, INSTRUMENT),
    "get_intent": m.GetIntent(1, "a1b2"),
    "get_unsettled": m.GetUnsettled(1),
    "unsettled": m.Unsettled(1, (UNSETTLED,)),
    "calculate_margin": m.CalculateMargin(1, "EURUSD", "buy", 0.1, 1.1, 1.2),
    "margin": m.MarginReply(1, 108.5, 1000.0),
    "get_health": m.GetHealth(1),
    "health": m.Health(
        1, "connected", "closed", True, True, 250, 120, "measured", True, (LINK,), {"reconnects": 1}, "fine"
    ),
    "get_risk": m.GetRisk(1),
    "risk": m.RiskReport(
        1,
        "Demo-Server",
        5_012_345,
        "EUR",
        real=False,
        armed=True,
        trading_mode="halted",
        reason="news",
        limits=(LimitUse("daily_loss", "", "EUR", 500.0, None),),
        symbols=(m.SymbolRisk("EURUSD", "mode", "halted", (LimitUse("spread", "EURUSD", "points", None, 8),)),),
        strategies=(m.StrategyPresence("confluence", "silent", 31.5, 30.0, "reduce", ("EURUSD",)),),
        flatten=("position 71",),
    ),
    "submit_order": m.SubmitOrder(
        1, "a1b2", "confluence", 5000, "EURUSD", "buy", 0.1, "limit", 1.08, 1.07, 1.1, 10, "conf 1", 3, 4, 1.09
    ),
    "close_position": m.ClosePosition(1, "a1b3", "confluence", 0, 71, 0.05),
    "close_by": m.CloseBy(1, "a1b7", "confluence", 0, 71, 72),
    "modify_position": m.ModifyPosition(1, "a1b4", "confluence", 0, 71, 1.07, 1.11),
    "modify_order": m.ModifyOrder(1, "a1b5", "confluence", 0, 81, 1.081),
    "cancel_order": m.CancelOrder(1, "a1b6", "confluence", 0, 81),
    "order_reply": m.OrderReply(1, INTENT, repeated=True),
    "report_signal": m.ReportSignal(1, SIGNAL),
    "set_trading_mode": m.SetTradingMode(1, "halted", "news", flatten=True),
    "strategy_alive": m.StrategyAlive(1, "confluence", ("EURUSD",), 1_700_000_000_000, 123_456_789),
    "arm_account": m.ArmAccount(1, 5_012_345),
    "settle_order": m.SettleOrder(1, "a1b2", "not_executed", "seen in the terminal"),
    "reconnect": m.Reconnect(1),
    "acknowledge_events": m.AcknowledgeEvents(1, "confluence", "log-1", 7),
    "events_acknowledged": m.EventsAcknowledged(1, "strategy:confluence", 7, 3),
    "get_consumers": m.GetConsumers(1),
    "consumers": m.Consumers(1, "log-1", 3, 9, 65_536, (m.Consumer("ml_logger", 7, 2, 0, 5, 6),)),
    "forget_consumer": m.ForgetConsumer(1, "ml_logger"),
    "get_missed_ticks": m.GetMissedTicks(1, "EURUSD", 3, 1_700_000_000_123, 2),
    "get_status": m.GetStatus(1),
    "status": m.StatusReply(1, b'{"nodes":[]}'),
    "stop_system": m.StopSystem(1),
    "restart_node": m.RestartNode(1, "strategy"),
    "hello": m.Hello("strategy", "ab12", 4242, 1_700_000_000.25, "0.1.0", "starting"),
    "ping": m.Ping(9, 1000),
    **{f"pong.{'none' if r is None else r.__struct_config__.tag}": _pong(r) for r in REPORTS},
    "stop_node": m.StopNode("down"),
    "goodbye": m.Goodbye("strategy", "ab12", "down"),
}
