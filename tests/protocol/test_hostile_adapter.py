"""An adapter that publishes and answers whatever it likes hurts nobody who listens: skipped, counted, or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol import messages as m
from protocol.errors import BusError
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from tests.fuzz.frames import Frames
from tests.protocol.rig import FRIEND, SERVER, Peer
from tests.protocol.samples import MESSAGES
from tests.protocol.struct_strategies import structs
from tests.waiting import eventually

STREAMED = (m.TickBatch, m.BarUpdate, m.StateUpdate, m.Beacon, m.Event)
SOUND = [codec.encode(message, "main", "EURUSD") for message in MESSAGES.values() if isinstance(message, STREAMED)]
END = codec.encode(msgspec.structs.replace(MESSAGES["state"], epoch=77), "main")


class Listener:
    """Somebody who subscribes to everything and has every gap filled, at an adapter that says what the test says."""

    def __init__(self) -> None:
        self.peer = Peer()
        self.loop = self.peer.loop
        self.streams, address = self.peer.streams()
        service, queries_at = self.peer.service("query")
        self.answer: Callable[[int], m.Reply] = m.Done
        for request in (m.GetSnapshot, m.GetEvents, m.GetTickRange, m.GetTicks):
            service.handle(request, lambda asked, _: self.answer(asked.id))
        self.queries = Requester(
            self.loop, self.loop.context, queries_at, identity=FRIEND, server_key=SERVER.public, name="adapter"
        )
        self.heard: list[Any] = []
        self.ended = 0
        self.subscriber = StreamSubscriber(
            self.loop,
            self.loop.context,
            address,
            identity=FRIEND,
            server_key=SERVER.public,
            adapter="main",
            queries=self.queries,
            on_tick=lambda symbol, batch: self.heard.append(batch),
            on_bar=lambda symbol, bar: self.heard.append(bar),
            on_event=self.heard.append,
            on_state=self._on_state,
            on_beacon=self.heard.append,
            on_snapshot=self.heard.append,
            heal_ticks=True,
        )
        self.subscriber.start()
        self.until(lambda: self.streams.poll(0), "the subscriptions")

    def _on_state(self, state: m.StateUpdate) -> None:
        self.ended += state.epoch == 77

    def until(self, check: Callable[[], object], what: str) -> None:
        """Turn until `check`."""

        def turned() -> object:
            self.loop.turn(5)
            return check()

        eventually(turned, what=what)

    def publish(self, frames: list[bytes]) -> None:
        """Publish frames and one whose arrival shows that the others were handled."""
        before = self.ended
        for frame in frames:
            self.streams.send(frame)

        def ended() -> bool:
            self.streams.send(END)
            return self.ended > before

        self.until(ended, "the last message")

    def close(self) -> None:
        """Close everything."""
        self.subscriber.close()
        self.queries.close()
        self.peer.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def test_damaged_frames_are_counted_and_skipped(listener: Listener) -> None:
    source = Frames(5, SOUND)
    for _ in range(20):
        listener.publish([source.next() for _ in range(100)])
    assert listener.subscriber.malformed > 100


@pytest.mark.parametrize("kind", STREAMED, ids=lambda kind: kind.kind)
def test_any_values_in_sound_messages_are_survived(kind: type[m.Message]) -> None:
    listener = Listener()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(structs(kind), max_size=5))
    def check(messages: list[m.Message]) -> None:
        listener.publish([codec.encode(message, "main", "EURUSD") for message in messages])

    try:
        check()
    finally:
        listener.close()


REPLIES = sorted(
    (kind for kind in codec.MESSAGE_TYPES.values() if issubclass(kind, m.Reply)), key=lambda kind: kind.kind
)


@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.kind)
def test_any_answer_to_any_question_ends_in_a_reply_or_an_error(kind: type[m.Reply]) -> None:
    """Answers of the wrong kind or with wild values, to somebody who joins, heals and asks."""
    listener = Listener()

    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    @given(structs(kind), st.integers(1, 2**62))
    def check(reply: m.Reply, offset: int) -> None:
        listener.answer = lambda request_id: msgspec.structs.replace(reply, id=request_id)
        answers: list[m.Reply | BusError] = []
        listener.queries.ask(m.GetSnapshot, on_reply=answers.append, on_error=answers.append, deadline_s=10)
        beacon = msgspec.structs.replace(MESSAGES["beacon"], event_offset=offset, log_id=f"log-{offset}")
        listener.publish([codec.encode(beacon, "main")])
        listener.until(lambda: answers, "an answer")
        assert isinstance(answers[0], m.ErrorReply | BusError | kind)

    try:
        check()
    finally:
        listener.close()
