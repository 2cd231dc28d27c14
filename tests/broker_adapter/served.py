"""The orders socket's requests, served from a desk without a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker_adapter.alerts import StandingAlerts
from broker_adapter.flattening import Flattening
from broker_adapter.order_service import OrderService
from broker_adapter.strategy_watch import StrategyWatch
from protocol.errors import BusError
from protocol.messages import Done, ErrorReply, Request
from tests.broker_adapter import fake_broker
from tests.broker_adapter.fake_broker import FakeCaller, World


class Requests:
    """Stands in for the service: keeps the handlers, and asks them."""

    def __init__(self) -> None:
        self.handlers: dict[type[Request], Callable[[Any, Any], object]] = {}

    def handle(self, request: type[Request], handler: Callable[[Any, Any], object]) -> None:
        self.handlers[request] = handler

    def serve(self, world: World) -> Requests:
        """Serve these requests from the world's desk."""
        flattening = Flattening(world.desk, world.journal, world.clock)
        world.desk.after_read = flattening.step
        self.alerts = StandingAlerts(
            world.journal,
            commit=world.desk.commit_new,
            market_ms=world.market_ms,
            account=lambda: (fake_broker.SERVER, fake_broker.LOGIN),
        )
        self.watch = StrategyWatch(
            world.desk,
            world.journal,
            world.clock,
            epoch=world.journal.epoch,
            risk=world.settings.adapter.risk,
            strategies=world.settings.strategy,
            alerts=self.alerts,
            flattening=flattening,
        )
        OrderService(self, world.desk, flattening, self.watch)  # type: ignore[arg-type]
        self.flattening = flattening
        return self

    def ask(self, world: World, request: Request) -> Done | ErrorReply:
        caller = FakeCaller(request.id)
        try:
            reply = self.handlers[type(request)](request, caller)
            if isinstance(reply, Done):
                caller.reply(reply)
        except BusError as error:
            caller.fail(error)
        world.settle()
        (reply,) = caller.replies
        assert isinstance(reply, Done | ErrorReply)
        return reply
