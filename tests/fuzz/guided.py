"""Coverage-guided fuzzing of the decoders with Atheris, where it is installed (`pip install atheris`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from tests.fuzz.frames import SOUND


def available() -> bool:
    """Return whether Atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(runs: int, corpus: Path) -> None:
    """Fuzz for `runs` inputs, beginning with every sound frame; does not return: Atheris ends the process.

    Its exit code is 0, or not when an input let something out that is no error of ours; the input is then in a file
    `crash-...` beside the corpus.

    Args:
        runs: Inputs.
        corpus: A folder that keeps what reached new code.
    """
    atheris = importlib.import_module("atheris")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(SOUND):
        (corpus / f"sound-{number}").write_bytes(frame)
    with atheris.instrument_imports(include=["protocol", "broker_adapter", "msgpack"]):
        for name in [name for name in sys.modules if name.partition(".")[0] == "protocol"]:
            del sys.modules[name]  # imported before they could be instrumented
        sys.modules.pop("tests.fuzz.decoders", None)
        sys.modules.pop("tests.fuzz.frames", None)
        decoders = importlib.import_module("tests.fuzz.decoders")
    arguments = [sys.argv[0], f"-runs={runs}", f"-artifact_prefix={corpus.parent}/", "-max_len=4096", str(corpus)]
    atheris.Setup(arguments, decoders.feed)
    atheris.Fuzz()
