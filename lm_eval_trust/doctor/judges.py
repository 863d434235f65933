"""Which judges there are, and how good the one that is trained here is."""

from __future__ import annotations

import os
from typing import Any

from lm_eval_trust.doctor.checks import Check, checked
from lm_eval_trust.doctor.data import folder, needed_files
from lm_eval_trust.judges.linear import linear_judge_auroc
from lm_eval_trust.judges.registry import TOXICITY, TRUTH, JudgeChoice

SECTION = "judges"


def look() -> list[Check]:
    """Return the choice of judges, and the linear judge's area under the ROC curve."""
    return [_choice(TRUTH), _choice(TOXICITY), checked(SECTION, "linear", _linear)]


def _choice(kind: JudgeChoice[Any]) -> Check:
    chosen = os.environ.get(kind.variable) or kind.default
    known = ", ".join(sorted(kind.factories))
    detail = f"in use {chosen}; available without a download: {known}"
    if chosen in kind.factories:
        return Check(SECTION, kind.setting, "ok", detail)
    advice = f"--metadata {kind.setting}={known.split(', ')[0]}, or the variable {kind.variable}"
    return Check(SECTION, kind.setting, "note", detail, advice)


def _linear() -> Check:
    name = "linear toxicity judge"
    if not all((folder() / path).is_file() for path in needed_files("toxigen")):
        return Check(SECTION, name, "note", "not trained: ToxiGen is not there")
    area = linear_judge_auroc()
    return Check(SECTION, name, "ok", f"AUROC {area:.3f} on ToxiGen's test half")
