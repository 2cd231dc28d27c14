"""A disk so small that a test fills it: mounted where the test may mount, else the test is skipped and says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BALLAST = "ballast.bin"


class SmallDisk:
    """A mounted file system of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free(self) -> int:
        """Return the bytes that may still be written."""
        return shutil.disk_usage(self.folder).free

    def fill(self, *, leave: int = 0) -> None:
        """Write ballast until only `leave` bytes are free."""
        with (self.folder / BALLAST).open("ab") as file:
            while self.free > leave:
                try:
                    file.write(bytes(min(65_536, self.free - leave)))
                    file.flush()
                except OSError:
                    return

    def empty(self) -> None:
        """Remove the ballast."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Return a maker of small disks by their size in bytes."""
    mounted: list[Path] = []

    def make(size: int) -> SmallDisk:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("a small disk is mounted by root on Linux only")
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        mounted.append(folder)
        return SmallDisk(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
