"""Final orders and deals of a sliding window, read in a link as cheaply as may be: only what is new is handed over.

An account may have tens of thousands of deals in its window. The terminal tells their number; while that stays, nothing
is read. When it grew, the newest second is read, then the newest minutes, and all of it only where neither explains the
number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from broker_adapter.api_failure import last_failure

PAGE = 1024
"""Of each kind in one answer: decoded and converted it takes the adapter's loop some milliseconds."""
_RECENT_S = (1, 120)


class HistoryWindow:
    """One kind of record (final orders, or deals) of one window.

    Args:
        total, read: The API's functions for the window's number of records and the records.
        time_field: Whole seconds by which the API selects them.
    """

    def __init__(self, api: Any, *, total: str, read: str, time_field: str) -> None:
        self._api = api
        self._total_name = total
        self._read_name = read
        self._time_field = time_field
        self._window = (0, 0)
        self._records: dict[int, Any] = {}
        self._unsent: dict[int, Any] = {}
        self._newest_s = 0

    def look(self, window: tuple[int, int], *, anew: bool, reread: bool) -> bool:
        """Take note of what is new in `window` (server seconds); return whether everything is to be handed over.

        That is so if `anew`, and whenever the window moved. `reread`: look at records that are known, too.

        Raises:
            ApiFailure: The terminal refused; what was known before stays.
        """
        if anew or window != self._window:
            records = self._read(window)
            self._window = window
            self._records, self._unsent = {}, {}
            self._take(records)
            return True
        total = self._must(getattr(self._api, self._total_name)(*window))
        if total == len(self._records) and not reread:
            return False
        for recent_s in () if reread else _RECENT_S:
            self._take(self._read((max(window[0], self._newest_s - recent_s), window[1])))
            if len(self._records) == total:
                return False
        records = self._read(window)
        present = {int(each.ticket) for each in records}
        self._records = {ticket: known for ticket, known in self._records.items() if ticket in present}
        self._take(records)
        return False

    def page(self) -> tuple[tuple[Any, ...], bool]:
        """Return at most a page of records not handed over yet, and whether there are more."""
        tickets = list(self._unsent)[:PAGE]
        return tuple(self._unsent.pop(ticket) for ticket in tickets), bool(self._unsent)

    def _take(self, records: Any) -> None:
        for each in records:
            ticket = int(each.ticket)
            if self._records.get(ticket) != each:
                self._records[ticket] = self._unsent[ticket] = each
                self._newest_s = max(self._newest_s, int(getattr(each, self._time_field)))

    def _read(self, window: tuple[int, int]) -> Any:
        return self._must(getattr(self._api, self._read_name)(*window))

    def _must(self, value: Any) -> Any:
        if value is None:
            raise last_failure(self._api)
        return value


class HistoryNews(NamedTuple):
    """What is new. `complete`: it begins with everything there is; `more`: the next look hands over the rest."""

    orders: tuple[Any, ...]
    deals: tuple[Any, ...]
    complete: bool
    more: bool
    serial: int


class HistoryReader:
    """Both kinds, and the serial number by which link and adapter know that they mean the same past."""

    def __init__(self, api: Any) -> None:
        self._orders = HistoryWindow(
            api, total="history_orders_total", read="history_orders_get", time_field="time_done"
        )
        self._deals = HistoryWindow(api, total="history_deals_total", read="history_deals_get", time_field="time")
        self._serial = 0

    def look(self, window: tuple[int, int], *, serial: int, reread: bool) -> HistoryNews:
        """Look at orders, then deals, and return what the adapter that has come to `serial` does not have yet.

        Raises:
            ApiFailure: The terminal refused; the next look starts over.
        """
        anew = serial == 0 or serial != self._serial
        self._serial = 0  # a failure half-way makes the next look start over
        complete = self._orders.look(window, anew=anew, reread=reread)
        # Deals last: a position that is gone has its deal among them.
        complete = self._deals.look(window, anew=anew, reread=reread) or complete
        orders, more_orders = self._orders.page()
        deals, more_deals = self._deals.page()
        self._serial = serial + 1
        return HistoryNews(orders, deals, complete, more_orders or more_deals, self._serial)
