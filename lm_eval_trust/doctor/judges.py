"""Which judges there are, and how good the one that is trained here is."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from lm_eval_trust.doctor.checks import Check, checked
from lm_eval_trust.doctor.data import folder, needed_files
from lm_eval_trust.judges.linear import linear_judge_auroc
from lm_eval_trust.judges.registry import TOXICITY, TRUTH, JudgeChoice
from lm_eval_trust.judges.settings import JudgeSettings, split_models

SECTION = "judges"


def look() -> list[Check]:
    """Return the choice of judges, what servers need, and the linear judge's quality."""
    return [
        _choice(TRUTH),
        _choice(TOXICITY),
        checked(SECTION, "openai", _server),
        checked(SECTION, "linear", _linear),
    ]


def _choice(kind: JudgeChoice[Any]) -> Check:
    chosen = kind.chosen({})
    offline = kind.offline()
    detail = f"in use {chosen}; available without a download: {', '.join(offline)}"
    if kind.is_offline(chosen) or _is_here(chosen):
        return Check(SECTION, kind.setting, "ok", detail)
    advice = f"--metadata {kind.setting}={offline[0]}, or the variable {kind.variable}"
    return Check(SECTION, kind.setting, "note", detail, advice)


def _is_here(spec: str) -> bool:
    """Tell whether the models of ``hf:MODEL`` lie in folders or in the Hub's cache."""
    family, _, models = spec.partition(":")
    if family != "hf" or not models:
        return False
    return all(map(_has_files, split_models(models)))


def _has_files(model: str) -> bool:
    if Path(model).expanduser().is_dir():
        return True
    name, _, revision = model.partition("@")
    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision or None), str)


def _server() -> Check:
    name = "judges behind a server"
    address = JudgeSettings.from_sources({}).base_url or "OpenAI's own server"
    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    detail = f"{address}; OPENAI_API_KEY is {key}"
    if importlib.util.find_spec("openai") is None:
        return Check(SECTION, name, "note", f"no package openai; {detail}", "pip install openai")
    return Check(SECTION, name, "ok", detail)


def _linear() -> Check:
    name = "linear toxicity judge"
    if not all((folder() / path).is_file() for path in needed_files("toxigen")):
        return Check(SECTION, name, "note", "not trained: ToxiGen is not there")
    area = linear_judge_auroc()
    return Check(SECTION, name, "ok", f"AUROC {area:.3f} on ToxiGen's test half")
