"""A disk that fills up: what is not taken any more, until there is room again.

While less than `adapter.disk_low_mb` are free, or the reserve is in use, no new exposure and no signal is taken, and an
alert tells why. The reserve is made anew when there is room for it and for as much again.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from broker_adapter.alerts import Condition, StandingAlerts
from broker_adapter.disk_reserve import DiskReserve
from mt5bus.settings import Adapter
from protocol.errors import NotReady
from protocol.loop import Loop

LOOK_INTERVAL_S = 2.0
_MB = 1_000_000
_CODE = "disk_low"

log = logging.getLogger(__name__)


class DiskWatch:
    """Knows whether the disk of the adapter's folder has room for more than exits."""

    def __init__(
        self, loop: Loop, alerts: StandingAlerts, folder: Path, reserve: DiskReserve, settings: Adapter
    ) -> None:
        self.low = False
        self._alerts = alerts
        self._folder = folder
        self._reserve = reserve
        self._reserve_bytes = settings.disk_reserve_mb * _MB
        self._low_bytes = settings.disk_low_mb * _MB
        loop.every(LOOK_INTERVAL_S, self.look)
        self.look()

    def look(self) -> None:
        """See how much room there is; take the reserve again where there is room for twice as much."""
        free = shutil.disk_usage(self._folder).free
        held = self._reserve.held
        if not held and free >= 2 * self._reserve_bytes:
            held = self._reserve.take()
            free = shutil.disk_usage(self._folder).free
        low = not held or free < self._low_bytes
        if low != self.low:
            extra = {"free_mb": free // _MB, "reserve_held": held}
            if low:
                log.error("the disk is nearly full: only exits are taken", extra=extra)
            else:
                log.warning("the disk has room again", extra=extra)
        self.low = low
        if low:
            self._alerts.begin(self._condition(free, held=held))
        else:
            self._alerts.over(_CODE)

    def check(self) -> None:
        """Return if there is room for more than exits.

        Raises:
            NotReady: The disk is nearly full; nothing was taken.
        """
        if self.low:
            raise NotReady(
                f"the disk of {self._folder} is nearly full, so only exits are taken: free some room, then try again"
            )

    def _condition(self, free: int, *, held: bool) -> Condition:
        reserve = "" if held else " and the reserve is in use"
        text = (
            f"{free // _MB} MB are free on the disk of {self._folder}{reserve}: no new exposure and no signal is taken,"
            f" exits are. Free at least {(2 * self._reserve_bytes + self._low_bytes) // _MB} MB"
        )
        return Condition(_CODE, "critical", text, fields={"free_mb": str(free // _MB)})
