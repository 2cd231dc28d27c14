"""The client module against the recorded interface of the real one."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import paper_terminal.client as mt5
from paper_terminal import structs
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE

mt5_any: Any = mt5


@pytest.fixture(scope="module")
def api(market_data: Path) -> dict[str, Any]:
    path = market_data.parent / "mt5_api.json"
    if not path.exists():
        pytest.skip(f"no recorded interface at {path}")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def test_every_constant_has_its_value(api: dict[str, Any]) -> None:
    assert {name: getattr(mt5, name, None) for name in api["constants"]} == api["constants"]


def test_no_constant_is_invented(api: dict[str, Any]) -> None:
    prefixes = tuple({name.split("_")[0] + "_" for name in api["constants"]})
    ours = {name for name in dir(mt5) if name.startswith(prefixes) and isinstance(getattr(mt5, name), int)}
    assert ours == set(api["constants"])


def test_a_star_import_gives_the_names_of_the_package_only(api: dict[str, Any]) -> None:
    assert set(mt5.__all__) == {*api["constants"], *api["functions"], *api["structs"]}


def test_every_function_is_there_with_its_name(api: dict[str, Any]) -> None:
    assert [getattr(mt5, name).__name__ for name in api["functions"]] == api["functions"]


def test_functions_have_no_signature_and_do_not_bind(api: dict[str, Any]) -> None:
    for name in set(api["functions"]) - set(api["python_level_functions"]):
        function = getattr(mt5, name)
        with pytest.raises(ValueError, match="no signature"):
            inspect.signature(function)
        holder = type("Holder", (), {"call": function})
        assert holder().call is function


def test_functions_pass_for_built_in_ones(api: dict[str, Any]) -> None:
    built_in = {name for name, _ in inspect.getmembers(mt5, inspect.isbuiltin)}
    assert built_in == set(api["functions"]) - set(api["python_level_functions"])
    assert all(getattr(mt5, name).__module__ == "MetaTrader5" for name in built_in)
    assert all(copy.deepcopy(getattr(mt5, name)) is getattr(mt5, name) for name in built_in)


def test_call_styles_refuse_what_c_refuses(api: dict[str, Any]) -> None:
    for name, style in api["call_style"].items():
        function = getattr(mt5, name)
        if style != "varargs+keywords":
            with pytest.raises(TypeError, match="takes no keyword arguments"):
                function(unknown=1)
        if style == "noargs":
            with pytest.raises(TypeError, match=r"takes no arguments \(1 given\)"):
                function(1)


def test_python_helpers_are_python_functions(api: dict[str, Any]) -> None:
    assert all(inspect.isfunction(getattr(mt5, name)) for name in api["python_level_functions"])


def test_structs_have_their_fields_in_order(api: dict[str, Any]) -> None:
    for name, fields in api["structs"].items():
        kind = getattr(mt5, name)
        assert list(kind.__match_args__) == fields
        assert (kind.n_fields, kind.n_sequence_fields, kind.n_unnamed_fields) == (len(fields), len(fields), 0)
        assert kind.__module__ == "builtins"


def test_dtypes_are_packed_records(api: dict[str, Any]) -> None:
    for dtype, name in ((TICK_DTYPE, "ticks"), (RATE_DTYPE, "rates")):
        assert [list(each) for each in dtype.descr] == api["dtypes"][name]
        assert dtype.itemsize == api["dtype_itemsize"][name]


def test_struct_behaves_like_a_struct_sequence() -> None:
    tick: Any = structs.Tick([1, 1.1, 1.2, 0.0, 0, 1000, 6, 0.0])
    assert tick == (1, 1.1, 1.2, 0.0, 0, 1000, 6, 0.0)
    assert tick.bid == tick[1] == tick._asdict()["bid"]
    assert repr(tick).startswith("Tick(time=1, bid=1.1, ask=1.2")
    assert not hasattr(tick, "_fields")
    with pytest.raises(AttributeError):
        tick.bid = 2.0
    with pytest.raises(TypeError):
        structs.Tick([1, 2])


def test_struct_copies_but_cannot_be_pickled() -> None:
    book = structs.BookInfo([1, 1.1, 5, 5.0])
    assert copy.copy(book) == copy.deepcopy(book) == book
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(book)


def test_without_a_connection_every_function_fails_as_its_kind() -> None:
    mt5_any.shutdown()
    failures = [
        (mt5_any.version, (), (0, 0, "")),
        (mt5_any.account_info, (), None),
        (mt5_any.terminal_info, (), None),
        (mt5_any.symbols_total, (), None),
        (mt5_any.symbols_get, (), None),
        (mt5_any.symbol_info, ("EURUSD",), None),
        (mt5_any.symbol_select, ("EURUSD",), False),
        (mt5_any.market_book_get, ("EURUSD",), None),
        (mt5_any.positions_get, (), None),
        (mt5_any.history_deals_get, (1, 2), None),
        (mt5_any.copy_ticks_from, ("EURUSD", 1, 1, -1), None),
        (mt5_any.order_send, ({"action": 1},), None),
    ]
    for function, arguments, failure in failures:
        assert function(*arguments) == failure
        assert mt5_any.last_error() == (-10004, "No IPC connection")


def test_book_functions_fail_without_setting_the_error() -> None:
    assert mt5_any.market_book_add("EURUSD") is False
    assert mt5_any.last_error() == (1, "Success")
    assert mt5_any.market_book_add(1) is None
    assert mt5_any.last_error() == (-2, "Invalid arguments")
