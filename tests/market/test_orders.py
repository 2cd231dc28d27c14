"""Order validation: each rule refuses with the field's name, at its edge."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import ExpirationFlag, Instrument, OrderFlag, OrderInvalid, OrderSpec, TradeMode, round_price
from market.orders import ACTIONS, COMMENT_MAX_LENGTH, EXPIRATION_MAX_MS, validate
from tests.market.samples import EURUSD, variant

NOW_MS = 1_763_510_400_000
BID, ASK = 1.10000, 1.10008
# EURUSD keeps stops at least 10 points away.
POINT = 1e-5

BUY_NOW = OrderSpec(action="open", side="buy", volume=0.1, sl=1.0950, tp=1.1050, comment="mt5bus 1")
SELL_NOW = OrderSpec(action="open", side="sell", volume=0.1, sl=1.1050, tp=1.0950)
BUY_LIMIT = OrderSpec(action="pending", side="buy", type="limit", volume=0.1, price=1.0990, sl=1.0950, tp=1.1050)


def check(spec: OrderSpec, instrument: Instrument = EURUSD, *, position_volume: float = 0.0) -> None:
    validate(spec, instrument, now_ms=NOW_MS, bid=BID, ask=ASK, position_volume=position_volume)


def changed(spec: OrderSpec, **changes: object) -> OrderSpec:
    return msgspec.structs.replace(spec, **changes)


def refused_field(spec: OrderSpec, instrument: Instrument = EURUSD, *, position_volume: float = 0.0) -> str | None:
    try:
        check(spec, instrument, position_volume=position_volume)
    except OrderInvalid as refusal:
        assert str(refusal) == f"{refusal.field}: {refusal.text}"
        return refusal.field
    return None


@pytest.mark.parametrize(
    "spec",
    [
        BUY_NOW,
        SELL_NOW,
        BUY_LIMIT,
        changed(BUY_NOW, sl=0.0, tp=0.0),
        OrderSpec(action="pending", side="sell", type="limit", volume=0.1, price=1.1010),
        OrderSpec(action="pending", side="buy", type="stop", volume=0.1, price=1.1010),
        OrderSpec(action="pending", side="sell", type="stop", volume=0.1, price=1.0990),
        OrderSpec(action="pending", side="buy", type="stop_limit", volume=0.1, price=1.1010, stoplimit=1.1005),
        OrderSpec(action="pending", side="sell", type="stop_limit", volume=0.1, price=1.0990, stoplimit=1.0995),
        changed(BUY_LIMIT, expiration_ms=NOW_MS + 60_000),
        OrderSpec(action="modify_position", side="buy", sl=1.0950, tp=0.0),
        OrderSpec(action="modify_order", side="buy", type="limit", price=1.0980),
        OrderSpec(action="cancel"),
    ],
)
def test_sound_order_passes(spec: OrderSpec) -> None:
    check(spec)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"action": "hope"}, "action"),
        ({"side": "long"}, "side"),
        ({"type": "limit"}, "type"),
        ({"volume": 0.0}, "volume"),
        ({"volume": 0.005}, "volume"),
        ({"volume": 0.015}, "volume"),
        ({"volume": 100.01}, "volume"),
        ({"price": 1.100001}, "price"),
        ({"sl": 1.095001}, "sl"),
        ({"tp": 1.105001}, "tp"),
        ({"sl": 1.2}, "sl"),
        ({"tp": 1.0}, "tp"),
        ({"deviation_points": -1}, "deviation_points"),
        ({"deviation_points": 10**9}, "deviation_points"),
        ({"comment": "x" * 30}, "comment"),
        ({"comment": "tab\t"}, "comment"),
        ({"comment": "größe"}, "comment"),
        ({"expiration_ms": NOW_MS + 1000}, "expiration_ms"),
    ],
)
def test_market_order_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    assert refused_field(changed(BUY_NOW, **changes)) == field


@pytest.mark.parametrize("name", ["volume", "price", "stoplimit", "sl", "tp"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0, 1e308])
@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "cancel"])
def test_number_that_is_none_is_refused_in_every_action(name: str, value: float, action: str) -> None:
    spec = OrderSpec(action=action, type="limit" if action in {"pending", "modify_order"} else "market")
    assert refused_field(changed(spec, **{name: value})) == name


def test_distance_equal_to_the_stops_level_passes_and_a_point_less_does_not() -> None:
    at_level = round(BID - 10 * POINT, 5)
    check(changed(BUY_NOW, sl=at_level))
    assert refused_field(changed(BUY_NOW, sl=round(at_level + POINT, 5))) == "sl"
    check(changed(SELL_NOW, sl=round(ASK + 10 * POINT, 5)))
    assert refused_field(changed(SELL_NOW, sl=round(ASK + 9 * POINT, 5))) == "sl"
    check(changed(BUY_NOW, tp=round(BID + 10 * POINT, 5)))
    assert refused_field(changed(BUY_NOW, tp=round(BID + 9 * POINT, 5))) == "tp"


def test_without_a_stops_level_the_side_still_counts() -> None:
    free = variant(stops_level_points=0)
    check(changed(BUY_NOW, sl=round(BID - POINT, 5)), free)
    assert refused_field(changed(BUY_NOW, sl=BID), free) == "sl"


@pytest.mark.parametrize(
    ("side", "type_", "wrong"),
    [
        ("buy", "limit", 1.1010),
        ("sell", "limit", 1.0990),
        ("buy", "stop", 1.0990),
        ("sell", "stop", 1.1010),
        ("buy", "stop_limit", 1.0990),
        ("sell", "stop_limit", 1.1010),
    ],
)
def test_pending_price_on_the_wrong_side_is_refused(side: str, type_: str, wrong: float) -> None:
    spec = OrderSpec(action="pending", side=side, type=type_, volume=0.1, price=wrong, stoplimit=0.0)
    assert refused_field(spec) == "price"
    assert refused_field(changed(spec, price=0.0)) == "price"


@pytest.mark.parametrize(
    ("side", "price", "stoplimit"), [("buy", 1.1010, 1.1010), ("sell", 1.0990, 1.0989), ("buy", 1.1010, 0.0)]
)
def test_limit_of_a_stop_limit_must_lie_on_its_side(side: str, price: float, stoplimit: float) -> None:
    spec = OrderSpec(action="pending", side=side, type="stop_limit", volume=0.1, price=price, stoplimit=stoplimit)
    assert refused_field(spec) == "stoplimit"


def test_stoplimit_belongs_to_stop_limit_orders_only() -> None:
    assert refused_field(changed(BUY_LIMIT, stoplimit=1.0980)) == "stoplimit"


def test_stops_of_a_pending_order_count_from_its_own_price() -> None:
    assert refused_field(changed(BUY_LIMIT, sl=1.0995)) == "sl"
    assert refused_field(changed(BUY_LIMIT, tp=1.0985)) == "tp"
    check(changed(BUY_LIMIT, tp=1.0995))


@pytest.mark.parametrize(
    ("fields", "spec", "field"),
    [
        ({"trade_mode": int(TradeMode.DISABLED)}, BUY_NOW, "symbol"),
        ({"trade_mode": int(TradeMode.CLOSE_ONLY)}, BUY_NOW, "symbol"),
        ({"trade_mode": int(TradeMode.LONG_ONLY)}, SELL_NOW, "side"),
        ({"trade_mode": int(TradeMode.LONG_ONLY)}, BUY_NOW, None),
        ({"trade_mode": int(TradeMode.SHORT_ONLY)}, BUY_NOW, "side"),
        ({"order_mask": int(OrderFlag.ALL & ~OrderFlag.MARKET)}, BUY_NOW, "type"),
        ({"order_mask": int(OrderFlag.ALL & ~OrderFlag.LIMIT)}, BUY_LIMIT, "type"),
        ({"order_mask": int(OrderFlag.ALL & ~OrderFlag.SL)}, BUY_NOW, "sl"),
        ({"order_mask": int(OrderFlag.ALL & ~OrderFlag.TP)}, BUY_NOW, "tp"),
        ({"expiration_mask": int(ExpirationFlag.SPECIFIED)}, BUY_LIMIT, "expiration_ms"),
    ],
)
def test_what_the_broker_does_not_offer_is_refused(
    fields: dict[str, object], spec: OrderSpec, field: str | None
) -> None:
    assert refused_field(spec, variant(**fields)) == field


def test_expiration_must_lie_ahead_and_be_offered() -> None:
    assert refused_field(changed(BUY_LIMIT, expiration_ms=NOW_MS)) == "expiration_ms"
    assert refused_field(changed(BUY_LIMIT, expiration_ms=EXPIRATION_MAX_MS + 1)) == "expiration_ms"
    timed = changed(BUY_LIMIT, expiration_ms=NOW_MS + 1)
    check(timed)
    assert refused_field(timed, variant(expiration_mask=int(ExpirationFlag.GTC))) == "expiration_ms"


@pytest.mark.parametrize(("bid", "ask"), [(0.0, 0.0), (float("nan"), 1.1), (1.1, float("inf"))])
def test_exposure_needs_a_current_price_and_closing_does_not(bid: float, ask: float) -> None:
    for spec in (BUY_NOW, BUY_LIMIT):
        with pytest.raises(OrderInvalid) as refusal:
            validate(spec, EURUSD, now_ms=NOW_MS, bid=bid, ask=ask)
        assert refusal.value.field == "symbol"
    validate(OrderSpec(action="close"), EURUSD, now_ms=NOW_MS, bid=bid, ask=ask, position_volume=0.1)
    validate(OrderSpec(action="modify_position", sl=1.0), EURUSD, now_ms=NOW_MS, bid=bid, ask=ask)


@pytest.mark.parametrize(
    ("volume", "fits"),
    [(0.0, True), (0.25, True), (0.24, True), (0.1, True), (0.26, False), (0.105, False), (0.005, False)],
)
def test_close_is_held_to_the_position(volume: float, fits: bool) -> None:
    field = refused_field(OrderSpec(action="close", volume=volume), position_volume=0.25)
    assert field == (None if fits else "volume")


def test_close_may_not_leave_less_than_the_least_volume() -> None:
    coarse = variant(volume_min=0.1, volume_step=0.01)
    assert refused_field(OrderSpec(action="close", volume=0.2), coarse, position_volume=0.25) == "volume"
    assert refused_field(OrderSpec(action="close", volume=0.15), coarse, position_volume=0.25) is None


def test_whole_position_can_be_closed_though_the_specification_changed() -> None:
    changed_since = variant(volume_step=0.1, volume_min=0.1, trade_mode=int(TradeMode.CLOSE_ONLY))
    assert refused_field(OrderSpec(action="close", volume=0.25), changed_since, position_volume=0.25) is None


@given(comment=st.text(max_size=40))
def test_comment_passes_exactly_when_the_terminal_can_carry_it(comment: str) -> None:
    fits = len(comment) <= COMMENT_MAX_LENGTH and comment.isascii() and (comment.isprintable() or not comment)
    assert (refused_field(changed(BUY_NOW, comment=comment)) is None) == fits


prices = st.floats(1.0, 1.2).map(lambda price: round_price(EURUSD, price))


@given(side=st.sampled_from(["buy", "sell"]), sl=prices, tp=prices)
def test_accepted_stops_would_lose_and_win_as_their_names_say(side: str, sl: float, tp: float) -> None:
    spec = OrderSpec(action="open", side=side, volume=0.1, sl=sl, tp=tp)
    if refused_field(spec) is None:
        assert (sl < BID and tp > ASK - 8 * POINT) if side == "buy" else (sl > ASK and tp < BID + 8 * POINT)


words = st.one_of(st.sampled_from([*ACTIONS, "buy", "sell", "market", "limit", "stop", "stop_limit"]), st.text())
numbers = st.one_of(st.floats(), st.sampled_from([0.0, 0.1, 1.1, 1.0990]))


@given(
    action=words,
    side=words,
    type_=words,
    volume=numbers,
    price=numbers,
    stoplimit=numbers,
    sl=numbers,
    tp=numbers,
    deviation=st.integers(),
    expiration=st.integers(),
)
def test_anything_whatever_passes_or_is_refused_by_name(
    action: str,
    side: str,
    type_: str,
    volume: float,
    price: float,
    stoplimit: float,
    sl: float,
    tp: float,
    deviation: int,
    expiration: int,
) -> None:
    spec = OrderSpec(
        action=action,
        side=side,
        type=type_,
        volume=volume,
        price=price,
        stoplimit=stoplimit,
        sl=sl,
        tp=tp,
        deviation_points=deviation,
        expiration_ms=expiration,
    )
    assert refused_field(spec, position_volume=1.0) in {None, "symbol", *OrderSpec.__struct_fields__}
