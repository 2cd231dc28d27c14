"""The installer: what it decides to install, without installing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mt5bus import bootstrap


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("a", encoding="utf-8")
    (tmp_path / "constraints.txt").write_text("b", encoding="utf-8")
    return tmp_path


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        calls.append(command)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_a_second_start_installs_nothing(project: Path, pip_calls: list[list[str]]) -> None:
    stamp = project / "stamp"
    bootstrap.install(project, stamp, {"all"})
    assert len(pip_calls) == 2
    bootstrap.install(project, stamp, {"all"})
    assert len(pip_calls) == 2


def test_a_changed_pin_installs_again_and_keeps_the_extras(project: Path, pip_calls: list[list[str]]) -> None:
    stamp = project / "stamp"
    bootstrap.install(project, stamp, {"all", "dev"})
    bootstrap.install(project, stamp, {"all"})
    assert len(pip_calls) == 2
    (project / "constraints.txt").write_text("c", encoding="utf-8")
    bootstrap.install(project, stamp, {"all"})
    assert len(pip_calls) == 4


def test_the_developers_tools_are_added_to_what_is_there(project: Path, pip_calls: list[list[str]]) -> None:
    stamp = project / "stamp"
    bootstrap.install(project, stamp, {"all"})
    bootstrap.install(project, stamp, {"all", "dev"})
    assert pip_calls[-1][-1] == f"{project}[all,dev]"


def test_a_failed_installation_leaves_no_stamp(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.install(project, project / "stamp", {"all"})
    assert not (project / "stamp").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 1}'])
def test_a_damaged_stamp_means_install(project: Path, content: str) -> None:
    (project / "stamp").write_text(content, encoding="utf-8")
    assert bootstrap.installed_extras(project / "stamp", "x") == set()
