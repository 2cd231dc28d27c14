"""Controls of a running terminal: faults, balance operations, the feed's start. No functions of the API."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import msgspec

from paper_terminal import constants as api
from paper_terminal.faults import STATE_FAULTS, UPDATE, Fault, FaultBook, FaultError
from paper_terminal.market import Market
from paper_terminal.served import CallFailed
from paper_terminal.terminal import Terminal
from paper_terminal.wire import Reply, Request

CONTROLS: Final = frozenset({"fault_set", "fault_clear", "fault_list", "release", "balance"})


class Control:
    """Carries out controls; `faults` are those armed for calls."""

    def __init__(
        self,
        terminal: Terminal,
        market: Market,
        *,
        after: Callable[[float, Callable[[], None]], None],
        end_for_update: Callable[[int], None],
    ) -> None:
        """Control a terminal.

        Args:
            terminal: What is controlled.
            market: Its feed.
            after: Runs something so many seconds later.
            end_for_update: Ends the terminal's process, to begin again so many milliseconds later.
        """
        self.faults = FaultBook()
        self._terminal = terminal
        self._market = market
        self._after = after
        self._end_for_update = end_for_update
        self._states: dict[str, tuple[int, Fault]] = {}
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
            return [*self.faults.armed(), *(fault for _, fault in self._states.values())]
        if function == "release":
            return self._market.release()
        if function == "balance":
            return self._terminal.balance_operation(*msgspec.convert(arguments, tuple[int, float, str, int]))
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
                self._end_state(state)
        if name in {"", UPDATE}:
            self._terminal.accept_again()

    def _set(self, fault: Fault) -> None:
        fault.check()
        if fault.name == UPDATE:
            self._terminal.update(incompatible=fault.incompatible)
            self._end_for_update(fault.ms)
        elif fault.name in STATE_FAULTS:
            self._begin_state(fault)
        else:
            self.faults.set(fault)

    def lose_link(self, ms: int) -> None:
        """Let the link to the broker be lost for so many milliseconds."""
        if "disconnect" not in self._states:  # else it is lost for longer already
            self._begin_state(Fault(name="disconnect", ms=ms))

    def _begin_state(self, fault: Fault) -> None:
        number = next(self._number)
        if fault.name not in self._states or fault.symbols:
            self._terminal.set_state(fault.name, on=True, symbols=fault.symbols)
        self._states[fault.name] = (number, fault)
        if fault.count is not None and fault.ms:
            self._after(fault.ms / 1000, lambda: self._end_state(fault.name, number))

    def _end_state(self, name: str, number: int | None = None) -> None:
        """End a state, with `number` only if it was not cleared and set again meanwhile."""
        began = self._states.get(name)
        if began is not None and number in {None, began[0]}:
            del self._states[name]
            self._terminal.set_state(name, on=False)
