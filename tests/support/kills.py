"""Start a command, and kill it while it works."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_TESTS = str(Path(__file__).parents[1])
_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from support.mini import QUICK
from lm_eval_trust.cli import main
from lm_eval_trust.mini import family
family.RECIPE = QUICK
sys.exit(main(sys.argv[2:]))
"""


def kill_once(arguments: list[str], started: Callable[[], bool]) -> None:
    """Start a command in a process of its own, and kill it once it has written something."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, _TESTS, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not started():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
