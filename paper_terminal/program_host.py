"""The process a program of the terminal runs in: `python -m paper_terminal.program_host FILE`.

Its standard input is a pipe whose other end only the terminal holds. When that end closes, because the terminal ends it
or has died in whatever way, the program is interrupted (KeyboardInterrupt, as by Ctrl-C), has the 2.5 s that the real
terminal leaves an expert for its OnDeinit, and is then ended.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Final

_DEINIT_LIMIT_S: Final = 2.5


def main(program: str) -> int:
    """Run a program as `__main__` until it ends or the terminal does; return the exit code."""
    ending = threading.Event()
    _watch_the_terminal(ending)
    # After the stand-in module and before anything else: a program finds its neighbours.
    sys.path.insert(1, str(Path(program).parent))
    sys.argv = [program]
    try:
        runpy.run_path(program, run_name="__main__")
    except KeyboardInterrupt:
        if not ending.is_set():
            raise
    return 0


def _watch_the_terminal(ending: threading.Event) -> None:
    pipe = os.dup(0)
    # The program itself has no input, and its children do not inherit this one.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        ending.set()
        _interrupt_main()
        threading.Event().wait(_DEINIT_LIMIT_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _interrupt_main() -> None:
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:  # a wait of the main thread is cut short only by a signal to that very thread
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
