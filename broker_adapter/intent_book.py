"""The intents that matter now, in memory, with the journal behind them: lookups, counts, and whose something is."""

from __future__ import annotations

from collections.abc import Mapping

from broker_adapter.evidence import Marks
from broker_adapter.intents import CHANGING_ORDERS, Intent
from broker_adapter.journal import Journal
from broker_adapter.order_states import State, after_restart
from broker_adapter.witnesses import parse_magic
from protocol.messages import OrderCounts

_REMEMBERED = 20_000  # attributions kept in memory; beyond it they are looked up again


class IntentBook:
    """Every intent by what names it. Belongs to the loop.

    Args:
        strategies: Name of each strategy by its number, to attribute what an earlier journal's orders left behind.
    """

    def __init__(self, journal: Journal, *, tag: int, fixed_magic: int, strategies: Mapping[int, str]) -> None:
        self._journal = journal
        self._strategies = strategies
        self.tag = tag
        self._held: dict[int, Intent] = {}
        self._numbers: dict[str, int] = {}
        self._undurable: dict[int, int] = {}
        # Whose something is never changes once its order is known; until then a new answer may tell.
        self._attributed: dict[tuple[int, str, int, int, bool], tuple[str, str]] = {}
        self._unattributed: dict[tuple[int, str, int, int, bool], tuple[str, str]] = {}
        self._counts = journal.counts()
        self.marks = Marks(tag=tag, fixed_magic=fixed_magic, claimed_orders=_ClaimedOrders(self))

    def recover(self) -> tuple[Intent, ...]:
        """Take over what the journal's last life left open, as it looks after a restart; return those that changed."""
        changed = []
        for stored in self._journal.live_intents():
            state = after_restart(stored.state)
            intent = stored
            if state is not stored.state:
                text = "the adapter was restarted while the order was in flight"
                intent = stored.moved(state, code="unknown_outcome", text=text)
                changed.append(intent)
            self._hold(intent)
            self._count(stored, intent)
        return tuple(changed)

    # --- Changing -----------------------------------------------------------------------------------------------

    def put(self, intent: Intent) -> None:
        """Enter an intent's new state. It is held in memory until `durable` was called for it and nothing is open."""
        self._count(self._held.get(intent.number) or self._journal.intent_by_number(intent.number), intent)
        self._hold(intent)
        self._undurable[intent.number] = self._undurable.get(intent.number, 0) + 1
        self._unattributed.clear()

    def note(self, intent: Intent) -> None:
        """Take over a state that lives in memory only."""
        self._hold(intent)
        self._unattributed.clear()

    def durable(self, number: int) -> None:
        """Say that one `put` of the intent is on disk."""
        waiting = self._undurable.get(number, 0) - 1
        if waiting > 0:
            self._undurable[number] = waiting
            return
        self._undurable.pop(number, None)
        intent = self._held.get(number)
        if intent is not None and not intent.live:
            del self._held[number]
            del self._numbers[intent.client_order_id]

    def is_durable(self, number: int) -> bool:
        """Whether the intent's newest state is on disk."""
        return number not in self._undurable

    # --- Finding ------------------------------------------------------------------------------------------------

    def find(self, client_order_id: str) -> Intent | None:
        """Return the intent under a client order id."""
        number = self._numbers.get(client_order_id)
        return self._held[number] if number is not None else self._journal.intent(client_order_id)

    def by_number(self, number: int) -> Intent | None:
        """Return the intent of that number."""
        return self._held.get(number) or self._journal.intent_by_number(number)

    def held(self) -> tuple[Intent, ...]:
        """Return the intents in memory: all that are open, undecided, or watched; and a few just finished."""
        return tuple(self._held.values())

    def by_order(self, order: int) -> Intent | None:
        """Return the intent that made the order of that ticket."""
        for intent in self._held.values():
            if order and intent.order == order and intent.action not in CHANGING_ORDERS:
                return intent
        return self._journal.intent_by_order(order)

    def opener_of(self, position: int) -> Intent | None:
        """Return the intent that opened the position of that identifier."""
        # Where positions net, later orders added to it: the first one opened it.
        found = [i for i in self._held.values() if position and i.position == position and i.opens]
        stored = self._journal.opener_of(position)
        if stored is not None:
            found.append(stored)
        return min(found, key=lambda intent: intent.number, default=None)

    def counts(self) -> OrderCounts:
        """Return how our orders fared since the journal began."""
        return self._counts

    # --- Whose it is --------------------------------------------------------------------------------------------

    def of(self, *, magic: int, comment: str, order: int, position: int, opening: bool) -> tuple[str, str]:
        """Return strategy and client order id of something on the account; see `trade_events.Attribution`."""
        key = (magic, comment, order, position, opening)
        found = self._attributed.get(key) or self._unattributed.get(key)
        if found is None:
            found = self._attribute(*key)
            cache = self._attributed if found[1] else self._unattributed
            if len(cache) >= _REMEMBERED:
                cache.clear()
            cache[key] = found
        return found

    def is_ours(self, magic: int, comment: str, position: int) -> bool:
        """Say whether a position was opened by an order of ours (also of an earlier journal's, by its magic)."""
        if self.marks.fixed_magic and magic == self.marks.fixed_magic:
            return True
        if parse_magic(magic, self.tag) is not None and not self.marks.fixed_magic:
            return True
        number = self.marks.intent_number(magic, comment)
        return (number is not None and self.by_number(number) is not None) or self.opener_of(position) is not None

    def _attribute(self, magic: int, comment: str, order: int, position: int, opening: bool) -> tuple[str, str]:
        number = self.marks.intent_number(magic, comment)
        intent = None if number is None else self.by_number(number)
        if intent is not None:
            # A stop that the server executes may carry the magic of the position's opener: its strategy, not its order.
            made_it = opening or intent.order in {0, order}
            return intent.strategy, intent.client_order_id if made_it else ""
        intent = self.by_order(order)
        if intent is not None:
            return intent.strategy, intent.client_order_id
        intent = self.opener_of(position)
        if intent is not None:
            return intent.strategy, intent.client_order_id if opening else ""
        parts = None if self.marks.fixed_magic else parse_magic(magic, self.tag)
        return ("" if parts is None else self._strategies.get(parts.strategy_number, "")), ""

    def _hold(self, intent: Intent) -> None:
        self._held[intent.number] = intent
        self._numbers[intent.client_order_id] = intent.number

    def _count(self, before: Intent | None, after: Intent) -> None:
        old = (0, 0, 0, 0) if before is None else _tally(before)
        new = _tally(after)
        c = self._counts
        totals = (c.submitted, c.filled, c.rejected, c.unknown)
        self._counts = OrderCounts(*(total - o + n for total, o, n in zip(totals, old, new, strict=True)))


class _ClaimedOrders:
    """The order tickets that orders of ours are known to have made."""

    def __init__(self, book: IntentBook) -> None:
        self._book = book

    def __contains__(self, order: object) -> bool:
        return isinstance(order, int) and self._book.by_order(order) is not None


def _tally(intent: Intent) -> tuple[int, int, int, int]:
    state = intent.state
    return (
        int(state is not State.REFUSED),
        int(intent.filled_volume > 0),
        int(state in {State.REJECTED, State.REFUSED}),
        int(state in {State.UNKNOWN, State.AMBIGUOUS}),
    )
