"""run.sh and run.ps1: what can be checked of them without installing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tree_sitter_pwsh
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "run.ps1"
# Grammar of PowerShell 7 that Windows PowerShell 5.1 does not know.
NEWER_THAN_5_1 = {"ternary_expression", "null_coalesce_expression", "pipeline_chain_tail", "??="}


def nodes(of: Node) -> list[Node]:
    found = [of]
    for child in of.children:
        found += nodes(child)
    return found


def faults(source: bytes) -> list[str]:
    tree = Parser(Language(tree_sitter_pwsh.language())).parse(source)
    found = [f"{n.type} at {n.start_point}" for n in nodes(tree.root_node) if n.is_error or n.is_missing]
    found += [n.type for n in nodes(tree.root_node) if n.type in NEWER_THAN_5_1]
    found += [f"blank after backtick: {hit!r}" for hit in re.findall(rb"`[ \t]+\r?\n", source)]
    found += [f"not ASCII: byte {byte}" for byte in source if byte > 126]
    return found


def test_run_ps1_is_plain_ascii_powershell_5_1() -> None:
    assert faults(SCRIPT.read_bytes()) == []


@pytest.mark.parametrize(
    "broken",
    [b"if ($a) { 1", b"$a = 'x", b"foo (1", b"$a ? 1 : 2", b"a && b", b"a `  \n b", "Write-Host 'ü'".encode()],
)
def test_the_syntax_check_finds_what_5_1_refuses(broken: bytes) -> None:
    assert faults(broken)


def test_run_ps1_never_redirects_a_native_error_stream() -> None:
    text = SCRIPT.read_text(encoding="ascii")
    assert text.startswith("#Requires -Version 5.1")
    assert not re.search(r"2>|Activate\.ps1|Out-File|Set-Content", text)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
def test_run_sh_is_valid_shell() -> None:
    subprocess.run(["sh", "-n", str(ROOT / "run.sh")], check=True)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
def test_run_sh_names_a_python_that_does_not_fit(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run.sh", tmp_path)
    done = subprocess.run(
        ["sh", str(tmp_path / "run.sh")],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/nowhere/python"},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert done.stderr == "mt5bus: PYTHON=/nowhere/python is not a 64-bit Python 3.11 to 3.14\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_run_sh_may_be_called_through_links(tmp_path: Path) -> None:
    real = tmp_path / "real ö"
    (real / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "run.sh", real)
    python = real / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "first").symlink_to(Path("real ö") / "run.sh")
    (tmp_path / "second").symlink_to(tmp_path / "first")
    command = ["sh", str(tmp_path / "second"), "status", "--json"]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    assert done.stdout == f"-I {real}/mt5bus/bootstrap.py\n-P -m mt5bus status --json\n"


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        wanted += [] if extra == "all" else requirements
    pinned = {
        line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    names = {re.split(r"[<>=\[;\s]", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned


def test_every_package_is_installed() -> None:
    import tomllib

    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(content["tool"]["setuptools"]["packages"])
    top = {name.partition(".")[0] for name in listed}
    there = {
        ".".join(file.parent.relative_to(ROOT).parts) for name in top for file in (ROOT / name).rglob("__init__.py")
    }
    assert listed == there
