"""Print what each family of models can do, every entry held against an independent loop.

    python scripts/family_table.py [FAMILY ...]

Tiny random models; about two seconds a family on an idle core. Refusals follow the table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

from support.check_tables import ask_for_names, print_table
from support.families import FAMILIES
from support.family_checks import CHECKS, Trial

if __name__ == "__main__":
    names = ask_for_names("family", FAMILIES, (__doc__ or "").splitlines()[0])
    sys.exit(print_table("family", names, CHECKS, Trial))
