"""Closing everything of ours, or of one strategy, until it is closed: over refusals, unknown outcomes and restarts.

What is to be flattened is kept in the journal, so that a restart goes on with it. Every attempt is an order of its own
with an id of its own; nothing is attempted while an earlier attempt is on its way or of unknown outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from broker_adapter.broker_state import opposite, side_of_order, side_of_position
from broker_adapter.journal import Journal
from broker_adapter.journal_records import EventRecord, MetaRecord
from broker_adapter.order_desk import FLATTEN_PREFIX, OrderDesk
from broker_adapter.order_ledger import Batch
from broker_adapter.order_requests import Draft
from broker_adapter.risk_gate import closing_volume, is_working
from market.instrument import Filling, FillingError, choose_filling, floor_to_step
from protocol.clock import Clock
from protocol.errors import BusError
from protocol.messages import AlertEvent, Order, Position

INCOMPLETE_S = 30.0
"""A person is told of what is still open after so long."""
GONE_S = 5.0
"""A terminal that has just connected may show empty lists: what was there counts as closed after so long without it."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_CLOSED_PAUSE_S = 300.0
_QUOTED_PAUSE_S = 5.0  # after the market was closed: between attempts while new ticks come
_MARKET_CLOSED = frozenset({10017, 10018, 10021})
# Who flattens wants out: slippage is no reason to stay in.
_DEVIATION_POINTS = 1000
# One close after another: the last of many waits for all the others.
_TTL_MS = 600_000
_META = "flatten:"
_DECIMALS = 8
_SHOWN = 20


class Flatten(msgspec.Struct, frozen=True):
    """What is being flattened.

    Attributes:
        strategy: Whose positions and orders; empty: all of ours.
        serial: Tells its orders from those of others.
        since_ms: Market time of its beginning.
        alerted: Whether a person was told that it takes long.
        server, login: The account it is meant for; empty until one is known.
    """

    strategy: str
    serial: str
    since_ms: int
    alerted: bool = False
    server: str = ""
    login: int = 0


class _Attempts(msgspec.Struct):
    """Attempts at one position or order.

    Attributes:
        index: Of the next one's id.
        volume: What was open at the last one, lots.
        problem: Why none could be made.
    """

    index: int = 0
    count: int = 0
    volume: float = 0.0
    last_id: str = ""
    problem: str = ""
    not_before_ns: int = 0
    made_ms: int = 0


