"""Cases of what the module itself is: functions, constants, types, argument forms and texts."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from paper_terminal import constants, structs
from paper_terminal.conformance.runner import Case, Context, Difference, Skipped

_NO_ARGUMENTS: Final = [
    "shutdown",
    "version",
    "last_error",
    "terminal_info",
    "account_info",
    "symbols_total",
    "positions_total",
    "orders_total",
]
_POSITIONAL: Final = [
    "symbol_info",
    "symbol_info_tick",
    "symbol_select",
    "market_book_add",
    "market_book_get",
    "market_book_release",
    "copy_ticks_from",
    "copy_ticks_range",
    "copy_rates_from",
    "copy_rates_from_pos",
    "copy_rates_range",
    "history_orders_total",
    "history_deals_total",
    "order_calc_margin",
    "order_calc_profit",
]
_KEYWORDS: Final = [
    "initialize",
    "login",
    "symbols_get",
    "positions_get",
    "orders_get",
    "history_orders_get",
    "history_deals_get",
    "order_check",
    "order_send",
]
_TEXT_FIELDS: Final = ("symbol", "comment")
_FLOAT_FIELDS: Final = ("volume", "price", "stoplimit", "sl", "tp")
_NOT_EXPORTED: Final = ("SYMBOL_FILLING_FOK", "SYMBOL_ORDER_MARKET", "SYMBOL_EXPIRATION_GTC")
_FAR_S: Final = 2_000_000_000


def raises(kind: type[BaseException], call: Callable[[], object], what: str) -> None:
    """Require an exception.

    Raises:
        Difference: there is none of this kind.
    """
    try:
        call()
    except kind:
        return
    raise Difference(f"{what}: no {kind.__name__}")


def functions(c: Context) -> None:
    """32 built-in functions without signature, which do not bind as methods do, and three helpers in Python."""
    for name in (*_NO_ARGUMENTS, *_POSITIONAL, *_KEYWORDS):
        function = getattr(c.api, name, None)
        c.expect(getattr(function, "__name__", None), name, "name of the function")
        raises(ValueError, lambda function=function: inspect.signature(function), f"signature of {name}")  # type: ignore[misc]
        c.expect(type("Holder", (), {"call": function})().call is function, True, f"{name} as a class attribute")
    wanted = ["symbol", "volume", "price", "comment", "ticket"]
    c.expect(list(inspect.signature(c.api.Buy).parameters), wanted, "parameters of Buy")
    c.expect(list(inspect.signature(c.api.Close).parameters), ["symbol", "comment", "ticket"], "parameters of Close")


def call_styles(c: Context) -> None:
    """Positional-only functions refuse keywords, functions without arguments refuse any."""
    for name in _POSITIONAL:
        raises(TypeError, lambda name=name: getattr(c.api, name)(symbol=c.symbol), f"{name}(symbol=)")  # type: ignore[misc]
    for name in _NO_ARGUMENTS:
        raises(TypeError, lambda name=name: getattr(c.api, name)(1), f"{name}(1)")  # type: ignore[misc]
        raises(TypeError, lambda name=name: getattr(c.api, name)(unknown=1), f"{name}(unknown=)")  # type: ignore[misc]


def constant_values(c: Context) -> None:
    """Every constant has its value, and what the package does not export is not there."""
    names = [name for name, value in vars(constants).items() if isinstance(value, int) and name.isupper()]
    wrong = {name: getattr(c.api, name, None) for name in names if getattr(c.api, name, None) != vars(constants)[name]}
    c.expect(wrong, {}, "constants")
    c.expect([name for name in _NOT_EXPORTED if hasattr(c.api, name)], [], "names of MQL5 only")


def struct_definitions(c: Context) -> None:
    """Eleven result types with the fields of the facts in their order."""
    for name, ours in vars(structs).items():
        if not structs.is_struct(ours):
            continue
        theirs = getattr(c.api, name, None)
        if theirs is None:
            raise Difference(f"no type {name}")
        c.expect(theirs.n_fields, ours.n_fields, f"{name}: fields")
        c.expect(tuple(theirs(range(ours.n_fields))._asdict()), ours.__match_args__, f"{name}: names in order")
        c.expect(theirs.__module__, "builtins", f"{name}: module")
        raises(TypeError, lambda theirs=theirs: theirs([1]), f"{name} of too few values")  # type: ignore[misc]


def struct_behaviour(c: Context) -> None:
    """Results are read-only tuples that can be copied, and not pickled."""
    tick = c.api.symbol_info_tick(c.symbol)
    c.expect(list(tick._asdict().values()), list(tick), "_asdict() in field order")
    c.expect((tick.n_fields, tick.n_sequence_fields, tick.n_unnamed_fields), (8, 8, 0), "counts of fields")
    c.expect(tick, tuple(tick), "equality with a tuple")
    c.expect((copy.copy(tick), copy.deepcopy(tick)), (tick, tick), "copies")
    c.expect(repr(tick).startswith("Tick(time="), True, "repr")
    c.expect([name for name in ("_fields", "_replace", "_make") if hasattr(tick, name)], [], "a namedtuple's helpers")
    c.expect(tick.time, tick.time_msc // 1000, "time is time_msc // 1000")
    raises(AttributeError, lambda: setattr(tick, "bid", 1.0), "a field is read-only")
    raises(pickle.PicklingError, lambda: pickle.dumps(tick), "pickling")


def unconnected(c: Context) -> None:
    """Without a connection every call gives its failure and -10004; version() gives zeros; shutdown is True."""
    try:
        c.expect(c.api.shutdown(), True, "shutdown()")
        c.expect(c.api.shutdown(), True, "shutdown() again")
        c.expect_failure(c.api.account_info(), None, -10004, "No IPC connection")
        c.expect_failure(c.api.version(), (0, 0, ""), -10004, "No IPC connection")
        c.expect_failure(c.api.symbol_select(c.symbol), False, -10004, "No IPC connection")
        c.expect_failure(c.api.positions_get(), None, -10004, "No IPC connection")
        c.expect_failure(c.api.copy_rates_from_pos(c.symbol, 1, 0, 1), None, -10004, "No IPC connection")
        c.expect_failure(c.api.order_check(action=1), None, -10004, "No IPC connection")
    finally:
        c.connect()
    c.expect(c.api.last_error(), (1, "Success"), "last_error after initialize")


def request_field_texts(c: Context) -> None:
    """Each of the 17 fields of a request refuses what is not of its type, with its name; None is no value."""
    request = {"action": 1, "symbol": c.symbol, "volume": 0.01}
    for field in structs.TradeRequest.__match_args__:
        wrongs: list[Any] = [None]
        wrongs += [5] if field in _TEXT_FIELDS else ["1", 1] if field in _FLOAT_FIELDS else ["1", 1.0, np.int64(1)]
        for wrong in wrongs:
            c.expect_failure(c.api.order_check(request | {field: wrong}), None, -2, f'Invalid "{field}" argument')
    refused = c.api.order_check(request | {"expiration": datetime.now(UTC)})
    c.expect_failure(refused, None, -2, 'Invalid "expiration" argument')
    if c.api.order_check(request | {"price": np.float64(1.0)}) is None:
        raise Difference(f"numpy.float64 as a price is refused: {c.api.last_error()}")


def request_numbers(c: Context) -> None:
    """Unsigned fields of 64 bits: outside of them an exception, not a failure."""
    for field in ("magic", "order", "position", "deviation"):
        for wrong in (-1, 1 << 64):
            call = lambda field=field, wrong=wrong: c.api.order_check({"action": 1, field: wrong})  # noqa: E731
            raises(SystemError, call, f"{field}={wrong}")


def request_forms(c: Context) -> None:
    """A request is one dict or the fields as keywords, never both; unknown keys are ignored."""
    request = {"action": 1, "symbol": c.symbol, "volume": 0.01}
    by_dict, by_keywords = c.api.order_check(request), c.api.order_check(**request)
    c.expect(by_dict.request, by_keywords.request, "the request of both forms")
    c.expect(c.api.order_check(request | {"stop_loss": 1.0}).request, by_dict.request, "an unknown key")
    c.expect_failure(c.api.order_check(request, magic=1), None, -2, "Unnamed arguments not allowed")
    missing = by_dict.request
    c.expect((missing.magic, missing.price, missing.comment, missing.type), (0, 0.0, "", 0), "missing fields")


def text_lengths(c: Context) -> None:
    """Limits are in UTF-16 units, of which an emoji has two."""
    c.expect_failure(c.api.symbol_info("X" * 30), None, -2, "Invalid arguments")
    c.expect(c.api.symbol_info("X" * 29), None, "a symbol of 29 units")
    c.expect(c.api.last_error()[0], -4, "last_error of an unknown symbol")
    request = {"action": 1, "symbol": c.symbol, "volume": 0.01}
    for comment in ("x" * 30, "\N{ROCKET}" * 15):
        c.expect_failure(c.api.order_check(request | {"comment": comment}), None, -2, 'Invalid "comment" argument')
    for comment in ("x" * 29, "\N{ROCKET}" * 14):
        c.expect(c.api.order_check(request | {"comment": comment}).request.comment, comment, "a comment that fits")
    c.expect_failure(c.api.positions_get(group="x" * 1998), None, -2, 'Invalid "group" argument')
    c.expect(c.api.positions_get(group="x" * 1997), (), "a group of 1997 units")


def argument_precedence(c: Context) -> None:
    """Of several selections the first counts: ticket, symbol, group; with two dates the ticket is ignored."""
    c.expect(c.api.positions_get(ticket=1, symbol=5), (), "positions_get(ticket=, symbol=5)")
    c.expect_failure(c.api.positions_get(symbol=5), None, -2, 'Invalid "symbol" argument')
    c.expect_failure(c.api.orders_get(ticket="1"), None, -2, 'Invalid "ticket" argument')
    everything = c.api.history_deals_get(1, _FAR_S)
    c.expect(len(c.api.history_deals_get(1, _FAR_S, ticket=1)), len(everything), "two dates and a ticket")


def date_forms(c: Context) -> None:
    """A number, its float and an aware datetime are the same date."""
    bar = c.api.copy_rates_from_pos(c.symbol, c.api.TIMEFRAME_M1, 1, 1)
    when_s = int(bar["time"][0])  # of a closed bar: the newest one may change between the calls
    found = [
        c.api.copy_rates_from(c.symbol, c.api.TIMEFRAME_M1, when, 5).tolist()
        for when in (when_s, float(when_s) + 0.9, datetime.fromtimestamp(when_s, UTC))
    ]
    c.expect(found[1:], found[:1] * 2, "bars of a float and of a datetime")


def wrong_numbers(c: Context) -> None:
    """A wrong type of a number in the copy and calculation functions is an exception, and -2."""
    calls: dict[str, Callable[[], object]] = {
        "timeframe": lambda: c.api.copy_rates_from_pos(c.symbol, "1", 0, 5),
        "count": lambda: c.api.copy_rates_from_pos(c.symbol, 1, 0, "5"),
        "flags": lambda: c.api.copy_ticks_from(c.symbol, 1_700_000_000, 1, "all"),
        "volume": lambda: c.api.order_calc_margin(0, c.symbol, "1", 1.0),
        "a date in milliseconds": lambda: c.api.copy_rates_from(c.symbol, 1, 1_700_000_000_000, 1),
    }
    for what, call in calls.items():
        raises(SystemError, call, what)
        c.expect(c.api.last_error()[0], -2, f"last_error after a wrong {what}")
    c.expect_failure(c.api.copy_rates_from_pos(c.symbol, 1, 0), None, -2)
    c.expect_failure(c.api.order_calc_profit(0, c.symbol, 1.0), None, -2)
    if c.api.copy_rates_from_pos(c.symbol, np.int64(1), np.int64(0), np.int64(1)) is None:
        raise Difference("numpy integers are refused as timeframe, position and count")


def silent_book_failures(c: Context) -> None:
    """market_book_add and _release refused by the terminal leave last_error at success."""
    for function in (c.api.market_book_add, c.api.market_book_release):
        c.expect_failure(function("NO_SUCH_SYMBOL"), False, 1, "Success")


def array_types(c: Context) -> None:
    """Arrays own their data, have one dimension and 60 bytes a record; no records are an empty array."""
    bars = c.api.copy_rates_from_pos(c.symbol, 1, 0, 3)
    c.expect((bars.ndim, bars.dtype.itemsize, bars.flags.owndata, bars.flags.c_contiguous), (1, 60, True, True), "bars")
    c.expect(bars.dtype.fields["real_volume"][1], 52, "offset of real_volume")
    ticks = c.api.copy_ticks_range(c.symbol, _FAR_S, _FAR_S + 1, c.api.COPY_TICKS_ALL)
    c.expect((len(ticks), c.api.last_error()[0]), (0, 1), "ticks of the far future")


_KINDS: Final = {"i": int, "f": float, "s": str, "b": bool}
FIELD_KINDS: Final = {
    "Tick": "ifffiiif",
    "TradePosition": "iiiiiiiiiffffff" + "f" + "sss",
    "TradeOrder": "iiiiiiiiiiiiiifffffffsss",
    "TradeDeal": "iiiiiiiiiffffffsss",
    "TerminalInfo": "b" * 10 + "iiii" + "ff" + "s" * 6,
    "AccountInfo": "iiiiibbiib" + "f" * 14 + "ssss",
    "OrderCheckResult": "iffffffs",
}


def field_types(c: Context) -> None:
    """Every field has the type of the facts, in every record that is there."""
    check = c.api.order_check({"action": 1, "symbol": c.symbol, "volume": 0.01})
    found = [c.api.symbol_info_tick(c.symbol), c.api.terminal_info(), c.api.account_info(), check]
    found += [*c.api.positions_get(), *c.api.orders_get()]
    found += [*c.api.history_deals_get(1, _FAR_S)[-20:], *c.api.history_orders_get(1, _FAR_S)[-20:]]
    for record in found:
        name = type(record).__name__
        types = [_KINDS[kind] for kind in FIELD_KINDS[name]]
        c.expect([type(value) for value in record][: len(types)], types, f"types of {name}")


def empty_keywords(c: Context) -> None:
    """A wrapper's empty keyword dict counts as keywords."""
    if sys.version_info >= (3, 14):
        raise Skipped("Python 3.14 hands no empty dict on")
    nothing: dict[str, Any] = {}
    result = c.api.order_check(*({"action": 1, "symbol": c.symbol, "volume": 0.01},), **nothing)
    c.expect_failure(result, None, -2, "Unnamed arguments not allowed")


FORM_CASES = tuple(
    Case(each.__name__, each)
    for each in (
        functions,
        call_styles,
        constant_values,
        struct_definitions,
        struct_behaviour,
        unconnected,
        request_field_texts,
        request_numbers,
        request_forms,
        empty_keywords,
        text_lengths,
        argument_precedence,
        date_forms,
        wrong_numbers,
        silent_book_failures,
        array_types,
        field_types,
    )
)
