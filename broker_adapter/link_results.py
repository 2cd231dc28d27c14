"""How a call on a link ended: with a value, with the API's own failure, or lost with the link."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from broker_adapter.link_messages import PIPE_CODES
from protocol.errors import BusError, DataInvalid, NoAnswer, NotReady

T = TypeVar("T")

LostReason = Literal["timeout", "died", "never_sent"]


class LinkResult(msgspec.Struct, frozen=True):
    """What became of one command.

    Attributes:
        status: ``ok``: `value` holds what the command returns. ``failed``: the API refused; `code` and `text` are its
            `last_error` (or one of our codes in `link_messages`). ``lost``: there is no answer and never will be: the
            link that had it is dead (it was waited for), or it never reached one.
        was_sent: Only if ``lost``: the command had been handed to the link, so that it may have taken effect.
        elapsed_ms: From handing over to the answer, 0 if lost.
    """

    status: Literal["ok", "failed", "lost"]
    value: bytes = b"\xc0"
    code: int = 1
    text: str = ""
    reason: LostReason | Literal[""] = ""
    was_sent: bool = False
    elapsed_ms: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status == "ok"

    @property
    def pipe_broken(self) -> bool:
        """Whether the link has lost its terminal: it answers nothing until attached anew."""
        return self.status == "failed" and self.code in PIPE_CODES

    def decode(self, kind: type[T]) -> T:
        """Return the value as `kind`.

        Raises:
            NoAnswer: There is no value: `error()` is raised.
            DataInvalid: The API returned something else than it should.
        """
        if not self.ok:
            raise self.error()
        try:
            return msgspec.msgpack.decode(self.value, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DataInvalid(f"the terminal returned no {getattr(kind, '__name__', kind)}: {error}") from None

    def error(self) -> BusError:
        """Return why there is no value, as an error for who asked (of a command without side effects)."""
        details = {"last_error": str(self.code)} if self.status == "failed" else {"reason": self.reason}
        if self.status == "failed" and self.pipe_broken:
            return NotReady(f"the terminal is not connected ({self.code}: {self.text}): it is being attached", details)
        if self.status == "failed":
            return NoAnswer(f"the terminal refused the call ({self.code}: {self.text}); it may work later", details)
        if self.reason == "timeout":
            return NoAnswer("the terminal did not answer in time; the link to it is being replaced", details)
        return NoAnswer("the link to the terminal was lost or is overloaded; it is being replaced", details)
