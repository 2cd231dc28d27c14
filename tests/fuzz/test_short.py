"""Some seconds of hostile input; the million is `python -m tests.fuzz`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import decoders, live
from tests.fuzz.frames import Frames


def test_the_same_seed_gives_the_same_frames() -> None:
    one, same, other = Frames(1), Frames(1), Frames(2)
    first = [one.next() for _ in range(200)]
    assert first == [same.next() for _ in range(200)]
    assert first != [other.next() for _ in range(200)]


def test_every_decoder_gives_a_message_or_our_error() -> None:
    decoded = decoders.run(5_000, seed=1)
    assert decoded.outcomes["data_invalid"] > 1000
    assert decoded.outcomes["taken"] > 50
    assert set(decoded.outcomes) <= {"data_invalid", "unknown_kind", "taken"}


def test_what_a_decoder_lets_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: bytes) -> Callable[[], None]:
        raise KeyError("x")

    monkeypatch.setattr("protocol.codec.decode", crash)
    with pytest.raises(KeyError):
        decoders.run(10, seed=1)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_running_system_shrugs(tmp_path: Path) -> None:
    with live.running(tmp_path) as target:
        live.attack(target, frames=8_000, connections=400, held=40, seed=1)
        live.replay_order(target, times=300)
