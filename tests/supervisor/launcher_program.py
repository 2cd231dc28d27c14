"""A fake launcher, as `python.exe` of a Windows venv is one: starts the real program as its child and waits."""

from __future__ import annotations

import subprocess
import sys

sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], check=False).returncode)
