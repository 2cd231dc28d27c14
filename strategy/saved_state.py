"""A strategy's saved state: what a restart needs, in one file that is replaced as a whole.

It is written after bars and at the stop, without waiting for the disk: after a power cut it may be older or damaged,
which a checksum shows. An older state repeats decisions only under the ids they had.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from mt5bus.files import replace_with_retry
from mt5bus.home import file_name
from strategy.dispatch_log import START, LogPosition
from strategy.inputs import Decision
from strategy.order_ids import AccountKey

VERSION = 1
_MAGIC = b"mt5bus-state\n"
_DIGEST_BYTES = 16

log = logging.getLogger(__name__)


class SavedState(msgspec.Struct, frozen=True, array_like=True):
    """What is kept between two lives of one strategy on one account.

    Attributes:
        log_id, event_offset: The last event dispatched.
        last_bars: By symbol, the open time of the newest bar delivered, UTC milliseconds.
        dispatched: How far the dispatch log had come.
        unsettled: Orders and signals whose outcome was not known then.
        state: What `save_state` gave; None where the strategy keeps none.
    """

    version: int
    log_id: str = ""
    event_offset: int = 0
    last_bars: dict[str, int] = {}
    dispatched: LogPosition = START
    unsettled: tuple[Decision, ...] = ()
    state: bytes | None = None


_decoder = msgspec.msgpack.Decoder(SavedState)


class StateFile:
    """The file of one strategy and one account: another account has another file."""

    def __init__(self, folder: Path, account: AccountKey) -> None:
        self.path = folder / f"state-{file_name(account.server or 'unnamed')}-{account.login}.mpk"
        self.refused = ""

    def load(self) -> SavedState:
        """Return the saved state, or an empty one where there is none.

        A damaged file is set aside (``.damaged``), logged, and counts as none: the strategy warms up from history.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return SavedState(VERSION)
        body = data[len(_MAGIC) + _DIGEST_BYTES :]
        if data.startswith(_MAGIC) and data[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES] == _digest(body):
            try:
                found = _decoder.decode(body)
            except msgspec.MsgspecError:
                found = None
            if found is not None and found.version <= VERSION:
                return found
        log.error("a saved state cannot be used: it is set aside", extra={"file": str(self.path)})
        replace_with_retry(self.path, self.path.with_suffix(".damaged"))
        return SavedState(VERSION)

    def save(self, state: SavedState) -> bool:
        """Replace the file; return whether that worked. A full disk is logged once and told by `refused`.

        Once, without waiting: where a scanner holds the file (Windows), the next bar saves.
        """
        body = msgspec.msgpack.encode(state)
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_bytes(_MAGIC + _digest(body) + body)
            replace_with_retry(fresh, self.path, tries=1)
        except OSError as error:
            if not self.refused:
                log.exception("a strategy's state cannot be saved", extra={"file": str(self.path)})
            self.refused = str(error)
            return False
        self.refused = ""
        return True


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
