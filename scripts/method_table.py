"""Print what each way of steering can do, every entry held against an independent formulation.

    python scripts/method_table.py [METHOD ...]

A tiny random Llama; about two seconds a method on an idle core. Refusals follow the table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

from support.check_tables import ask_for_names, print_table
from support.method_checks import CHECKS, METHODS, Trial

if __name__ == "__main__":
    names = ask_for_names("method", METHODS, (__doc__ or "").splitlines()[0])
    sys.exit(print_table("method", names, CHECKS, Trial))
