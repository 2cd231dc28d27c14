"""Faults on demand, set while the terminal runs: from tests, and from the command line.

| fault | what happens to a call it applies to |
|---|---|
| `hang` | the client blocks for ever in its call, holding the GIL; with `executed` the call took effect first |
| `slow` | the call takes `ms` longer; with `executed` it takes effect at once and only the answer is late |
| `crash` | the terminal ends abruptly before the call, with `executed` after it |
| `reply_lost` | the call takes effect, then the connection is cut without an answer |
| `reject` | `order_send` is refused with 10006 |
| `requote` | `order_send` is refused with 10004 and fresh prices |
| `late_fill` | `order_send` answers 10012 (or `retcode`), and the request takes effect `ms` later, a `fraction` of it |
| `link_lost` | the link to the broker goes for `ms` in the call: 10031 (or `retcode`); with `executed` it took effect |
| `retcode` | `order_send` answers `retcode` (10011 by default); with `executed` it took effect all the same |
| `call_failed` | the call fails with (-1, 'Terminal: Call failed') |
| `out_of_step` | what arrives is no reply (-10000); with `executed` the call took effect first |

The others are states, not calls. They last until cleared, or for `ms` when `count` is given:

| state | meaning |
|---|---|
| `disconnect` | no link to the broker: `connected` is false, 10031; what is shown stands still, the broker goes on |
| `trade_off` | the AutoTrading button is off: 10027 |
| `api_off` | the option that forbids trading through the Python API: -8, or 10027 by the setting `api_off_retcode` |
| `late_history` | orders and deals that become final while it lasts are not in the history functions yet |
| `account_swapped` | somebody has logged the terminal in to another account |
| `no_quotes` | the `symbols` (none: all) are not quoted: no ticks, the last one stands, 10021 |

And one event, `update`: the terminal ends at once as for a LiveUpdate and starts itself again after `ms`, with the next
build and without the switches it was started with. With `incompatible` it then refuses clients with -5 until `update`
is cleared.

A fault applies `count` times (None: until cleared), to the functions named (none: `order_send`, for `slow` every
function), each time with `probability`, drawn from `seed`: the same calls meet the same faults. Of several that
concern a call the one set first is tried first. A fault meets its call before the terminal looks at it.

What a late fill or one behind a lost link does happens at the broker, on the account that sent it, whatever has become
of this terminal meanwhile. A `fraction` of a market order fills at first: under IOC the rest is cancelled, under
RETURN it fills at later ticks, and FOK fills whole. Requests that fill nothing at once take effect whole.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from paper_terminal import constants as api
from paper_terminal.channel import Channel
from paper_terminal.wire import CONTROL_CLIENT

CALL_FAULTS: Final = (
    "hang",
    "slow",
    "crash",
    "reply_lost",
    "reject",
    "requote",
    "late_fill",
    "link_lost",
    "retcode",
    "call_failed",
    "out_of_step",
)
STATE_FAULTS: Final = ("disconnect", "trade_off", "api_off", "late_history", "account_swapped", "no_quotes")
UPDATE: Final = "update"
FAULTS: Final = (*CALL_FAULTS, *STATE_FAULTS, UPDATE)
_ORDER_FAULTS: Final = frozenset({"reject", "requote", "late_fill", "link_lost", "retcode"})
_WITH_RETCODE: Final = frozenset({"retcode", "late_fill", "link_lost"})
_OF_EVERY_CALL: Final = frozenset({"slow"})


class FaultError(Exception):
    """A fault that does not exist or cannot be set so."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault to come."""

    name: str
    functions: tuple[str, ...] = ()
    count: int | None = 1
    ms: int = 1000
    executed: bool = False
    retcode: int = 0
    """Return code of `retcode`, `late_fill` and `link_lost`; 0: the fault's own."""
    fraction: float = 1.0
    """Part of the volume that a `late_fill` fills at first, above 0."""
    symbols: tuple[str, ...] = ()
    """The broker's names that `no_quotes` concerns; none: all."""
    incompatible: bool = False
    """Whether the build after an `update` refuses this client module."""
    probability: float = 1.0
    seed: int = 0
    used: int = 0
    """Calls struck so far: told by `list_faults`, not to be set."""

    def check(self) -> None:
        """Check the values.

        Raises:
            FaultError: unknown, or out of range.
        """
        if self.name not in FAULTS:
            raise FaultError(f"no fault {self.name!r}: there are {', '.join(FAULTS)}")
        if self.name in _ORDER_FAULTS and set(self.functions) - {"order_send"}:
            raise FaultError(f"{self.name} applies to order_send only")
        if self.count is not None and self.count < 1:
            raise FaultError(f"count must be at least 1, or None for every call; got {self.count}")
        for problem in self._misplaced():
            raise FaultError(f"{self.name} takes no {problem}")
        if self.ms < 0 or not 0 < self.probability <= 1 or not 0 < self.fraction <= 1:
            raise FaultError("ms must not be negative, probability and fraction above 0 and at most 1")

    def _misplaced(self) -> Iterator[str]:
        if self.retcode and self.name not in _WITH_RETCODE:
            yield "retcode"
        if self.fraction != 1 and self.name != "late_fill":
            yield "fraction"
        if self.symbols and self.name != "no_quotes":
            yield "symbols"
        if self.incompatible and self.name != UPDATE:
            yield "incompatible"
        if self.functions and self.name not in CALL_FAULTS:
            yield "functions"
        if self.used:
            yield "used: it counts by itself"

    def concerns(self, function: str) -> bool:
        """Tell whether the fault is meant for a function."""
        if self.functions:
            return function in self.functions
        return self.name in _OF_EVERY_CALL or function == "order_send"


