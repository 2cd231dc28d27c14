"""Symbol matching: by currencies, tradability and decoration, and never by a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import BrokerSymbol, SymbolAmbiguousError, SymbolNotFoundError, TradeMode, match_symbol


def fx(name: str, *, mode: TradeMode = TradeMode.FULL, path: str = "Forex") -> BrokerSymbol:
    return BrokerSymbol(name, "EUR", "USD", int(mode), f"{path}\\{name}")


def stock(name: str) -> BrokerSymbol:
    return BrokerSymbol(name, "USD", "USD", int(TradeMode.FULL), f"Stocks\\{name}")


def found(canonical: str, *offered: BrokerSymbol, **kwargs: object) -> str:
    return match_symbol(canonical, offered, **kwargs).name  # type: ignore[arg-type]


OTHERS = (BrokerSymbol("GBPUSD.m", "GBP", "USD"), BrokerSymbol("EURUSDT", "EUR", "UST"), stock("#MSFT"))


@pytest.mark.parametrize(
    "name", ["EURUSD", "EURUSD.m", "EURUSDm", "EURUSDpro", "EURUSD.x", "EURUSDECN", "EURUSD_SB", "mEURUSD", "#EURUSD"]
)
def test_usual_decorations_are_seen_through(name: str) -> None:
    assert found("EURUSD", *OTHERS, fx(name)) == name


@pytest.mark.parametrize("name", ["#AAPL", "AAPL.US", "AAPL", "AAPL_CFD", "AAPLm"])
def test_stocks_are_found(name: str) -> None:
    assert found("AAPL", *OTHERS, stock(name), stock("AAPLX")) == name


@pytest.mark.parametrize(
    ("canonical", "offered"),
    [
        ("AAPL", stock("AAPLX")),
        ("US30", stock("US300")),
        ("US30", stock("AUS30")),
        ("EURUSD", BrokerSymbol("EURUSDT", "EUR", "UST")),
        ("EURUSD", BrokerSymbol("EURUSDT")),
        ("EURUSD", BrokerSymbol("EURUSD.fut", "USD", "USD")),
        ("EURUSD", fx("EURUSD1")),
        ("EURUSD", stock("#MSFT")),
        ("", fx("EURUSD")),
    ],
)
def test_other_symbols_are_not_taken_for_it(canonical: str, offered: BrokerSymbol) -> None:
    with pytest.raises(SymbolNotFoundError, match="symbol map"):
        found(canonical, offered)


def test_six_letters_that_are_no_currencies_are_an_ordinary_name() -> None:
    assert found("NATGAS", stock("NATGAS.c")) == "NATGAS.c"


def test_metal_with_the_quote_currency_as_base_is_accepted() -> None:
    assert found("XAUUSD", BrokerSymbol("XAUUSDm", "USD", "USD")) == "XAUUSDm"
    assert found("XAUUSD", BrokerSymbol("XAUUSDm", "XAU", "USD")) == "XAUUSDm"


def test_tradable_symbol_comes_before_the_bare_name() -> None:
    assert found("EURUSD", fx("EURUSD", mode=TradeMode.DISABLED), fx("EURUSD.m")) == "EURUSD.m"
    assert found("EURUSD", fx("EURUSD.pro", mode=TradeMode.CLOSE_ONLY), fx("EURUSDm")) == "EURUSDm"
    assert found("EURUSD", fx("EURUSD", mode=TradeMode.DISABLED), fx("EURUSD.mm", mode=TradeMode.LONG_ONLY)) == (
        "EURUSD.mm"
    )


def test_least_decorated_wins() -> None:
    assert found("EURUSD", fx("EURUSD.pro"), fx("EURUSD.m"), fx("EURUSD")) == "EURUSD"


def test_preferred_path_comes_before_less_decoration() -> None:
    offered = fx("EURUSDm", path="Forex Cent"), fx("EURUSD.raw", path="Forex Raw")
    assert found("EURUSD", *offered, preferred_path="Forex Raw") == "EURUSD.raw"
    assert found("EURUSD", *offered) == "EURUSDm"


def test_equal_candidates_are_listed_not_chosen() -> None:
    with pytest.raises(SymbolAmbiguousError, match="symbol map") as ambiguous:
        found("EURUSD", fx("EURUSD.b"), fx("EURUSD.a"), fx("EURUSD.pro"))
    assert ambiguous.value.candidates == ("EURUSD.a", "EURUSD.b")


def test_users_choice_wins_and_must_exist() -> None:
    offered = fx("EURUSD"), fx("EURUSD.b"), fx("Euro")
    assert found("EURUSD", *offered, explicit={"EURUSD": "Euro"}) == "Euro"
    assert found("EURUSD", *offered, explicit={"GBPUSD": "Pound"}) == "EURUSD"
    with pytest.raises(SymbolNotFoundError, match=r"mapped to 'EURUSD\.z'"):
        found("EURUSD", *offered, explicit={"EURUSD": "EURUSD.z"})


@given(
    suffixes=st.lists(st.text(alphabet="abm._-#", max_size=4), min_size=1, max_size=6, unique=True),
    seed=st.randoms(use_true_random=False),
)
def test_answer_does_not_depend_on_the_order_of_the_list(suffixes: list[str], seed: object) -> None:
    def answer(offered: list[BrokerSymbol]) -> object:
        try:
            return match_symbol("EURUSD", offered)
        except SymbolAmbiguousError as ambiguous:
            return ambiguous.candidates

    offered = [fx("EURUSD" + suffix) for suffix in suffixes]
    shuffled = list(offered)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert answer(shuffled) == answer(offered)
