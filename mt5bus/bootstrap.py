"""Install what the virtual environment lacks: run by run.sh and run.ps1 with the environment's own Python.

Standard library only, and no other module of ours: nothing is installed yet when it runs. It reinstalls only
when `pyproject.toml`, `constraints.txt`, the wanted extras or the Python changed since the last time.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP_NAME = "mt5bus-installed.json"
OLDEST, NEWEST = (3, 11), (3, 14)


def fingerprint(root: Path) -> str:
    """Return a text that changes when the project has to be installed again."""
    seen = hashlib.sha256(f"{sys.version_info[:3]} {sys.prefix} {root}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        seen.update((root / name).read_bytes())
    return seen.hexdigest()


def installed_extras(stamp: Path, wanted_fingerprint: str) -> set[str]:
    """Return the extras that are installed and current; empty when nothing is, or the stamp is unreadable."""
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
        return set(content["extras"]) if content["fingerprint"] == wanted_fingerprint else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def pip_commands(root: Path, extras: set[str]) -> list[tuple[str, list[str]]]:
    """Return the steps of an installation: what to say, and pip's arguments."""
    constraints = ["--constraint", str(root / "constraints.txt")]
    target = f"{root}[{','.join(sorted(extras))}]"
    return [
        ("build tools", ["install", *constraints, "pip", "setuptools"]),
        ("mt5bus and its packages", ["install", *constraints, "--no-build-isolation", "--editable", target]),
    ]


def install(root: Path, stamp: Path, wanted: set[str]) -> None:
    """Install what is missing, with pip's own progress on the console.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    current = fingerprint(root)
    extras = wanted | installed_extras(stamp, current)
    if extras == installed_extras(stamp, current):
        return
    steps = pip_commands(root, extras)
    for number, (what, arguments) in enumerate(steps, start=1):
        sys.stderr.write(f"mt5bus: installing {what} (step {number} of {len(steps)}) ...\n")
        sys.stderr.flush()
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
        subprocess.run(pip, check=True)
    stamp.write_text(json.dumps({"fingerprint": current, "extras": sorted(extras)}) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Bring the environment up to date; return the exit code."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST or sys.maxsize < 2**32:
        sys.stderr.write(f"mt5bus: needs a 64-bit Python 3.11 to 3.14, this is {sys.version}\n")
        return 1
    if sys.prefix == sys.base_prefix:
        sys.stderr.write("mt5bus: runs only inside a virtual environment: start run.sh or run.ps1\n")
        return 1
    wanted = {"all", "dev"} if "--dev" in arguments else {"all"}
    try:
        install(ROOT, Path(sys.prefix) / STAMP_NAME, wanted)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"mt5bus: the installation failed (pip exit {error.returncode}, its message is above)\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
