"""Controls of a running terminal: faults, balance operations, the feed's start. No functions of the API."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import msgspec

from paper_terminal import constants as api
from paper_terminal.faults import STATE_FAULTS, Fault, FaultBook, FaultError
from paper_terminal.market import Market
from paper_terminal.served import CallFailed
from paper_terminal.terminal import Terminal
from paper_terminal.wire import Reply, Request

CONTROLS: Final = frozenset({"fault_set", "fault_clear", "fault_list", "release", "balance"})


class Control:
    """Carries out controls; `faults` are those armed for calls."""

    def __init__(
        self, terminal: Terminal, market: Market, *, after: Callable[[float, Callable[[], None]], None]
    ) -> None:
        """Control a terminal; `after` runs something so many seconds later."""
        self.faults = FaultBook()
        self._terminal = terminal
        self._market = market
        self._after = after
        self._states: dict[str, int] = {}
        self._number = itertools.count()

    def answer(self, request: Request) -> Reply:
        """Carry out a control.

        Raises:
            StateError: a change cannot be made durable.
        """
        try:
            value = self._carry_out(request.function, request.arguments)
        except (FaultError, msgspec.ValidationError, ValueError) as error:
            return Reply(api.RES_E_INVALID_PARAMS, f"{request.function}: {error}")
        except CallFailed as failed:
            return Reply(failed.code, failed.text)
        return Reply(api.RES_S_OK, value)

    def _carry_out(self, function: str, arguments: list[Any]) -> Any:
        if function == "fault_list":
            return [*self.faults.armed(), *(Fault(name=each, count=None) for each in self._states)]
        if function == "release":
            return self._market.release()
        if function == "balance":
            return self._terminal.balance_operation(*msgspec.convert(arguments, tuple[int, float, str]))
        (argument,) = arguments
        if function == "fault_clear":
            self._clear(str(argument))
        else:
            self._set(msgspec.convert(argument, Fault))
        return None

    def _clear(self, name: str) -> None:
        self.faults.clear(name)
        for state in STATE_FAULTS:
            if name in {"", state}:
                self._set_state(state, on=False)

    def _set(self, fault: Fault) -> None:
        fault.check()
        if fault.name not in STATE_FAULTS:
            self.faults.set(fault)
            return
        self._set_state(fault.name, on=True)
        if fault.count is not None and fault.ms:
            number = self._states[fault.name]
            self._after(fault.ms / 1000, lambda: self._end_state(fault.name, number))

    def _end_state(self, name: str, number: int) -> None:
        if self._states.get(name) == number:  # unless it was cleared and set again meanwhile
            self._set_state(name, on=False)

    def _set_state(self, name: str, *, on: bool) -> None:
        was_on = name in self._states
        if on:
            self._states[name] = next(self._number)
        elif self._states.pop(name, None) is None:
            return
        if was_on != on:
            self._terminal.set_state(name, on=on)
