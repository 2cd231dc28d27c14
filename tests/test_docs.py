"""The documents tell what is there: every module, every link, every command.

`python -m tests.test_docs` writes the module tables of docs/architecture.md anew, from the modules' own first lines.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mt5bus.cli import COMMANDS, group

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PACKAGES = (
    "market",
    "protocol",
    "broker_adapter",
    "strategy",
    "ml_logger",
    "supervisor",
    "paper_terminal",
    "mt5bus",
    "benchmarks",
)
TABLE_HEAD = "| module | holds |\n|---|---|\n"

_SECTION = r"(### `{package}/`[^\n]*\n\n?(?:(?!\| module)[^\n]*\n)*)(\| module \| holds \|\n(?:\|[^\n]*\n)+)"
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"^(?:\$ )?(?:mt5bus|\./run\.sh|(?:powershell .*)?[.\\]*run\.ps1)[ \t]+([a-z][a-z-]*)(.*)")
_MODULE_CALL = re.compile(r"python(?:\.exe)?(?: -P)? -m ([a-z_]+)((?: [^\n`]*)?)")


def names(path: Path) -> str:
    """Return how a document is named in the tests' ids."""
    return path.relative_to(ROOT).as_posix()


def module_table(package: str) -> str:
    """Return the table of a package's modules: each with the first line of its own docstring."""
    rows = []
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT / package).as_posix()
        if path.name == "__main__.py" or name == "__init__.py":
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert text, f"{package}/{name} has no docstring that says what it is"
        rows.append(f"| `{name}` | {text.splitlines()[0].rstrip('.')} |\n")
    return TABLE_HEAD + "".join(rows)


def write_tables() -> None:
    """Bring the tables of docs/architecture.md up to date."""
    document = ARCHITECTURE.read_text(encoding="utf-8")
    for package in PACKAGES:
        pattern = re.compile(_SECTION.format(package=package))
        table = module_table(package)
        document, count = pattern.subn(lambda match, table=table: match[1] + table, document)  # type: ignore[misc]
        assert count == 1, f"docs/architecture.md has {count} sections for {package}/"
    ARCHITECTURE.write_text(document, encoding="utf-8", newline="\n")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_architecture_names_every_module_as_it_is(package: str) -> None:
    found = re.findall(_SECTION.format(package=package), ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(found) == 1, f"one section for {package}/ is needed"
    assert found[0][1] == module_table(package), "run: python -m tests.test_docs"


def test_no_package_is_left_out() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(PACKAGES)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    kept = "".join(sign for sign in heading.lower() if sign in " -_" or unicodedata.category(sign)[0] in "LN")
    return kept.strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in _LINK.findall(text):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), f"{target} leads nowhere"
        assert path.is_relative_to(ROOT), f"{target} leads out of the repository"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, f"{target} names no heading"


def calls(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of ours that a document shows, and what follows it."""
    blocks = _FENCED.findall(text)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("mt5bus ")]
    for line in [*lines, *_INLINE.findall(_FENCED.sub("", text))]:
        found = _CALL.match(line.strip())
        if found:
            yield found[1], found[2]


def command_of(name: str) -> click.Command:
    """Return a command by its name."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_command_and_option_shown_exists(document: Path) -> None:
    for name, rest in calls(document.read_text(encoding="utf-8")):
        if name == "test":
            continue  # of run.sh and run.ps1 alone
        assert name in COMMANDS, f"there is no command {name!r}"
        command = command_of(name)
        parts = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        options = {option for part in parts for param in part.params for option in param.opts} | {"--help"}
        shown = set(re.findall(r"(?<!\S)--[a-z-]+", rest.split("|")[0]))
        assert shown <= options or name in {"fault", "paper"}, f"mt5bus {name} has no {shown - options}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_module_that_is_run_can_be_run(document: Path) -> None:
    for name, rest in _MODULE_CALL.findall(document.read_text(encoding="utf-8")):
        if name in PACKAGES:
            assert (ROOT / name / "__main__.py").exists(), f"python -m {name} does nothing"
            if name == "mt5bus" and rest.split():
                assert rest.split()[0] in COMMANDS


def test_calls_are_found_in_text_and_blocks() -> None:
    text = "say `mt5bus up --home X`, `./run.sh nosuch`\n```\n$ mt5bus status\nmt5bus running\n.\\run.ps1 arm\n```\n"
    assert [name for name, _ in calls(text)] == ["status", "arm", "up", "nosuch"]


if __name__ == "__main__":
    write_tables()
