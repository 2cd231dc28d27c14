"""What the facts leave open, each with an id, and why no program can settle some of it.

A question that a program can settle has a case that names it (`Case.settles`); what the case returns is the answer.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Question(NamedTuple):
    """One open fact."""

    id: str
    text: str
    unsettled: str = ""
    """Why no program settles it; '': a case does."""


_NEEDS_CUT: Final = "the link to the broker has to be cut from outside"
_NEEDS_HANDS: Final = "a setting of the terminal has to be changed by hand, then this is to be run again"
_NEEDS_INSTALLATION: Final = "it concerns starting and updating the terminal, not its API"

QUESTIONS: Final = (
    # Processes and connection
    Question("clients-count", "how many processes attach to one terminal at once (tried up to 8)"),
    Question("clients-parallel", "whether a long call of one process holds up another"),
    Question("client-killed", "whether the place of a killed process is free at once"),
    Question("book-after-shutdown", "whether a subscription to depth outlives the connection"),
    Question("stale-while-offline", "what a terminal without its broker shows", _NEEDS_CUT),
    Question("link-lost-retcode", "which of 10031, 10012, 10011 follows a link lost during order_send", _NEEDS_CUT),
    Question("silent-broker", "how long order_send blocks on a silent broker, and the retcode then", _NEEDS_CUT),
    Question("api-switch", "whether the Python API option shows in tradeapi_disabled and gives -8 or 10027"),
    Question("api-switch-key", "the ini key of the Python API option", _NEEDS_HANDS),
    Question("config-encoding", "which encodings /config accepts", _NEEDS_INSTALLATION),
    Question("skipupdate", "whether /skipupdate exists", _NEEDS_INSTALLATION),
    Question("update-switches", "whether LiveUpdate keeps the command line's switches", _NEEDS_INSTALLATION),
    Question("memory-growth", "whether the module's memory grows", "it takes days: watch the links' memory instead"),
    # Symbols, ticks, bars
    Question("unselected-symbol", "what symbol_info shows of a symbol outside Market Watch"),
    Question("market-watch-maximum", "how many symbols Market Watch takes", "it would fill the user's Market Watch"),
    Question("first-copy", "what the first copy call for a symbol gives, and how long it blocks"),
    Question("tick-order", "whether two copies of the same ticks are the same, in the same order"),
    Question("tick-range-end", "whether the end of a tick range includes what comes after the second began"),
    Question("tick-history", "how far ticks and bars reach back"),
    Question("too-many-bars", "what asking for as many bars as the chart holds gives"),
    Question("longer-bars", "whether longer bars are built from M1"),
    Question("spread-m1", "which spread of its ticks an M1 bar shows"),
    Question("spread-longer", "which spread of its parts a longer bar shows"),
    Question("server-offset", "how far the server's clock is from UTC"),
    # Trading
    Question("missing-action", "the retcode of a request without an action"),
    Question("check-refused", "which numbers a refused order_check shows"),
    Question("check-margin", "whether order_check's margin is the total or what the trade adds"),
    Question("comments", "the comments beside the return codes"),
    Question("terminal-or-server", "which refusals have a request_id, so come from the server"),
    Question("equity", "whether equity is balance + credit + sum of profit and swap"),
    Question("balance", "whether the balance is the sum over all deals of profit, commission, swap and fee"),
    Question("deals-by-ticket", "whether history_deals_get(ticket=) takes a deal's or an order's ticket"),
    Question("filled-volume", "volume_current of a filled order"),
    Question("visible-after", "how long after 10009 the position is visible"),
    Question("commission", "which deals of a position carry commission"),
    Question("magic", "whether a magic above 2^63 comes back"),
    Question("close-magic", "whose magic a closing deal has"),
    Question("sltp-result", "the order and deal fields of the result of SLTP"),
    Question("close-by-result", "the order and deal fields of the result of CLOSE_BY"),
    Question("pending-retcode", "the retcode of a placed pending order"),
    Question("pending-filling", "which filling values a pending order may have"),
    Question("through-the-market", "what a limit order priced through the market gives"),
    Question("expiration-clock", "which clock `expiration` is on"),
    Question("stops-in-request", "whether an opening deal may carry SL and TP"),
    Question("stop-close", "comment and magic of the deal of a hit SL or TP"),
    Question("instant-price", "which price within the deviation an Instant order fills at"),
    Question("stop-out-close", "comment and magic of a stop-out's deal", "it would ruin the account"),
    Question("limit-gap", "the price of a limit order that the market jumped over", "it takes a gap of the market"),
    Question("swap-clock", "when and how swap is charged", "a position has to be held over the server's midnight"),
)
BY_ID: Final = {question.id: question for question in QUESTIONS}
