"""The symbols of the terminal that programs written for MetaTrader 5 meet: those their authors are used to."""

from __future__ import annotations

from typing import Any, Final

from paper_terminal.constants import (
    SYMBOL_CALC_MODE_CFD,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_SWAP_MODE_INTEREST_CURRENT,
    SYMBOL_TRADE_EXECUTION_INSTANT,
)
from paper_terminal.specifications import Specification

# The documented samples of a demonstration server: Instant execution, the mask FOK, every order type.
_DEMO: Final[dict[str, Any]] = {
    "exemode": SYMBOL_TRADE_EXECUTION_INSTANT,
    "filling_mode": 1,
    "order_mode": 127,
    "book_depth": 10,
}


def _pair(name: str, description: str, price: float, *, long: float, short: float) -> Specification:
    digits = 3 if name.endswith("JPY") else 5
    return Specification(
        name=name,
        description=description,
        group="Forex",
        currency_base=name[:3],
        currency_profit=name[3:],
        digits=digits,
        swap_long=long,
        swap_short=short,
        synthetic_price=price,
        volume_max=500.0,
        **_DEMO,
    )


def _metal(name: str, description: str, price: float, *, digits: int, contract: float) -> Specification:
    return Specification(
        name=name,
        description=description,
        group="Metals",
        currency_base=name[:3],
        currency_profit="USD",
        currency_margin="USD",
        digits=digits,
        contract_size=contract,
        calc_mode=SYMBOL_CALC_MODE_CFDLEVERAGE,
        swap_long=-38.0,
        swap_short=12.0,
        synthetic_price=price,
        volume_max=50.0,
        **_DEMO,
    )


def _cfd(
    name: str,
    description: str,
    price: float,
    *,
    group: str,
    currency: str = "USD",
    digits: int = 2,
    step: float = 0.01,
    least: float = 0.01,
    contract: float = 1.0,
) -> Specification:
    shares = group == "Stocks"
    return Specification(
        name=name,
        description=description,
        group=group,
        currency_base=currency,
        currency_profit=currency,
        digits=digits,
        contract_size=contract,
        calc_mode=SYMBOL_CALC_MODE_CFD if shares else SYMBOL_CALC_MODE_CFDLEVERAGE,
        swap_mode=SYMBOL_SWAP_MODE_INTEREST_CURRENT,
        swap_long=-7.0,
        swap_short=2.0,
        swap_rollover3days=5,
        synthetic_price=price,
        volume_min=least,
        volume_step=step,
        volume_max=10_000.0 if shares else 500.0,
        **_DEMO,
    )


