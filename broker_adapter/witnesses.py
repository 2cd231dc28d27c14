"""What an order carries, and what is noted beside it, so that its effect can be recognised later.

Three witnesses, because a broker may take any of them away:

* the magic number: 7-bit tag, 16-bit strategy number, 40-bit intent number, in all below 2**63, which is where the
  terminal's own language stops (one magic for all orders, if the user fixed one);
* the comment: starts with a code of the intent, at most 29 ASCII characters, letters, digits and underscores only;
* the tickets that existed on the symbol before the order was sent.

Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

TAG_BITS = 7
STRATEGY_BITS = 16
INTENT_BITS = 40
MAX_TAG = (1 << TAG_BITS) - 1
MAX_STRATEGY = (1 << STRATEGY_BITS) - 1
MAX_INTENT = (1 << INTENT_BITS) - 1

MAX_COMMENT = 29
"""Longest comment that the API takes, in characters."""

# Crockford's base 32: no letters that a person mistakes for digits. Eight of them hold 40 bits.
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 8
_MARK = "mb"
_CODE = re.compile(rf"{_MARK}([{_DIGITS}]{{{_CODE_LENGTH}}})")
_PLAIN = re.compile(r"[^A-Za-z0-9_]+")

# A new journal starts counting where no earlier journal of the same account can have got to: intents would have to
# be made at over 1024 a second for the whole time between the two. 40 bits last until 2054.
_NUMBERS_A_SECOND = 1024
_NUMBERS_FROM_S = 1_577_836_800  # 2020-01-01


class MagicParts(NamedTuple):
    """What a magic number of ours says."""

    tag: int
    strategy_number: int
    intent_number: int


class KnownTickets(msgspec.Struct, frozen=True):
    """What existed on the symbol when the intent was made: none of it can be the intent's effect.

    Attributes:
        positions: Identifiers of the symbol's open positions.
        orders: Tickets of its active orders.
        newest_deal: Largest deal ticket seen on the account; 0 if none.
    """

    positions: tuple[int, ...] = ()
    orders: tuple[int, ...] = ()
    newest_deal: int = 0


def make_magic(tag: int, strategy_number: int, intent_number: int) -> int:
    """Return the magic number of an intent.

    Raises:
        ValueError: A part is out of its range (tag 1 to 127, strategy number 0 to 65535, intent number 1 to 2**40 - 1).
    """
    if not (1 <= tag <= MAX_TAG and 0 <= strategy_number <= MAX_STRATEGY and 1 <= intent_number <= MAX_INTENT):
        raise ValueError(f"no magic number holds tag {tag}, strategy {strategy_number} and intent {intent_number}")
    return (tag << (STRATEGY_BITS + INTENT_BITS)) | (strategy_number << INTENT_BITS) | intent_number


def parse_magic(magic: int, tag: int) -> MagicParts | None:
    """Return the parts of `magic`, or None if it does not carry our `tag`."""
    if not 0 < magic < 1 << 63 or magic >> (STRATEGY_BITS + INTENT_BITS) != tag:
        return None
    return MagicParts(tag, (magic >> INTENT_BITS) & MAX_STRATEGY, magic & MAX_INTENT)


def intent_code(intent_number: int) -> str:
    """Return the code that a comment carries for the intent: ``mb`` and eight base-32 digits."""
    digits = [_DIGITS[(intent_number >> shift) & 31] for shift in range(5 * (_CODE_LENGTH - 1), -1, -5)]
    return _MARK + "".join(digits)


def make_comment(intent_number: int, users_comment: str) -> str:
    """Return the comment to send: the intent's code, then as much of the user's comment as fits.

    Anything but letters, digits and underscores becomes an underscore: some brokers refuse more.
    """
    code = intent_code(intent_number)
    plain = _PLAIN.sub("_", users_comment)
    return f"{code}_{plain}"[:MAX_COMMENT] if plain else code


def parse_comment(comment: str) -> int | None:
    """Return the intent number whose code stands in `comment`, also if a broker put something before or after it."""
    found = _CODE.search(comment)
    if found is None:
        return None
    number = 0
    for digit in found[1]:
        number = number << 5 | _DIGITS.index(digit)
    return number or None


def first_intent_number(wall_ms: int) -> int:
    """Return where a journal made at `wall_ms` (UTC) starts counting its intents."""
    seconds = max(0, wall_ms // 1000 - _NUMBERS_FROM_S)
    return min(seconds * _NUMBERS_A_SECOND + 1, MAX_INTENT)
