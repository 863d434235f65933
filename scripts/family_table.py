"""Print what each family of models can do, every entry held against an independent loop.

    python scripts/family_table.py [FAMILY ...]

Tiny random models; about two seconds a family on an idle core. Refusals follow the table.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import torch
from support.families import FAMILIES
from support.family_checks import CHECKS, Trial, outcome


def row(family: str) -> tuple[list[str], list[str]]:
    """Return a family's entries, and what its refusals say."""
    entries, messages = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LM_EVAL_TRUST_CACHE"] = str(Path(folder) / "cache")
        trial = Trial(family, Path(folder))
        for check in CHECKS:
            try:
                entry, message = outcome(trial, check)
            except Exception as error:
                entry, message = "WRONG", f"{type(error).__name__}: {error}"
            entries.append(entry)
            messages += [f"{family}, {check}: {message}"] if message else []
    return entries, messages


def main(families: list[str]) -> int:
    """Print the table; return 1 if an entry is wrong."""
    torch.set_num_threads(1)
    print("| family |", " | ".join(CHECKS), "|")
    print("|" + "---|" * (len(CHECKS) + 1))
    messages, wrong = [], False
    for family in families:
        entries, refusals = row(family)
        print(f"| {family} |", " | ".join(entries), "|", flush=True)
        messages += refusals
        wrong = wrong or "WRONG" in entries
    print("", *messages, sep="\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(FAMILIES)))
