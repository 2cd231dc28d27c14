"""The broker's clock as this adapter knows it: the rule, how sure it is, conversions, and market time.

The rule is configured, or measured from live ticks. Until it is measured it is assumed (the last one known here, else
New York + 7): good enough to show prices, not for expirations, backfill or new exposure.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from market.server_time import OffsetEstimator, ServerTimeRule, choose_rule
from mt5bus.errors import ConfigError
from protocol.clock import Clock
from protocol.ticks import RATE_DTYPE, TICK_DTYPE

ASSUMED_RULE = "ny+7"
FILE_NAME = "server_time.txt"
Status = Literal["assumed", "measured", "configured"]

log = logging.getLogger(__name__)


def parse_setting(text: str) -> ServerTimeRule | None:
    """Return the rule that the setting names; None for ``auto``.

    Besides the rules of `market.server_time`: ``utc+3``, ``utc-5``, ``utc+5:30``.

    Raises:
        ConfigError: There is no such rule.
    """
    if text == "auto":
        return None
    plain = re.fullmatch(r"utc([+-])(\d{1,2})(?::(\d{2}))?", text)
    if plain is not None:
        minutes = int(plain[2]) * 60 + int(plain[3] or 0)
        text = f"fixed:{plain[1]}{minutes}"
    try:
        return ServerTimeRule.parse(text)
    except ValueError as error:
        raise ConfigError(f"key 'adapter.server_time': {error}") from None


class ServerClock:
    """Server time, UTC and market time.

    Args:
        setting: ``adapter.server_time``.
        feed: Market time is the feed's: the newest tick's time. Such a feed is not now, so its offset cannot be
            measured: ``auto`` then means `feed_rule`.
        feed_rule: The rule the feed's terminal is configured with.
        folder: Where the rule last measured is kept.
        on_change: Called with the new rule whenever it changes.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        setting: str,
        feed: bool,
        symbols: int,
        folder: Path,
        feed_rule: str = ASSUMED_RULE,
        on_change: Callable[[ServerTimeRule], None] = lambda _rule: None,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._file = folder / FILE_NAME
        self._on_change = on_change
        self._estimator = OffsetEstimator(symbols_needed=min(2, max(1, symbols)))
        self._newest_tick_utc_ms = 0
        configured = parse_setting(feed_rule if feed and setting == "auto" else setting)
        self.status: Status = "assumed" if configured is None else "configured"
        self.remembered = False
        """Whether the assumed rule is the one that was measured last here."""
        self.rule = configured or self._last_known()

    @property
    def known(self) -> bool:
        """Whether the offset is certain enough for expirations, backfill and new exposure."""
        return self.status != "assumed"

    @property
    def offset_minutes(self) -> int:
        """Return server time minus UTC at market time."""
        return self.rule.offset_ms(self.market_ms()) // 60_000

    def market_ms(self) -> int:
        """Return market time, UTC milliseconds: the wall clock, or the newest tick of a feed (0 before the first)."""
        return self._newest_tick_utc_ms if self._feed else self._clock.wall_ms()

    def server_ms(self) -> int:
        """Return market time on the server's clock; of a feed without ticks so far the wall clock."""
        return self.to_server_ms(self.market_ms() or self._clock.wall_ms())

    def to_utc_ms(self, server_ms: int) -> int:
        """Return the moment that the server's clock shows as `server_ms`."""
        return self.rule.to_utc_ms(server_ms)

    def to_server_ms(self, utc_ms: int) -> int:
        """Return what the server's clock shows at `utc_ms`."""
        return self.rule.to_server_ms(utc_ms)

    def observe(self, symbol: str, server_ms: int, utc_now_ms: int | None = None) -> None:
        """Take note of the newest tick of `symbol`, just read."""
        utc_ms = self.to_utc_ms(server_ms)
        self._newest_tick_utc_ms = max(self._newest_tick_utc_ms, utc_ms)
        if self.status == "configured":
            return
        now_ms = self._clock.wall_ms() if utc_now_ms is None else utc_now_ms
        if self._estimator.observe(symbol, server_ms, now_ms) and self._estimator.offset_ms is not None:
            self._measured(self._estimator.offset_ms, now_ms)

    def ticks_to_utc(self, records: bytes) -> bytes:
        """Return tick records in server time as records in UTC."""
        ticks = np.frombuffer(records, dtype=TICK_DTYPE).copy()
        times = self.rule.to_utc_ms_array(ticks["time_msc"].astype(np.int64))
        ticks["time_msc"] = times
        ticks["time"] = times // 1000
        return ticks.tobytes()

    def rates_to_utc(self, records: bytes) -> bytes:
        """Return bar records in server time as records in UTC."""
        rates = np.frombuffer(records, dtype=RATE_DTYPE).copy()
        rates["time"] = self.rule.to_utc_ms_array(rates["time"].astype(np.int64) * 1000) // 1000
        return rates.tobytes()

    def _measured(self, offset_ms: int, now_ms: int) -> None:
        rule = choose_rule(offset_ms, now_ms, current=self.rule)
        changed = rule != self.rule
        log.info(
            "server time was measured", extra={"offset_minutes": offset_ms // 60_000, "rule": rule.name, "new": changed}
        )
        self.rule, self.status = rule, "measured"
        self._remember(rule)
        if changed:
            self._on_change(rule)

    def _last_known(self) -> ServerTimeRule:
        try:
            rule = ServerTimeRule.parse(self._file.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            return ServerTimeRule.parse(ASSUMED_RULE)
        self.remembered = True
        return rule

    def _remember(self, rule: ServerTimeRule) -> None:
        try:
            self._file.write_text(rule.name + "\n", encoding="ascii")
        except OSError as error:
            log.warning("the server-time rule was not kept for the next start", extra={"reason": str(error)})
