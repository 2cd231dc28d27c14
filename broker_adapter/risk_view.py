"""The risk report as text and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from market.risk import LimitUse
from protocol.messages import RiskReport

_NUMBER = ".10g"


def lines(report: RiskReport) -> Iterator[str]:
    """Yield the report as lines of text."""
    if not report.login:
        yield "account: not read yet"
    else:
        kind = "real" if report.real else "not real"
        arming = "armed" if report.armed else "observed only: 'mt5bus arm' lets orders out"
        yield f"account {report.login} at {report.server} ({kind}): {arming if report.real else 'needs no arming'}"
    yield f"trading {report.trading_mode}{f': {report.reason}' if report.reason else ''}"
    yield from (f"flatten: {text}" for text in report.flatten)
    for each in report.strategies:
        yield (
            f"strategy {each.name} {each.state}: heard of {each.silent_s:g} s ago, limit {each.limit_s:g} s, then"
            f" {each.action}; {', '.join(each.symbols)}"
        )
    rows: list[tuple[str, ...]] = [("limit", "symbol", "now", "allowed", "left", "unit")]
    rows += [_row(use) for use in (*report.limits, *(use for symbol in report.symbols for use in symbol.limits))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    for symbol in report.symbols:
        yield f"{symbol.symbol}: {f'no new exposure now: {symbol.refusal}' if symbol.code else 'takes new exposure'}"


def plain(report: RiskReport) -> dict[str, Any]:
    """Return the report as plain values: objects by field name, what is left beside each limit."""
    return {
        "account": {
            "server": report.server,
            "login": report.login,
            "currency": report.currency,
            "real": report.real,
            "armed": report.armed,
        },
        "trading_mode": report.trading_mode,
        "reason": report.reason,
        "limits": [_plain_use(use) for use in report.limits],
        "symbols": [
            {
                "symbol": symbol.symbol,
                "code": symbol.code,
                "refusal": symbol.refusal,
                "limits": [_plain_use(use) for use in symbol.limits],
            }
            for symbol in report.symbols
        ],
        "strategies": [msgspec.structs.asdict(strategy) for strategy in report.strategies],
        "flatten": list(report.flatten),
    }


def _row(use: LimitUse) -> tuple[str, ...]:
    limit = "none" if use.limit is None else format(use.limit, _NUMBER)
    return (use.name, use.symbol, _number(use.used), limit, _number(use.left), use.unit)


def _number(value: float | None) -> str:
    return "-" if value is None else format(round(value, 8), _NUMBER)


def _plain_use(use: LimitUse) -> dict[str, Any]:
    left = None if use.left is None else round(use.left, 8)
    return {"name": use.name, "unit": use.unit, "limit": use.limit, "used": use.used, "left": left}