class Flattening:
    """Goes on with every read of the account.

    Args:
        clock: Times the pauses between attempts.
    """

    def __init__(self, desk: OrderDesk, journal: Journal, clock: Clock) -> None:
        self._desk = desk
        self._journal = journal
        self._clock = clock
        self._attempts: dict[str, _Attempts] = {}
        self._obstacle = ""
        self._open: dict[str, Flatten] = {}
        for value in journal.metas(_META).values():
            if value:
                stored = msgspec.json.decode(value.encode("utf-8"), type=Flatten)
                self._open[stored.strategy] = stored
        self._began_ns = {strategy: clock.monotonic_ns() for strategy in self._open}
        self._empty_since_ns: dict[str, int] = {}
        desk.still_flattens = self._wants

    def begin(self, batch: Batch, *, strategy: str, serial: str) -> None:
        """Flatten what is of `strategy` (empty: all of ours) from now on; what makes it survive goes into `batch`.

        One that is under way goes on, unless it is another account's.
        """
        under_way = self._open.get(strategy)
        if under_way is None or self._is_elsewhere(under_way):
            if under_way is not None:
                self._forget(under_way)
            self._began_ns[strategy] = self._clock.monotonic_ns()
            account = self._desk.account
            server, login = ("", 0) if account is None else (account.server, account.login)
            self._put(batch, Flatten(strategy, serial, self._desk.now_ms, server=server, login=login))

    def end(self, batch: Batch, *, strategy: str) -> None:
        """Leave open what is still open."""
        ended = self._open.pop(strategy, None)
        if ended is not None:
            self._forget(ended)
            batch.records.append(MetaRecord(_META + strategy, ""))

    def covers(self, strategy: str) -> bool:
        """Return whether something of `strategy` is still to be closed."""
        return strategy in self._open

    def step(self) -> None:
        """Do what can be done now: called after every read of the account."""
        for flatten in tuple(self._open.values()):
            self._step(flatten)

    def look(self) -> None:
        """Tell a person of what takes long: called every second, read or no read."""
        for flatten in tuple(self._open.values()):
            waited_s = (self._clock.monotonic_ns() - self._began_ns[flatten.strategy]) / 1e9
            if flatten.alerted or waited_s < INCOMPLETE_S or not self._journal.has_room:
                continue
            text = (
                f"{_whose(flatten)} not closed after {INCOMPLETE_S:.0f} s: {'; '.join(self.left(flatten))}. It is tried"
                " again and again; close by hand what cannot wait"
            )
            batch = Batch()
            self._alert(batch, flatten, "flatten_incomplete", "critical", text)
            self._put(batch, msgspec.structs.replace(flatten, alerted=True))
            self._desk.ledger.commit(batch)

    def status(self) -> tuple[str, ...]:
        """Return for people what is still to be closed, and what keeps it open; empty if nothing is being flattened."""
        return tuple(
            f"{_whose(flatten)} being closed: {text}" for flatten in self._open.values() for text in self.left(flatten)
        )

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What stands against every attempt at present, for people: the terminal is away, or the account not armed."""
        return (f"not possible yet: {self._obstacle}",) if self._obstacle else ()

    def counts(self, strategy: str) -> tuple[int, int]:
        """Return how many positions and pending orders there are to close."""
        return len(list(self._positions(strategy))), len(list(self._orders(strategy)))

    def may_open(self, strategy: str) -> tuple[str, ...]:
        """Return for people the orders that left before and may still open something, which is closed then."""
        return tuple(
            f"{intent.client_order_id} is {intent.state} and may still open {intent.volume:g} {intent.symbol}, which "
            "is closed as soon as it shows"
            for intent in self._desk.exposure().intents
            if intent.opens and strategy in {"", intent.strategy}
        )

    def left(self, flatten: Flatten) -> tuple[str, ...]:
        """Return for people what of `flatten` is still open, the obstacle to all of it first."""
        if self._is_elsewhere(flatten):
            return (f"the terminal is on another account than {flatten.login} at {flatten.server}",)
        found = [self._obstacle] if self._obstacle else []
        serial = flatten.serial
        found += [
            f"position {each.ticket}, {each.volume:g} {each.symbol}{self._reason(f'{serial}:{each.identifier}')}"
            for each in self._positions(flatten.strategy)
        ]
        found += [
            f"order {each.ticket} on {each.symbol}{self._reason(f'{serial}:order:{each.ticket}')}"
            for each in self._orders(flatten.strategy)
        ]
        found += self.may_open(flatten.strategy)
        if len(found) > _SHOWN:
            found[_SHOWN:] = [f"and {len(found) - _SHOWN} more"]
        return tuple(found) or ("the next read of the account has to confirm it",)

    # --- Attempts -----------------------------------------------------------------------------------------------

    def _step(self, flatten: Flatten) -> None:
        strategy = flatten.strategy
        try:
            self._desk.check_ready()
            self._check_armed()
        except BusError as error:
            self._obstacle = error.text
            self._empty_since_ns.pop(strategy, None)
            return
        self._obstacle = ""
        if self._is_elsewhere(flatten):
            return  # what is open there stays to be closed: this account says nothing about it
        flatten = self._bound(flatten)
        positions, orders = list(self._positions(strategy)), list(self._orders(strategy))
        if not positions and not orders and not self.may_open(strategy):
            if self._stays_empty(strategy):
                self._finish(flatten)
            return
        self._empty_since_ns.pop(strategy, None)
        for position in positions:
            self._try(f"{flatten.serial}:{position.identifier}", position, partial(self._closes_of, position))
        for order in orders:
            self._try(f"{flatten.serial}:order:{order.ticket}", order, partial(self._removal_of, order))

    def _is_elsewhere(self, flatten: Flatten) -> bool:
        account = self._desk.account
        return account is not None and (flatten.server, flatten.login) not in {
            ("", 0),
            (account.server, account.login),
        }

    def _bound(self, flatten: Flatten) -> Flatten:
        """Return it with the account it is meant for: the first one it is seen on."""
        account = self._desk.account
        if flatten.login or account is None:
            return flatten
        bound = msgspec.structs.replace(flatten, server=account.server, login=account.login)
        batch = Batch()
        self._put(batch, bound)
        self._desk.ledger.commit(batch)
        return bound

    def _stays_empty(self, strategy: str) -> bool:
        """Whether what is not shown is gone, rather than not shown yet."""
        now_ns = self._clock.monotonic_ns()
        since_ns = self._empty_since_ns.setdefault(strategy, now_ns)
        return not self._desk.misses_something or now_ns - since_ns >= GONE_S * 1e9

    def _check_armed(self) -> None:
        account = self._desk.account
        if account is not None and not self._desk.gate.is_armed(account):
            raise BusError("the account is a real one that is not armed, so nothing is sent: arm it, or close by hand")

    def _try(self, name: str, subject: Position | Order, make: Callable[[], list[Draft]]) -> None:
        volume = subject.volume if isinstance(subject, Position) else subject.volume_current
        attempts = self._attempts.setdefault(name, _Attempts())
        if attempts.volume != volume:  # something of it was closed: no reason to wait
            attempts.volume, attempts.count, attempts.not_before_ns = volume, 0, 0
        if not self._is_due(attempts, subject.symbol):
            return
        try:
            drafts = make()
        except (BusError, FillingError, ArithmeticError) as error:
            drafts, attempts.problem = [], str(error)
        for draft in drafts:
            attempts.problem = ""
            attempts.last_id = self._new_id(name, attempts)
            self._desk.submit_internal(
                draft, client_order_id=attempts.last_id, strategy=subject.strategy, ttl_ms=_TTL_MS
            )
        if drafts or attempts.problem:
            pause_s = min(_FIRST_PAUSE_S * 2.0**attempts.count, _LONGEST_PAUSE_S)
            attempts.count = min(attempts.count + 1, 10)
            attempts.made_ms = self._desk.now_ms
            attempts.not_before_ns = self._clock.monotonic_ns() + round(pause_s * 1e9)

    def _is_due(self, attempts: _Attempts, symbol: str) -> bool:
        last = self._desk.book.find(attempts.last_id) if attempts.last_id else None
        if last is None or last.retcode not in _MARKET_CLOSED:
            return self._clock.monotonic_ns() >= attempts.not_before_ns
        # A closed market opens with a tick; without one it is tried rarely.
        waited_s = (self._desk.now_ms - attempts.made_ms) / 1000
        quote = self._desk.quote(symbol)
        quoted = quote is not None and quote.time_ms > attempts.made_ms
        return waited_s >= (_QUOTED_PAUSE_S if quoted else _CLOSED_PAUSE_S)

    def _wants(self, client_order_id: str) -> bool:
        """Say whether an order that was made to flatten, and has not been sent yet, still belongs to something open."""
        return any(client_order_id.startswith(f"{FLATTEN_PREFIX}{each.serial}:") for each in self._open.values())

    def _new_id(self, name: str, attempts: _Attempts) -> str:
        while True:
            client_order_id = f"{FLATTEN_PREFIX}{name}:{attempts.index}"
            attempts.index += 1
            if self._desk.book.find(client_order_id) is None:  # an earlier life may have used it
                return client_order_id

    def _closes_of(self, position: Position) -> list[Draft]:
        """Return the closes of a position, in pieces that one order may have; none while it is being closed."""
        desk = self._desk
        # What was closed unseen, or is being closed, may be all of it: the outcome first.
        if closing_volume(desk.exposure(), position.identifier):
            return []
        instrument = desk.instrument(position.symbol)
        left = round(position.volume, _DECIMALS)
        # A specification without a step or a largest volume must not keep anyone in: then it is tried in one piece.
        step = instrument.volume_step
        largest = (floor_to_step(instrument.volume_max, step) if step > 0 else instrument.volume_max) or left
        pieces: list[float] = []
        while left > 0:
            pieces.append(min(left, largest))
            left = round(left - pieces[-1], _DECIMALS)
        return [
            Draft(
                action="close",
                symbol=instrument.symbol,
                broker_symbol=instrument.broker_symbol,
                side=opposite(side_of_position(position)),
                volume=volume,
                deviation_points=_DEVIATION_POINTS,
                filling=int(choose_filling(instrument, preferred=Filling.IOC)),
                ticket=position.ticket,
                position=position.identifier,
                reduces=True,
            )
            for volume in pieces
        ]

    def _removal_of(self, order: Order) -> list[Draft]:
        removing = (i for i in self._desk.exposure().intents if i.action == "cancel" and is_working(i))
        if any(intent.order == order.ticket for intent in removing):
            return []
        instrument = self._desk.instrument(order.symbol)
        return [
            Draft(
                action="cancel",
                symbol=order.symbol,
                broker_symbol=instrument.broker_symbol,
                side=side_of_order(order),
                order=order.ticket,
                reduces=True,
            )
        ]

    # --- What is there ------------------------------------------------------------------------------------------

    def _positions(self, strategy: str) -> Iterable[Position]:
        desk = self._desk
        for each in desk.positions:
            if desk.is_ours(each.magic, each.comment, each.identifier) and strategy in {"", each.strategy}:
                yield each

    def _orders(self, strategy: str) -> Iterable[Order]:
        desk = self._desk
        for each in desk.orders:
            if desk.is_ours(each.magic, each.comment, 0) and strategy in {"", each.strategy}:
                yield each

    def _reason(self, name: str) -> str:
        attempts = self._attempts.get(name)
        if attempts is None:
            return ""
        if attempts.problem:
            return f" ({attempts.problem})"
        last = self._desk.book.find(attempts.last_id) if attempts.last_id else None
        return "" if last is None else f" ({last.state}{': ' if last.text else ''}{last.text})"

    # --- Beginning and end --------------------------------------------------------------------------------------

    def _put(self, batch: Batch, flatten: Flatten) -> None:
        self._open[flatten.strategy] = flatten
        batch.records.append(MetaRecord(_META + flatten.strategy, msgspec.json.encode(flatten).decode("utf-8")))

    def _finish(self, flatten: Flatten) -> None:
        if not self._journal.has_room:
            return
        batch = Batch()
        self._alert(batch, flatten, "flattened", "warning", f"{_whose(flatten)} closed: nothing of it is open any more")
        self.end(batch, strategy=flatten.strategy)
        self._desk.ledger.commit(batch)

    def _forget(self, flatten: Flatten) -> None:
        self._attempts = {n: a for n, a in self._attempts.items() if not n.startswith(f"{flatten.serial}:")}
        self._empty_since_ns.pop(flatten.strategy, None)
        self._began_ns.pop(flatten.strategy, None)

    def _alert(self, batch: Batch, flatten: Flatten, code: str, severity: str, text: str) -> None:
        account = self._desk.account
        server, login = ("", 0) if account is None else (account.server, account.login)
        fields = {"strategy": flatten.strategy} if flatten.strategy else {}
        body = AlertEvent(f"{code}:{flatten.serial}", severity, code, text, fields)
        batch.records.append(EventRecord(body, server, login, self._desk.now_ms))


def _whose(flatten: Flatten) -> str:
    return f"what the strategy {flatten.strategy} holds is" if flatten.strategy else "everything of ours is"
