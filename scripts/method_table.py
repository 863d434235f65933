"""Print what each way of steering can do, every entry held against an independent formulation.

    python scripts/method_table.py [METHOD ...]

A tiny random Llama; about two seconds a method on an idle core. Refusals follow the table.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import torch
from support.method_checks import CHECKS, METHODS, Trial, outcome


def row(method: str) -> tuple[list[str], list[str]]:
    """Return a method's entries, and what its refusals say."""
    entries, messages = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LM_EVAL_TRUST_CACHE"] = str(Path(folder) / "cache")
        trial = Trial(method, Path(folder))
        for check in CHECKS:
            try:
                entry, message = outcome(trial, check)
            except Exception as error:
                entry, message = "WRONG", f"{type(error).__name__}: {error}"
            entries.append(entry)
            messages += [f"{method}, {check}: {message}"] if message else []
    return entries, messages


def main(methods: list[str]) -> int:
    """Print the table; return 1 if an entry is wrong."""
    torch.set_num_threads(1)
    print("| method |", " | ".join(CHECKS), "|")
    print("|" + "---|" * (len(CHECKS) + 1))
    messages, wrong = [], False
    for method in methods:
        entries, refusals = row(method)
        print(f"| {method} |", " | ".join(entries), "|", flush=True)
        messages += refusals
        wrong = wrong or "WRONG" in entries
    print("", *messages, sep="\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(METHODS)))
