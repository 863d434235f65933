"""Checks of what evaluations use: the benchmarks' files, the judges, and a model to steer."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from lm_eval_trust.benchmarks.files import DATA_VARIABLE, RELEASED, catalogue, is_offline, locate
from lm_eval_trust.benchmarks.load import data_of
from lm_eval_trust.benchmarks.registry import DIMENSIONS, UNIVERSAL
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.doctor.environment import Check, State, checked, is_reachable
from lm_eval_trust.judges.linear import linear_judge_auroc
from lm_eval_trust.judges.registry import REFUSAL, TOXICITY, TRUTH, JudgeChoice
from lm_eval_trust.judges.settings import JudgeSettings, split_models
from lm_eval_trust.models.decoder_blocks import hidden_size, number_of_blocks, text_blocks
from lm_eval_trust.models.sources import load_source
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

ORIGINS = (("raw.githubusercontent.com", 443), ("huggingface.co", 443))
PROMPT = "The capital of the island is"


def check_data() -> list[Check]:
    """Return one check per dimension, one for the universal set and one for the paper's release."""
    fetchable = _can_fetch()
    checks = []
    for dimension in (*DIMENSIONS, UNIVERSAL):
        name = f"{dimension.name} ({dimension.benchmark})"
        # The universal set serves vectors only; every other dimension has a task in the suite.
        lacking: State = "failed" if dimension.task else "note"
        files = needed_files(dimension.benchmark)
        check = functools.partial(_files, name, files, lacking, fetchable)
        checks.append(checked("data", name, check))
    released = [path for path in catalogue() if path.startswith(f"{RELEASED}/")]
    name = "the paper's release (data_source=tracingllm)"
    check = functools.partial(_files, name, released, "note", fetchable)
    return [*checks, checked("data", name, check)]


def needed_files(benchmark: str) -> list[str]:
    """Return the files that a benchmark's official source and tasks read."""
    own = {path for path in catalogue() if path.startswith(f"{benchmark}/")}
    return sorted(own | set(data_of(benchmark, "official").files))


def data_folder() -> Path:
    """Return the folder of the benchmarks' files; nothing is fetched."""
    configured = os.environ.get(DATA_VARIABLE)
    return Path(configured) if configured else cache_dir() / "data"


def _can_fetch() -> bool:
    if os.environ.get(DATA_VARIABLE) or is_offline():
        return False
    return all(is_reachable(origin) for origin in ORIGINS)


def _files(name: str, files: list[str], lacking: State, fetchable: bool) -> Check:
    absent = [path for path in files if not (data_folder() / path).is_file()]
    if not absent:
        for path in files:
            locate(path)  # raises if a checksum differs
        return Check("data", name, "ok", f"{len(files)} files in {data_folder()}")
    if fetchable:
        detail = f"{len(absent)} of {len(files)} files will be fetched on first use"
        return Check("data", name, "note", detail, "lm-eval-trust data fetch")
    return Check(
        "data",
        name,
        lacking,
        f"{data_folder()} lacks {', '.join(absent)}",
        f"set {DATA_VARIABLE} to a folder that holds it, or unset it and go online for "
        f"`lm-eval-trust data fetch`",
    )


def check_judges() -> list[Check]:
    """Return the judges in use, the server's settings and the quality of the linear judge."""
    return [
        _choice(TRUTH),
        _choice(TOXICITY),
        _choice(REFUSAL),
        checked("judges", "openai", _server),
        checked("judges", "linear", _linear),
    ]


def _choice(kind: JudgeChoice[Any]) -> Check:
    chosen = kind.chosen({})
    offline = kind.offline()
    detail = f"in use {chosen}; available without a download: {', '.join(offline)}"
    if kind.is_offline(chosen) or _is_here(chosen):
        return Check("judges", kind.setting, "ok", detail)
    advice = f"--metadata {kind.setting}={offline[0]}, or the variable {kind.variable}"
    return Check("judges", kind.setting, "note", detail, advice)


def _is_here(spec: str) -> bool:
    """Tell whether the models of ``hf:MODEL`` are in folders or in the Hub's cache."""
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
        return Check("judges", name, "note", f"no package openai; {detail}", "pip install openai")
    return Check("judges", name, "ok", detail)


def _linear() -> Check:
    name = "linear toxicity judge"
    if not all((data_folder() / path).is_file() for path in needed_files("toxigen")):
        return Check("judges", name, "note", "not trained: ToxiGen's files are missing")
    area = linear_judge_auroc()
    return Check("judges", name, "ok", f"AUROC {area:.3f} on ToxiGen's test half")


def check_model(path: str) -> Check:
    """Return whether a model loads, and whether steering changes the next token's logits."""
    return checked("model", path, lambda: _dry_run(path))


def _dry_run(path: str) -> Check:
    model, tokenizer, _ = load_source(path, dtype="float32", device="cpu")
    tokens = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    steerer = Steerer(model, _random_plan(model))
    plain = _next_token_logits(model, tokens)
    with steerer.apply():
        steered = _next_token_logits(model, tokens)
    after = _next_token_logits(model, tokens)
    blocks = f"{number_of_blocks(model)} decoder blocks of width {hidden_size(model)}"
    if torch.equal(plain, steered):
        return Check("model", path, "failed", f"{blocks}, but steering one changes no logit")
    if not torch.equal(plain, after):
        return Check("model", path, "failed", f"{blocks}, but the model stays changed afterwards")
    change = float((steered - plain).abs().max())
    detail = f"{blocks}; a dry run of steering moved the logits by up to {change:.2g}"
    return Check("model", path, "ok", detail)


def _random_plan(model: Any) -> SteeringPlan:
    """Return a plan that adds a random unit direction at the middle block."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(hidden_size(model), generator=generator)
    layers = text_blocks(model)
    return SteeringPlan(
        (SteeringStep(layers[len(layers) // 2], vector / vector.norm(), origin="dry run"),)
    )


@torch.inference_mode()
def _next_token_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=tokens).logits[0, -1]
    return logits
