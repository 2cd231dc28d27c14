"""Loading strategies: by module, by file, and every mistake in one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt5bus.errors import ConfigError
from mt5bus.settings import StrategySettings
from strategy.loading import load_class, load_strategy, packed_parameters, restore
from tests.strategy.samples import example_path

CONFLUENCE = "strategy.confluence:Confluence"

FILE = """
import msgspec
from strategy import Strategy
from my_neighbour import VOLUME

class Mine(Strategy):
    class Parameters(Strategy.Parameters):
        volume: float = VOLUME
        names: list[str] = msgspec.field(default_factory=list)

class NoStrategy:
    pass
"""


def settings(class_path: str, **params: object) -> StrategySettings:
    return StrategySettings(name="mine", class_path=class_path, params=params)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_neighbour.py").write_text("VOLUME = 0.07\n", encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_class_in_a_file_loads_with_its_neighbours_and_defaults(file: Path) -> None:
    strategy = load_strategy(settings(f"{file}:Mine", names=["a"]))
    assert type(strategy).__name__ == "Mine"
    assert strategy.parameters.volume == 0.07  # type: ignore[attr-defined]
    assert strategy.parameters.names == ["a"]  # type: ignore[attr-defined]


def test_example_outside_the_package_loads() -> None:
    strategy = load_strategy(settings(f"{example_path()}:ThreeRisingBars", volume=0.02))
    assert strategy.warmup_bars() == 3


def test_reference_strategy_is_the_default() -> None:
    assert load_strategy(StrategySettings()).warmup_bars() == 139


def test_nested_parameters_are_taken() -> None:
    strategy = load_strategy(settings(CONFLUENCE, threshold=0.5, features={"ema_fast": 5}))
    assert strategy.parameters.features.ema_fast == 5  # type: ignore[attr-defined]


def test_parameters_survive_the_log() -> None:
    strategy = load_strategy(settings(CONFLUENCE, threshold=0.5, features={"ema_fast": 5}))
    again = restore(load_class(CONFLUENCE), packed_parameters(strategy))
    assert again.parameters == strategy.parameters


@pytest.mark.parametrize(
    ("class_path", "params", "text"),
    [
        ("no.such.module:Mine", {}, "strategy 'mine': there is no module 'no.such.module'"),
        ("strategy.sdk:Absent", {}, "there is no class 'Absent' in strategy.sdk"),
        ("strategy.sdk:Context", {}, "strategy.sdk:Context is no strategy"),
        ("nowhere/else.py:Mine", {}, "there is no file"),
        (CONFLUENCE, {"treshold": 1}, "unknown parameter 'treshold'; did you mean 'threshold'?"),
        (CONFLUENCE, {"xyz": 1}, "unknown parameter 'xyz'; Confluence takes threshold, "),
        (CONFLUENCE, {"threshold": "high"}, "parameter 'threshold': expected `float`, got `str`, got 'high'"),
        (CONFLUENCE, {"threshold": 7.0}, "parameter 'threshold': expected `float` <= 1.0, got 7.0"),
        (CONFLUENCE, {"features": {"ema_fast": 99}}, "parameter 'features': ema_fast (99) must be less than"),
    ],
)
def test_mistake_is_one_clear_line(class_path: str, params: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_strategy(settings(class_path, **params))
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_file_that_fails_says_how(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"):
        load_class(f"{path}:Mine")


def test_class_in_a_file_that_is_no_strategy_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="derive the class from"):
        load_class(f"{file}:NoStrategy")
