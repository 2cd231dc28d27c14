"""The result types of the MetaTrader5 package: tuples with named, read-only fields.

The real ones are C struct sequences that claim the module `builtins`: they compare equal to plain tuples, have
`_asdict()` (not recursive) but none of a namedtuple's other helpers, and cannot be pickled. These behave alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Self


class StructSequence(tuple[Any, ...]):
    """A tuple of named fields; made only through its subclasses."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()
    n_fields = 0
    n_sequence_fields = 0
    n_unnamed_fields = 0

    def __init_subclass__(cls) -> None:
        base = cls.__bases__[0]
        if base is not StructSequence:
            raise TypeError(f"type '{base.__name__}' is not an acceptable base type")

    def __new__(cls, sequence: Iterable[Any], dict: dict[str, Any] | None = None) -> Self:  # noqa: A002  # C's name
        """Make one from a sequence of exactly `n_fields` values; `dict` is for hidden fields, of which there are none.

        Raises:
            TypeError: `sequence` has another number of values, or is none.
        """
        if not isinstance(sequence, Iterable):
            raise TypeError("constructor requires a sequence")
        if not isinstance(dict, Mapping | None):
            raise TypeError(f"{cls.__name__}() takes a dict as second arg, if any")
        values = tuple(sequence)
        if len(values) != cls.n_fields:
            raise TypeError(f"{cls.__name__}() takes a {cls.n_fields}-sequence ({len(values)}-sequence given)")
        return super().__new__(cls, values)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), {})

    if sys.version_info >= (3, 13):

        def __replace__(self, /, **changes: Any) -> Self:
            """Return a copy with some fields changed, for `copy.replace`."""
            unknown = changes.keys() - set(self.__match_args__)
            if unknown:
                raise TypeError(f"Got unexpected field name(s): {sorted(unknown)}")
            return type(self)([changes.get(name, value) for name, value in self._asdict().items()])

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self.__match_args__, self, strict=True))
        return f"{type(self).__name__}({pairs})"

    def _asdict(self) -> dict[str, Any]:
        """Return the fields in order; a nested request stays a TradeRequest."""
        return dict(zip(self.__match_args__, self, strict=True))


def _struct(name: str, fields: str) -> type[StructSequence]:
    names = tuple(fields.split())
    body: dict[str, Any] = {field: property(itemgetter(index)) for index, field in enumerate(names)}
    body |= {
        "__slots__": (),
        "__module__": "builtins",  # as the real ones claim; it is what makes pickling fail
        "__match_args__": names,
        "n_fields": len(names),
        "n_sequence_fields": len(names),
    }
    return type(name, (StructSequence,), body)


def is_struct(value: object) -> bool:
    """Tell whether a value is one of the package's result types."""
    return isinstance(value, type) and issubclass(value, StructSequence) and value is not StructSequence


AccountInfo = _struct(
    "AccountInfo",
    """
    login trade_mode leverage limit_orders margin_so_mode trade_allowed trade_expert margin_mode
    currency_digits fifo_close balance credit profit equity margin margin_free margin_level
    margin_so_call margin_so_so margin_initial margin_maintenance assets liabilities commission_blocked
    name server currency company
    """,
)
BookInfo = _struct(
    "BookInfo",
    """
    type price volume volume_dbl
    """,
)
OrderCheckResult = _struct(
    "OrderCheckResult",
    """
    retcode balance equity profit margin margin_free margin_level comment request
    """,
)
OrderSendResult = _struct(
    "OrderSendResult",
    """
    retcode deal order volume price bid ask comment request_id retcode_external request
    """,
)
SymbolInfo = _struct(
    "SymbolInfo",
    """
    custom chart_mode select visible session_deals session_buy_orders session_sell_orders volume
    volumehigh volumelow time digits spread spread_float ticks_bookdepth trade_calc_mode trade_mode
    start_time expiration_time trade_stops_level trade_freeze_level trade_exemode swap_mode
    swap_rollover3days margin_hedged_use_leg expiration_mode filling_mode order_mode order_gtc_mode
    option_mode option_right bid bidhigh bidlow ask askhigh asklow last lasthigh lastlow volume_real
    volumehigh_real volumelow_real option_strike point trade_tick_value trade_tick_value_profit
    trade_tick_value_loss trade_tick_size trade_contract_size trade_accrued_interest trade_face_value
    trade_liquidity_rate volume_min volume_max volume_step volume_limit swap_long swap_short
    margin_initial margin_maintenance session_volume session_turnover session_interest
    session_buy_orders_volume session_sell_orders_volume session_open session_close session_aw
    session_price_settlement session_price_limit_min session_price_limit_max margin_hedged price_change
    price_volatility price_theoretical price_greeks_delta price_greeks_theta price_greeks_gamma
    price_greeks_vega price_greeks_rho price_greeks_omega price_sensitivity basis category currency_base
    currency_profit currency_margin bank description exchange formula isin name page path
    """,
)
TerminalInfo = _struct(
    "TerminalInfo",
    """
    community_account community_connection connected dlls_allowed trade_allowed tradeapi_disabled
    email_enabled ftp_enabled notifications_enabled mqid build maxbars codepage ping_last
    community_balance retransmission company name language path data_path commondata_path
    """,
)
Tick = _struct(
    "Tick",
    """
    time bid ask last volume time_msc flags volume_real
    """,
)
TradeDeal = _struct(
    "TradeDeal",
    """
    ticket order time time_msc type entry magic position_id reason volume price commission swap profit
    fee symbol comment external_id
    """,
)
TradeOrder = _struct(
    "TradeOrder",
    """
    ticket time_setup time_setup_msc time_done time_done_msc time_expiration type type_time type_filling
    state magic position_id position_by_id reason volume_initial volume_current price_open sl tp
    price_current price_stoplimit symbol comment external_id
    """,
)
TradePosition = _struct(
    "TradePosition",
    """
    ticket time time_msc time_update time_update_msc type magic identifier reason volume price_open sl
    tp price_current swap profit symbol comment external_id
    """,
)
TradeRequest = _struct(
    "TradeRequest",
    """
    action magic order symbol volume price stoplimit sl tp deviation type type_filling type_time
    expiration comment position position_by
    """,
)
