"""The ML logger's process: sockets, timers and parts wired together. It neither trades nor is waited for."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version

from ml_logger.recorder import Recorder
from ml_logger.store import Store, open_store, store_url
from mt5bus.config import Loaded
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import LoggerReport
from protocol.node import NodeLife
from protocol.numbering import EventPosition
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber

NAME = "ml_logger"
STATE_INTERVAL_S = 0.05

log = logging.getLogger(__name__)


class LoggerNode:
    """One running ML logger.

    Args:
        alone: Run without a supervisor.

    Raises:
        AuthenticationFailed: The home has no keys for it.
        StoreUnusable: `[logger] url` names no database it can use.
    """

    def __init__(self, loop: Loop, loaded: Loaded, *, alone: bool = False) -> None:
        settings = loaded.settings
        keys = KeyStore(loaded.home.keys)
        keys.ensure()
        self._loop = loop
        self._closed = False
        self._bus = settings.bus
        self._adapter = settings.adapter
        self._identity = keys.identity(NAME)
        self._adapter_key = keys.server_key("adapter")
        self._url = store_url(settings.logger.url, loaded.home.store)
        self._queries = Requester(
            loop,
            loop.context,
            self._bus.queries,
            identity=self._identity,
            server_key=self._adapter_key,
            name="the adapter",
        )
        self.recorder = Recorder(
            loop,
            self._queries,
            adapter=self._adapter.name,
            symbols=self._adapter.symbols,
            timeframes=self._adapter.timeframes,
            settings=settings.logger,
            subscribe=self._subscribe,
            open_store=self._open_store,
            worked=self._worked,
        )
        self.life = NodeLife(
            loop,
            loop.context,
            name=NAME,
            version=_version(),
            identity=self._identity,
            pings_address=None if alone else self._bus.pings,
            server_key=keys.server_key("supervisor"),
            report=self.report,
            streams=self.recorder.reports,
        )
        self.life.on_stop(self.recorder.close)

    def start(self) -> None:
        """Open the store and begin to join.

        Raises:
            StoreUnusable: The store can never be used like this.
        """
        self._loop.every(STATE_INTERVAL_S, self._judge)
        self.recorder.start()

    def close(self) -> None:
        """Commit what is at hand and leave nothing open; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.recorder.close()
        self._queries.close()
        self.life.close()

    def report(self) -> LoggerReport:
        """Return what the pong adds: rows in the store, the last event it holds, and trouble if there is any."""
        counts = self.recorder.counts
        return LoggerReport(
            bars=counts.bars,
            signals=counts.signals,
            orders=counts.orders,
            deals=counts.deals,
            event_offset=self.recorder.event_offset,
            detail=self.recorder.detail,
        )

    def _judge(self) -> None:
        if self.life.state == "stopping":
            return
        if self.recorder.ready:
            state = "ready"
        elif self.recorder.trouble or self.life.state != "starting":
            state = "degraded"
        else:
            state = "starting"
        if state != self.life.state:
            log.info("state", extra={"state": state, "was": self.life.state, "detail": self.recorder.detail})
            self.life.state = state

    def _worked(self, messages: int) -> None:
        self.life.progress += messages

    def _open_store(self) -> Store:
        return open_store(self._url)

    def _subscribe(self, recorder: Recorder, position: EventPosition) -> StreamSubscriber:
        return StreamSubscriber(
            self._loop,
            self._loop.context,
            self._bus.streams,
            identity=self._identity,
            server_key=self._adapter_key,
            adapter=self._adapter.name,
            queries=self._queries,
            on_bar=recorder.on_bar,
            on_event=recorder.on_event,
            on_state=recorder.on_state,
            on_beacon=recorder.on_beacon,
            on_snapshot=recorder.on_snapshot,
            position=position,
        )


def run(loaded: Loaded, *, alone: bool = False) -> None:
    """Run the node in this process's main thread until a signal, or the supervisor, stops it.

    Raises:
        BusError: The keys are not usable.
        StoreError: The store cannot be used.
    """
    loop = Loop()
    node = LoggerNode(loop, loaded, alone=alone)
    node.life.install_signals()
    try:
        node.start()
        node.life.run()
    finally:
        node.close()
        loop.close()


def _version() -> str:
    try:
        return version("mt5bus")
    except PackageNotFoundError:
        return "unknown"
