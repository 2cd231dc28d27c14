"""Ask the package index for a wheel of every pinned package, for Windows and each Python; install none.

Environment markers are judged for that Windows here: pip itself would judge them for the machine it runs on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def wanted(version: str) -> list[str]:
    """Return the pins that hold for a Python version on Windows."""
    here = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "python_version": version}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    return [f"{pin.name}{pin.specifier}" for pin in pins if pin.marker is None or pin.marker.evaluate(here)]


def main() -> int:
    """Return 0 when every pin has a wheel for every version, else 1; pip says which has none."""
    options = [
        "--platform",
        "win_amd64",
        "--only-binary=:all:",
        "--no-deps",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
    ]
    for version in VERSIONS:
        pins = wanted(version)
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                *options,
                "--python-version",
                version,
                "--target",
                folder,
            ]
            if subprocess.run([*command, *pins], check=False).returncode != 0:
                sys.stderr.write(f"not every pinned package has a wheel for Windows and Python {version}\n")
                return 1
        sys.stderr.write(f"Python {version}: {len(pins)} wheels\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
