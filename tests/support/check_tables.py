"""Tables of checks: what holds for each model or method, exactly or refused, and nothing else."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from lm_eval_trust.core.errors import InputError

EXACT, REFUSED = "exact", "refused"
Trial = TypeVar("Trial")
#: Name of a check → what it finds of a trial; ``None`` for :data:`EXACT`.
Checks = Mapping[str, Callable[[Trial], "str | None"]]


def outcome(checks: Checks[Trial], trial: Trial, check: str) -> tuple[str, str]:
    """Return a table's entry, and the message of a refusal.

    Wrong results and other exceptions raise.
    """
    try:
        return checks[check](trial) or EXACT, ""
    except InputError as error:
        return REFUSED, str(error)


def check_documented(
    checks: Checks[Trial], trial: Trial, expected: Sequence[str], instead: re.Pattern[str]
) -> None:
    """Compare a row with the documentation's; refusals are short and say what to do instead."""
    for check, entry in zip(checks, expected, strict=True):
        found, message = outcome(checks, trial, check)
        assert found == entry, f"{check}: {message}"
        assert found != REFUSED or (instead.search(message) and len(message) < 500), message


def ask_for_names(title: str, known: Collection[str], description: str) -> list[str]:
    """Return the rows that the command line names, all where it names none."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", metavar=title.upper(), help="all by default")
    names: list[str] = parser.parse_args().names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such {title}: {', '.join(unknown)}; there are {', '.join(known)}")
    return names or list(known)


def print_table(
    title: str, names: Sequence[str], checks: Checks[Any], trial: Callable[[str, Path], Any]
) -> int:
    """Print a table with a row for each name, then all refusals; return 1 if an entry is wrong."""
    torch.set_num_threads(1)
    print(f"| {title} |", " | ".join(checks), "|")
    print("|" + "---|" * (len(checks) + 1))
    messages, wrong = [], False
    for name in names:
        entries = []
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LM_EVAL_TRUST_CACHE"] = str(Path(folder) / "cache")
            tried = trial(name, Path(folder))
            for check in checks:
                try:
                    entry, message = outcome(checks, tried, check)
                except Exception as error:
                    entry, message = "WRONG", f"{type(error).__name__}: {error}"
                entries.append(entry)
                messages += [f"{name}, {check}: {message}"] if message else []
        print(f"| {name} |", " | ".join(entries), "|", flush=True)
        wrong = wrong or "WRONG" in entries
    print("", *messages, sep="\n")
    return int(wrong)