class _Armed:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.count
        self.used = 0
        self._random = random.Random(fault.seed)  # noqa: S311  # not cryptography

    def strikes(self) -> bool:
        return self.fault.probability >= 1 or self._random.random() < self.fault.probability


class FaultBook:
    """The faults a terminal has been told to have."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def set(self, fault: Fault) -> None:
        """Arm a fault.

        Raises:
            FaultError: see `Fault.check`.
        """
        fault.check()
        self._armed.append(_Armed(fault))

    def clear(self, name: str = "") -> None:
        """Disarm the faults of a name, or all."""
        self._armed = [each for each in self._armed if name and each.fault.name != name]

    def armed(self) -> list[Fault]:
        """Return what is armed, with the counts still left and used."""
        return [msgspec.structs.replace(each.fault, count=each.left, used=each.used) for each in self._armed]

    def strike(self, function: str) -> Fault | None:
        """Return the fault this call of a function has, using it up by one."""
        for each in self._armed:
            if not each.fault.concerns(function) or not each.strikes():
                continue
            each.used += 1
            if each.left is not None:
                each.left -= 1
                if each.left == 0:
                    self._armed.remove(each)
            return each.fault
        return None


def set_fault(path: str | Path, name: str, **params: Any) -> None:
    """Arm a fault in the running terminal of a folder; `params` are the fields of `Fault`.

    Raises:
        FaultError: no such fault, or a bad parameter.
        NoTerminal: no terminal runs there.
        ChannelBroken: it ended meanwhile.
    """
    try:
        fault = msgspec.convert({"name": name, **params}, Fault)
    except msgspec.ValidationError as error:
        raise FaultError(str(error)) from error
    fault.check()
    _control(path, "fault_set", msgspec.to_builtins(fault))


def clear_faults(path: str | Path, name: str = "") -> None:
    """Disarm the faults of a name, or all.

    Raises:
        NoTerminal: no terminal runs there.
        ChannelBroken: it ended meanwhile.
    """
    _control(path, "fault_clear", name)


def list_faults(path: str | Path) -> list[Fault]:
    """Return the armed faults and the states that last, with the counts still left and used.

    Raises:
        NoTerminal: no terminal runs there.
        ChannelBroken: it ended meanwhile.
    """
    return msgspec.convert(_control(path, "fault_list"), list[Fault])


BALANCE_KINDS: Final = {
    "balance": api.DEAL_TYPE_BALANCE,
    "credit": api.DEAL_TYPE_CREDIT,
    "charge": api.DEAL_TYPE_CHARGE,
    "correction": api.DEAL_TYPE_CORRECTION,
    "bonus": api.DEAL_TYPE_BONUS,
    "commission": api.DEAL_TYPE_COMMISSION,
    "interest": api.DEAL_TYPE_INTEREST,
    "dividend": api.DEAL_DIVIDEND,
    "tax": api.DEAL_TAX,
}
"""Operations on an account's money, by the types of their deals; all but credit change the balance."""


def balance(
    path: str | Path, amount: float, *, login: int = 0, comment: str = "", kind: int = api.DEAL_TYPE_BALANCE
) -> int:
    """Deposit to (or with a negative amount withdraw from) an account of a running terminal; return the deal.

    `kind` is one of the deal types of `BALANCE_KINDS`.

    Raises:
        FaultError: no such account, the amount is no number, or the kind is a type of trading.
        NoTerminal: no terminal runs there.
        ChannelBroken: it ended meanwhile.
    """
    return int(_control(path, "balance", login, amount, comment, kind))


def _control(path: str | Path, function: str, *arguments: Any) -> Any:
    channel = Channel(Path(path), name=CONTROL_CLIENT)
    try:
        code, value = channel.call(function, list(arguments))
    finally:
        channel.close()
    if code != 1:
        raise FaultError(str(value))
    return value
