"""Every function's calling rules, without a terminal: kinds of arguments, values of failure, last_error."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import sys
import types
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import paper_terminal.client as mt5_module
from paper_terminal import structs

mt5: Any = mt5_module

NO_CONNECTION = (-10004, "No IPC connection")
INVALID = (-2, "Invalid arguments")
POSITIONAL: dict[str, tuple[Any, ...]] = {
    "symbol_info": ("EURUSD",),
    "symbol_info_tick": ("EURUSD",),
    "symbol_select": ("EURUSD", True),
    "market_book_add": ("EURUSD",),
    "market_book_get": ("EURUSD",),
    "market_book_release": ("EURUSD",),
    "copy_ticks_from": ("EURUSD", 1, 1, -1),
    "copy_ticks_range": ("EURUSD", 1, 2, -1),
    "copy_rates_from": ("EURUSD", 1, 1, 1),
    "copy_rates_from_pos": ("EURUSD", 1, 0, 1),
    "copy_rates_range": ("EURUSD", 1, 1, 2),
    "history_orders_total": (1, 2),
    "history_deals_total": (1, 2),
    "order_calc_margin": (0, "EURUSD", 1.0, 1.0),
    "order_calc_profit": (0, "EURUSD", 1.0, 1.0, 1.0),
}
"""Positional-only functions, with arguments that pass the client."""
ON_FAILURE: dict[str, Any] = {"symbol_select": False, "market_book_add": False, "market_book_release": False}
"""What they return without a terminal, where that is not None."""
ON_BAD_ARGUMENT: dict[str, Any] = {"symbol_select": False}


@pytest.fixture(autouse=True)
def _no_connection() -> None:
    mt5.shutdown()


@pytest.mark.parametrize("name", POSITIONAL)
def test_a_positional_function_without_a_terminal(name: str) -> None:
    result = getattr(mt5, name)(*POSITIONAL[name])
    assert result is ON_FAILURE.get(name)
    expected = (1, "Success") if name.startswith("market_book_") and name != "market_book_get" else NO_CONNECTION
    assert mt5.last_error() == expected


@pytest.mark.parametrize("name", POSITIONAL)
def test_a_positional_function_counts_its_arguments(name: str) -> None:
    function, arguments = getattr(mt5, name), POSITIONAL[name]
    fewest = 1 if name == "symbol_select" else len(arguments)
    for wrong in (arguments[: fewest - 1], (*arguments, 1)):
        assert function(*wrong) is ON_BAD_ARGUMENT.get(name)
        assert mt5.last_error() == INVALID


@pytest.mark.parametrize("name", [name for name, arguments in POSITIONAL.items() if "EURUSD" in arguments])
@pytest.mark.parametrize("symbol", [5, None, b"EURUSD", "x" * 30, "x" * 28 + "\N{GRINNING FACE}"])
def test_a_bad_symbol_is_refused_plainly(name: str, symbol: object) -> None:
    arguments = [symbol if each == "EURUSD" else each for each in POSITIONAL[name]]
    assert getattr(mt5, name)(*arguments) is ON_BAD_ARGUMENT.get(name)
    assert mt5.last_error() == INVALID


def test_the_longest_symbol_passes() -> None:
    for symbol in ("x" * 29, "x" * 27 + "\N{GRINNING FACE}"):
        assert mt5.symbol_info(symbol) is None
        assert mt5.last_error() == NO_CONNECTION


def test_no_keyword_is_taken_where_none_is_and_nothing_changes() -> None:
    mt5.symbol_info(5)
    for name in POSITIONAL:
        with pytest.raises(TypeError, match="takes no keyword arguments"):
            getattr(mt5, name)(symbol="EURUSD")
    assert mt5.last_error() == INVALID, "a call that Python refuses never gets to the function"


# Numbers and dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "cause"),
    [
        ("copy_rates_from_pos", ("EURUSD", 1, 0, 5.0), TypeError),
        ("copy_rates_from_pos", ("EURUSD", 1, "0", 5), TypeError),
        ("copy_rates_from_pos", ("EURUSD", None, 0, 5), TypeError),
        ("copy_rates_from_pos", ("EURUSD", 1, 0, 2**31), OverflowError),
        ("copy_ticks_from", ("EURUSD", 1, 5, -(2**31) - 1), OverflowError),
        ("copy_ticks_from", ("EURUSD", 1_700_000_000_000, 5, -1), OverflowError),
        ("copy_rates_range", ("EURUSD", 1, 1, 2**31), OverflowError),
        ("history_deals_total", (1, 1_700_000_000_000), OverflowError),
        ("order_calc_margin", ("0", "EURUSD", 1.0, 1.0), TypeError),
        ("order_calc_margin", (0, "EURUSD", "1", 1.0), TypeError),
        ("order_calc_margin", (0, "EURUSD", bytearray(b"1"), 1.0), TypeError),
        ("order_calc_profit", (0, "EURUSD", 1.0, 1.0, None), TypeError),
        ("order_calc_profit", (0, "EURUSD", 1.0, 1.0, 10**400), OverflowError),
    ],
)
def test_a_wrong_number_surfaces_as_python_words_it(name: str, arguments: tuple[Any, ...], cause: type) -> None:
    with pytest.raises(SystemError) as caught:
        getattr(mt5, name)(*arguments)
    assert str(caught.value) == f"<built-in function {name}> returned a result with an exception set"
    assert type(caught.value.__cause__) is cause
    assert mt5.last_error()[0] == -2


@pytest.mark.parametrize("name", ["positions_get", "orders_get", "history_orders_get", "history_deals_get"])
@pytest.mark.parametrize("ticket", [-1, 2**64])
def test_a_ticket_out_of_range_surfaces_too(name: str, ticket: int) -> None:
    with pytest.raises(SystemError) as caught:
        getattr(mt5, name)(ticket=ticket)
    assert type(caught.value.__cause__) is OverflowError


def test_numbers_of_numpy_are_taken_where_c_takes_them() -> None:
    assert mt5.copy_rates_from_pos("EURUSD", np.int32(1), np.uint8(0), np.int64(5)) is None
    assert mt5.last_error() == NO_CONNECTION
    assert mt5.order_calc_margin(np.int64(0), "EURUSD", 1, np.float32(1.5)) is None
    assert mt5.last_error() == NO_CONNECTION
    assert mt5.positions_get(ticket=np.int64(5)) is None
    assert mt5.last_error() == (-2, 'Invalid "ticket" argument')


class Late(datetime):
    """A datetime whose timestamp cannot be had, as a naive one before 1970 on Windows."""

    def timestamp(self) -> float:
        raise OSError(22, "Invalid argument")


def test_dates_of_every_kind() -> None:
    pd = pytest.importorskip("pandas")
    naive, late = datetime(2026, 1, 1), datetime(2100, 1, 1, tzinfo=UTC)  # noqa: DTZ001
    good: list[Any] = [1, 1.5, True, np.float64(5), naive, late, pd.Timestamp("2026-01-01"), math.nan, math.inf, -1]
    for date in good:
        assert mt5.copy_ticks_from("EURUSD", date, 1, -1) is None
        assert mt5.last_error() == NO_CONNECTION, date
    bad: list[Any] = ["2026-01-01", late.date(), np.datetime64("2026-01-01"), None, np.int64(5)]
    for date in bad:
        for function, arguments in (
            (mt5.copy_ticks_range, ("EURUSD", 1, date, -1)),
            (mt5.copy_rates_from, ("EURUSD", 1, date, 1)),
            (mt5.history_orders_total, (date, 1)),
            (mt5.history_deals_get, (1, date)),
        ):
            assert function(*arguments) is None
            assert mt5.last_error() == INVALID, date
    for wrong, cause in ((Late(1960, 1, 1), OSError), (pd.NaT, ValueError)):
        with pytest.raises(SystemError) as caught:
            mt5.history_deals_get(wrong, 1)
        assert type(caught.value.__cause__) is cause


# Keywords ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["positions_get", "orders_get"])
def test_what_is_open_is_asked_for_by_keyword(name: str) -> None:
    function = getattr(mt5, name)
    for keywords, error in (
        ({}, NO_CONNECTION),
        ({"nonsense": 1}, NO_CONNECTION),
        ({"ticket": 5, "symbol": 1, "group": 1}, NO_CONNECTION),
        ({"symbol": "EURUSD", "group": 1}, NO_CONNECTION),
        ({"ticket": 5.0}, (-2, 'Invalid "ticket" argument')),
        ({"ticket": None}, (-2, 'Invalid "ticket" argument')),
        ({"symbol": None}, (-2, 'Invalid "symbol" argument')),
        ({"symbol": "x" * 30}, (-2, 'Invalid "symbol" argument')),
        ({"group": 5}, (-2, 'Invalid "group" argument')),
        ({"group": "x" * 1998}, (-2, 'Invalid "group" argument')),
        ({"group": "x" * 1997}, NO_CONNECTION),
    ):
        assert function(**keywords) is None
        assert mt5.last_error() == error, keywords
    assert function("EURUSD", ticket=1) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")


@pytest.mark.parametrize("name", ["history_orders_get", "history_deals_get"])
def test_history_is_asked_for_by_dates_or_one_number(name: str) -> None:
    function = getattr(mt5, name)
    for positional, keywords, error in (
        ((1, 2), {}, NO_CONNECTION),
        ((1, 2), {"group": "*"}, NO_CONNECTION),
        ((1, 2), {"group": 5}, (-2, 'Invalid "group" argument')),
        ((1, 2), {"ticket": "x", "position": "y"}, NO_CONNECTION),
        ((), {"ticket": 1, "position": "y"}, NO_CONNECTION),
        ((), {"position": 1}, NO_CONNECTION),
        ((), {"ticket": "1"}, (-2, 'Invalid "ticket" argument')),
        ((), {"position": 1.0}, (-2, 'Invalid "position" argument')),
        ((), {"group": "*"}, INVALID),
        ((), {"date_from": 1, "date_to": 2}, INVALID),
        ((), {}, INVALID),
        ((1,), {}, INVALID),
        ((1, 2, 3), {}, INVALID),
    ):
        assert function(*positional, **keywords) is None
        assert mt5.last_error() == error, (positional, keywords)


def test_symbols_get_fails_as_none_but_false_on_a_bad_argument() -> None:
    for positional, keywords, result, error in (
        ((), {}, None, NO_CONNECTION),
        (("*USD*",), {}, None, NO_CONNECTION),
        ((), {"group": "*USD*", "other": 1}, None, NO_CONNECTION),
        ((5,), {}, False, (-2, "Invalid 1st unnamed argument")),
        ((), {"group": None}, False, (-2, 'Invalid "group" argument')),
        (("x" * 1998,), {}, False, (-2, 'Invalid "group" argument')),
        (("*", "*"), {}, False, (-2, "Invalid number of arguments")),
    ):
        assert mt5.symbols_get(*positional, **keywords) is result
        assert mt5.last_error() == error, (positional, keywords)


@pytest.mark.parametrize("name", ["order_check", "order_send"])
def test_a_request_is_one_dict_or_its_fields(name: str) -> None:
    function = getattr(mt5, name)
    for positional, keywords, error in (
        (({"action": 1},), {}, NO_CONNECTION),
        ((), {"action": 1, "volume": 0.1}, NO_CONNECTION),
        (({"action": True, "price": np.float64(1), "stop_loss": 5},), {}, NO_CONNECTION),
        (({1: 2},), {}, NO_CONNECTION),
        ((), {}, (-2, "Invalid number of arguments")),
        (({}, {}), {}, (-2, "Invalid number of arguments")),
        (([("action", 1)],), {}, (-2, "Invalid 1st unnamed argument")),
        ((None,), {}, (-2, "Invalid 1st unnamed argument")),
        (({"action": 1},), {"volume": 0.1}, (-2, "Unnamed arguments not allowed")),
    ):
        assert (function(*positional, **keywords) if keywords else function(*positional)) is None
        assert mt5.last_error() == error, (positional, keywords)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a C function is handed no empty dict from Python 3.14 on")
def test_an_empty_dict_handed_on_counts_as_keywords() -> None:
    nothing: dict[str, Any] = {}
    assert mt5.order_send(*({"action": 1},), **nothing) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    for function in (mt5.symbols_get, mt5.positions_get, mt5.initialize, mt5.login):
        function(*(), **nothing)
        assert mt5.last_error()[0] != 1
    assert mt5.positions_get(*(), **nothing) is None
    assert mt5.last_error() == NO_CONNECTION, "only the two trade functions mind"


REQUEST_TYPES = {
    int: ("action", "magic", "order", "deviation", "type", "type_filling", "type_time", "expiration", "position"),
    float: ("volume", "price", "stoplimit", "sl", "tp"),
    str: ("symbol", "comment"),
}
WRONG: dict[type, tuple[Any, ...]] = {
    int: (1.0, "1", None, np.int64(1)),
    float: (1, "1", None, np.float32(1), True),
    str: (1, None, b"x", "x" * 30),
}


@pytest.mark.parametrize(("field", "kind"), [(field, kind) for kind, names in REQUEST_TYPES.items() for field in names])
def test_every_field_of_a_request_has_its_type(field: str, kind: type) -> None:
    for wrong in WRONG[kind]:
        assert mt5.order_send({field: wrong}) is None
        assert mt5.last_error() == (-2, f'Invalid "{field}" argument'), wrong
    assert mt5.order_send({field: kind(1)}) is None
    assert mt5.last_error() == NO_CONNECTION


# Connection --------------------------------------------------------------------------------------------------


def test_initialize_and_login_check_their_arguments_first() -> None:
    for function, positional, keywords, text in (
        (mt5.initialize, (5,), {}, "Invalid 1st unnamed argument"),
        (mt5.initialize, ("a", "b"), {}, "Invalid number of arguments"),
        (mt5.initialize, (), {"path": None}, 'Invalid "path" argument'),
        (mt5.initialize, ("x" * 258,), {}, 'Invalid "path" argument'),
        (mt5.initialize, (), {"login": "1"}, 'Invalid "login" argument'),
        (mt5.initialize, (), {"password": 1}, 'Invalid "password" argument'),
        (mt5.initialize, (), {"password": "x" * 254}, 'Invalid "password" argument'),
        (mt5.initialize, (), {"server": None}, 'Invalid "server" argument'),
        (mt5.initialize, (), {"timeout": 1.5}, 'Invalid "timeout" argument'),
        (mt5.login, (1, 2), {}, "Invalid 2nd unnamed argument"),
        (mt5.login, (1, "p", 3), {}, "Invalid 3rd unnamed argument"),
        (mt5.login, (1, "p", "s", 4), {}, "Invalid number of arguments"),
        (mt5.login, (1,), {"server": "x" * 254}, 'Invalid "server" argument'),
        (mt5.login, (1,), {"timeout": "5"}, 'Invalid "timeout" argument'),
        (mt5.login, (), {}, 'Invalid "login" argument'),
        (mt5.login, (0, "p"), {}, 'Invalid "login" argument'),
    ):
        assert function(*positional, **keywords) is False
        assert mt5.last_error() == (-2, text)
    assert mt5.login(1, password="p", server="s", nonsense=1) is False
    assert mt5.last_error() == NO_CONNECTION


def test_shutdown_and_last_error_never_fail() -> None:
    assert mt5.account_info() is None
    assert mt5.last_error() == mt5.last_error() == NO_CONNECTION
    assert mt5.shutdown() is True
    assert mt5.last_error() == (1, "Success")
    assert mt5.version() == (0, 0, "")
    assert mt5.last_error() == NO_CONNECTION


# Objects -----------------------------------------------------------------------------------------------------


def test_functions_pass_for_built_ins() -> None:
    for name in (*POSITIONAL, "initialize", "order_send", "version"):
        function = getattr(mt5, name)
        assert isinstance(function, types.BuiltinFunctionType)
        assert inspect.isbuiltin(function)
        assert inspect.isroutine(function)
        assert not inspect.isfunction(function)
        assert (function.__name__, function.__qualname__, repr(function)) == (name, name, f"<built-in function {name}>")
        assert getattr(function, "__text_signature__", "") is None


TICK = (1, 1.1, 1.2, 0.0, 0, 1000, 6, 0.0)


def test_structs_are_made_of_one_sequence_only() -> None:
    tick: Any = structs.Tick
    for sequence in (TICK, list(TICK), iter(TICK), dict.fromkeys(range(8))):
        assert len(tick(sequence)) == 8
    assert tick(sequence=TICK, dict={}) == TICK
    for wrong in ((TICK, 5), (5,), (TICK[:7],), ((*TICK, 1),), ()):
        with pytest.raises(TypeError):
            tick(*wrong)
    with pytest.raises(TypeError, match=r"Tick\(\) takes a 8-sequence \(2-sequence given\)"):
        tick((1, 2))


def test_structs_are_tuples_in_everything_else() -> None:
    tick: Any = structs.Tick(TICK)
    assert (hash(tick), len(tick), tick[-1], tick[1:3], tick.index(6)) == (hash(TICK), 8, 0.0, (1.1, 1.2), 6)
    assert type(tick[:]) is tuple
    assert type(tick + (1,)) is tuple  # noqa: RUF005  # the operator is what is tested
    assert tick != structs.Tick((*TICK[:7], 1.0))
    assert repr(tick) == "Tick(time=1, bid=1.1, ask=1.2, last=0.0, volume=0, time_msc=1000, flags=6, volume_real=0.0)"
    assert repr(type(tick)) == "<class 'Tick'>"
    match tick:
        case structs.Tick(1, 1.1, ask=ask):  # type: ignore[misc]
            assert ask == 1.2
        case _:
            pytest.fail("no match by position and name")
    for absent in ("_fields", "_replace", "_make", "_field_defaults", "__dict__"):
        assert not hasattr(tick, absent)


def test_structs_cannot_be_changed_extended_or_pickled() -> None:
    tick: Any = structs.Tick(TICK)
    for name in ("bid", "other"):
        with pytest.raises(AttributeError):
            setattr(tick, name, 1.0)
    with pytest.raises(AttributeError):
        del tick.bid
    with pytest.raises(TypeError, match="type 'Tick' is not an acceptable base type"):
        type("Mine", (structs.Tick,), {})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(pickle.PicklingError):
            pickle.dumps([tick], protocol)


def test_structs_are_copied_as_what_they_are() -> None:
    request = structs.TradeRequest([0] * 17)
    result: Any = structs.OrderSendResult([*range(10), request])
    made: Any
    for made in (copy.copy(result), copy.deepcopy(result)):
        assert made == result
        assert type(made.request) is structs.TradeRequest
        assert type(made) is structs.OrderSendResult
    assert list(result._asdict()) == list(structs.OrderSendResult.__match_args__)
    assert type(result._asdict()["request"]) is structs.TradeRequest
    if sys.version_info >= (3, 13):
        assert copy.replace(result, retcode=5).retcode == 5
