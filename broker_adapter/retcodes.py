"""What every answer of `order_send` means for an order, as one table.

Source of codes and meanings: MQL5 documentation, trade server return codes; last_error codes of the Python package.
The rule: a code is a refusal only if it says definitely that nothing happened. Every other code, and every code not
listed here, leaves the outcome open.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from protocol import errors


class Verdict(Enum):
    """What an answer says."""

    DONE = "carried out; the details are in the broker's records"
    PLACED = "accepted; the effect may come later or never"
    NO_CHANGE = "the values were already so"
    REFUSED = "nothing happened"
    OPEN = "may or may not have taken effect"


class Meaning(NamedTuple):
    """One row: the verdict, the error a refusal becomes, and the sentence for people."""

    verdict: Verdict
    error: type[errors.BusError]
    text: str


_MARKET = errors.MarketRefused
_UNKNOWN = errors.UnknownOutcome


def _refused(text: str, error: type[errors.BusError] = _MARKET) -> Meaning:
    return Meaning(Verdict.REFUSED, error, text)


def _open(text: str) -> Meaning:
    return Meaning(Verdict.OPEN, _UNKNOWN, text)


RETCODES: dict[int, Meaning] = {
    10004: _refused("requote: the price moved beyond the deviation; ask again at the new price"),
    10006: _refused("the dealer or server rejected the request"),
    10007: _refused("the request was cancelled by the trader"),
    10008: Meaning(Verdict.PLACED, _UNKNOWN, "placed: the server accepted the order, its fill is still to be seen"),
    10009: Meaning(Verdict.DONE, errors.BusError, "done"),
    10010: Meaning(Verdict.DONE, errors.BusError, "done in part"),
    10011: _open("the server reported a processing error, which does not say whether the order took effect"),
    10012: _open("the request timed out at the server, which does not say whether the order took effect"),
    10013: _refused("the request is invalid, or another change of the same object is under way"),
    10014: _refused("the volume is not one the symbol takes"),
    10015: _refused("the price is not one the symbol takes now"),
    10016: _refused("SL or TP is on the wrong side or too near the price"),
    10017: _refused("trading is disabled for the symbol or the account"),
    10018: _refused("the market is closed"),
    10019: _refused("not enough free margin"),
    10020: _refused("the price changed; ask again at the new price"),
    10021: _refused("there are no quotes to deal on"),
    10022: _refused("the expiration is in the past or of a kind the symbol does not take"),
    10023: _open("the order's state changed meanwhile: its present state decides"),
    10024: _refused("too many requests: slow down"),
    10025: Meaning(Verdict.NO_CHANGE, errors.BusError, "the values were already so"),
    10026: _refused("the broker forbids automated trading on this account"),
    10027: _refused("AutoTrading is switched off in the terminal: switch it on there"),
    10028: _open("the request is locked for processing"),
    10029: _refused("the price is inside the freeze level: nothing can be changed now"),
    10030: _refused("the symbol does not take this filling"),
    10031: _open("no connection to the trade server; the link may have dropped after the order had left"),
    10032: _refused("allowed on real accounts only"),
    10033: _refused("the account's limit of pending orders is reached"),
    10034: _refused("the symbol's volume limit is reached"),
    10035: _refused("the symbol does not take this type of order"),
    10036: _refused("the position is already closed"),
    10038: _refused("the volume to close is larger than the position"),
    10039: _open("a closing order for the position is already at work"),
    10040: _refused("the account's limit of positions is reached"),
    10041: _refused("the activation of the pending order was refused and it was cancelled"),
    10042: _refused("the symbol takes long positions only"),
    10043: _refused("the symbol takes short positions only"),
    10044: _refused("the symbol takes closing only"),
    10045: _refused("the account closes first-in first-out only"),
    10046: _refused("the account does not take opposite positions on one symbol"),
}

NO_RESULT: dict[int, Meaning] = {
    # order_send returned None; the key is last_error's code.
    -2: _refused("the request was refused before it was sent", errors.ValidationFailed),
    -7: _refused("the terminal does not support this request", errors.ValidationFailed),
    -8: _refused("the terminal's options forbid trading through the Python API: allow it there"),
    -10000: _open("the terminal's reply belonged to another call"),
    -10001: _open("writing the request to the terminal failed"),
    -10002: _open("the terminal's reply was lost after the request had gone out"),
    -10004: _refused("there is no connection to the terminal, so nothing was sent", errors.NoConnection),
}


def meaning_of(retcode: int) -> Meaning:
    """Return the row of a trade retcode; one that is not in the table leaves the outcome open."""
    return RETCODES.get(retcode) or _open(f"retcode {retcode} is not known here, so it proves nothing")


def meaning_of_no_result(last_error: int) -> Meaning:
    """Return the row of a last_error code after `order_send` returned None; not in the table: outcome open."""
    return NO_RESULT.get(last_error) or _open(f"order_send gave no result and error {last_error}, which proves nothing")
