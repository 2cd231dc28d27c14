"""What a strategy's earlier lives left open: orders and signals that were decided and whose fate nobody noted."""

from __future__ import annotations

from pathlib import Path

from protocol.messages import IntentEvent, OrderRequest, ReportSignal, Request, Snapshot
from strategy.dispatch_log import START, LogPosition, log_files, read_log
from strategy.inputs import Decision, Occurred, Record, Refused
from strategy.saved_state import SavedState


def unsettled(folder: Path, saved: SavedState, snapshot: Snapshot) -> tuple[Decision, ...]:
    """Return the decisions to find out about: those saved, and those in the log after the save.

    An order of which the snapshot or a logged event speaks is settled: the adapter has it. A signal is reported again
    whenever it may not have been acknowledged. Without a saved place in the log its newest file is read.

    Raises:
        OSError: The log cannot be read.
    """
    tail = _tail(folder, saved.dispatched)
    found: dict[str, Decision] = {}
    for decision in (*saved.unsettled, *(decision for record in tail for decision in record.decisions)):
        found[identity(decision.request())] = decision
    known = {intent.client_order_id for intent in snapshot.intents}
    known |= {order for record in tail for order in _spoken_of(record)}
    return tuple(decision for name, decision in found.items() if name not in known)


def identity(request: Request) -> str:
    """Return what names a decision in logs and sets: the client order id, or the signal's id marked as one."""
    if isinstance(request, ReportSignal):
        return f"signal {request.signal.signal_id}"
    return request.client_order_id if isinstance(request, OrderRequest) else request.kind


def _tail(folder: Path, start: LogPosition) -> list[Record]:
    if start == START:
        files = log_files(folder)
        if not files:
            return []
        start = LogPosition(files[-1][0].name, 0)
    return [record for _, record in read_log(folder, start)]


def _spoken_of(record: Record) -> list[str]:
    match record.input:
        case Occurred(event=event) if isinstance(event.body, IntentEvent):
            return [event.body.client_order_id]
        case Refused(outcome=outcome):
            return [outcome.client_order_id]
        case _:
            return []