DEMO_SPECIFICATIONS: Final = (
    _pair("EURUSD", "Euro vs US Dollar", 1.10, long=-6.4, short=2.1),
    _pair("GBPUSD", "Great Britain Pound vs US Dollar", 1.28, long=-3.2, short=-1.4),
    _pair("USDCHF", "US Dollar vs Swiss Franc", 0.88, long=4.1, short=-9.2),
    _pair("USDJPY", "US Dollar vs Japanese Yen", 150.0, long=9.7, short=-21.3),
    _pair("USDCAD", "US Dollar vs Canadian Dollar", 1.36, long=0.6, short=-5.1),
    _pair("AUDUSD", "Australian Dollar vs US Dollar", 0.66, long=-2.8, short=0.2),
    _pair("NZDUSD", "New Zealand Dollar vs US Dollar", 0.61, long=-1.9, short=-0.6),
    _pair("EURGBP", "Euro vs Great Britain Pound", 0.86, long=-4.4, short=1.2),
    _pair("EURJPY", "Euro vs Japanese Yen", 165.0, long=6.2, short=-17.9),
    _pair("EURCHF", "Euro vs Swiss Franc", 0.97, long=1.8, short=-6.0),
    _pair("EURAUD", "Euro vs Australian Dollar", 1.66, long=-8.0, short=2.3),
    _pair("EURCAD", "Euro vs Canadian Dollar", 1.49, long=-5.5, short=0.9),
    _pair("GBPJPY", "Great Britain Pound vs Japanese Yen", 192.0, long=13.0, short=-28.0),
    _pair("GBPCHF", "Great Britain Pound vs Swiss Franc", 1.13, long=5.4, short=-12.2),
    _pair("AUDJPY", "Australian Dollar vs Japanese Yen", 99.0, long=4.0, short=-11.0),
    _pair("CADJPY", "Canadian Dollar vs Japanese Yen", 110.0, long=4.2, short=-11.5),
    _pair("CHFJPY", "Swiss Franc vs Japanese Yen", 170.0, long=-1.5, short=-7.0),
    _pair("AUDNZD", "Australian Dollar vs New Zealand Dollar", 1.08, long=-2.1, short=-1.0),
    _pair("AUDCAD", "Australian Dollar vs Canadian Dollar", 0.90, long=-1.2, short=-2.0),
    _pair("GBPAUD", "Great Britain Pound vs Australian Dollar", 1.93, long=-2.3, short=-3.9),
    _pair("GBPCAD", "Great Britain Pound vs Canadian Dollar", 1.74, long=-0.4, short=-5.2),
    _pair("GBPNZD", "Great Britain Pound vs New Zealand Dollar", 2.09, long=-4.2, short=-3.0),
    _pair("EURNZD", "Euro vs New Zealand Dollar", 1.80, long=-9.1, short=1.7),
    _pair("AUDCHF", "Australian Dollar vs Swiss Franc", 0.58, long=2.0, short=-5.6),
    _pair("NZDCAD", "New Zealand Dollar vs Canadian Dollar", 0.83, long=-0.5, short=-2.6),
    _pair("NZDCHF", "New Zealand Dollar vs Swiss Franc", 0.54, long=2.1, short=-5.4),
    _pair("NZDJPY", "New Zealand Dollar vs Japanese Yen", 91.0, long=4.4, short=-11.2),
    _pair("CADCHF", "Canadian Dollar vs Swiss Franc", 0.65, long=1.9, short=-5.7),
    _pair("USDSGD", "US Dollar vs Singapore Dollar", 1.34, long=-0.8, short=-6.2),
    _pair("USDCNH", "US Dollar vs Offshore Chinese Yuan", 7.2, long=-3.1, short=-12.0),
    _pair("USDMXN", "US Dollar vs Mexican Peso", 18.5, long=-160.0, short=60.0),
    _pair("USDZAR", "US Dollar vs South African Rand", 18.2, long=-95.0, short=30.0),
    _pair("USDTRY", "US Dollar vs Turkish Lira", 32.5, long=-900.0, short=150.0),
    _pair("USDSEK", "US Dollar vs Swedish Krona", 10.5, long=-9.0, short=-22.0),
    _pair("USDNOK", "US Dollar vs Norwegian Krone", 10.7, long=-11.0, short=-20.0),
    _pair("USDRUB", "US Dollar vs Russian Ruble", 90.0, long=-90.0, short=20.0),
    _metal("XAUUSD", "Gold vs US Dollar", 2400.0, digits=2, contract=100.0),
    _metal("XAGUSD", "Silver vs US Dollar", 28.0, digits=3, contract=5000.0),
    _cfd("US30", "Dow Jones Industrial", 39_000.0, group="Indices", digits=1, step=0.1, least=0.1),
    _cfd("US500", "S&P 500", 5300.0, group="Indices", digits=1, step=0.1, least=0.1),
    _cfd("NAS100", "Nasdaq 100", 18_500.0, group="Indices", digits=1, step=0.1, least=0.1),
    _cfd("USTEC", "US Tech 100", 18_500.0, group="Indices", digits=1, step=0.1, least=0.1),
    _cfd("DE40", "DAX", 18_200.0, group="Indices", currency="EUR", digits=1, step=0.1, least=0.1),
    _cfd("GER40", "Germany 40", 18_200.0, group="Indices", currency="EUR", digits=1, step=0.1, least=0.1),
    _cfd("UK100", "FTSE 100", 8200.0, group="Indices", currency="GBP", digits=1, step=0.1, least=0.1),
    _cfd("JP225", "Nikkei 225", 38_500.0, group="Indices", currency="JPY", digits=0, step=0.1, least=0.1),
    _cfd("XTIUSD", "Crude Oil WTI vs US Dollar", 78.0, group="Energies", digits=2, contract=1000.0),
    _cfd("XBRUSD", "Crude Oil Brent vs US Dollar", 82.0, group="Energies", digits=2, contract=1000.0),
    _cfd("BTCUSD", "Bitcoin vs US Dollar", 65_000.0, group="Crypto", digits=2),
    _cfd("ETHUSD", "Ethereum vs US Dollar", 3300.0, group="Crypto", digits=2),
    _cfd("LTCUSD", "Litecoin vs US Dollar", 80.0, group="Crypto", digits=2),
    _cfd("XRPUSD", "Ripple vs US Dollar", 0.6, group="Crypto", digits=5, contract=1000.0),
    _cfd("AAPL", "Apple Inc.", 190.0, group="Stocks", step=1.0, least=1.0),
    _cfd("MSFT", "Microsoft Corp.", 420.0, group="Stocks", step=1.0, least=1.0),
    _cfd("AMZN", "Amazon.com Inc.", 180.0, group="Stocks", step=1.0, least=1.0),
    _cfd("GOOG", "Alphabet Inc.", 170.0, group="Stocks", step=1.0, least=1.0),
    _cfd("NVDA", "NVIDIA Corp.", 125.0, group="Stocks", step=1.0, least=1.0),
    _cfd("TSLA", "Tesla Inc.", 210.0, group="Stocks", step=1.0, least=1.0),
)
"""The 28 pairs of the eight major currencies and some more, metals, indices, oil, coins and shares.

By their usual plain names; an index that has two, under both.
"""
