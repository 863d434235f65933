"""The table of exit codes, read from the command line and the classes of errors."""

from __future__ import annotations

from lm_eval_trust.cli import CLOSED_PIPE, INTERRUPTED, OUTSIDE_FAILED
from lm_eval_trust.core.errors import ExternalError, InputError


def table() -> str:
    """Return the table of exit codes."""
    assert ExternalError.exit_code == OUTSIDE_FAILED
    rows = {
        0: "done",
        1: "a check or an audit did not pass",
        InputError.exit_code: "wrong usage or input: an argument, a file, a configuration",
        OUTSIDE_FAILED: "something outside failed: the network, the disk, a judge",
        INTERRUPTED: "interrupted with Ctrl-C",
        CLOSED_PIPE: "the reader of the output closed the pipe",
    }
    body = "\n".join(f"| {code} | {meaning} |" for code, meaning in sorted(rows.items()))
    return f"| code | meaning |\n|---:|---|\n{body}"
