"""Many configurations in one stream of vLLM's requests, against our own shared passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.sweep.sweep_model import load_sweep_model

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_batched_tokens": 64,  # Prompts are read in parts.
    "max_num_seqs": 16,
    "num_gpu_blocks_override": 40,  # Few enough that requests are preempted.
}
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small village by the sea, and everyone who lived there",
    "Question: Is water wet? Answer:",
    "One",
)
_random = torch.Generator().manual_seed(8)


def _step(layer: int, action: str, positions: str, alpha: float) -> SteeringStep:
    vector = torch.randn(576, generator=_random)
    target = 20.0 if ACTIONS[action].needs_target else None
    return SteeringStep(layer, vector, alpha, action, positions, target)


PLANS = [
    SteeringPlan(),
    *(
        SteeringPlan((_step(layer, action, positions, alpha),))
        for layer, action, positions, alpha in [
            (0, "add", "generated", 0.3),
            (12, "add", "all", -2.0),
            (29, "clamp", "last_prompt", 1.0),
            (20, "ablate", "generated", 1.0),
        ]
    ),
]


def _generations() -> list[Instance]:
    settings = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False}
    return [Instance("generate_until", {}, (p, settings), i) for i, p in enumerate(PROMPTS)]


def _continuations() -> list[Instance]:
    pairs = [(p, rest) for p in PROMPTS for rest in (" Paris and then", " no")]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def _texts() -> list[Instance]:
    return [Instance("loglikelihood_rolling", {}, (p,), i) for i, p in enumerate(PROMPTS)]


def _answers(model: Any, plans: Sequence[SteeringPlan]) -> list[dict[str, Any]]:
    found = []
    for plan in plans:
        model.steer_by(plan)
        scores = model.loglikelihood(_continuations(), True)
        of_scores = model.take_divergence()
        texts = model.loglikelihood_rolling(_texts(), True)
        found.append(
            {
                "generated": model.generate_until(_generations(), True),
                "greedy": [greedy for _, greedy in scores],
                "scores": [score for score, _ in scores] + texts,
                "divergence": [of_scores, model.take_divergence()],
            }
        )
    return found


@pytest.mark.model
def test_a_stream_answers_as_shared_passes_do(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"pretrained": str(smollm2)}
    inside = load_sweep_model("amber", {**arguments, **ENGINE}, engine="vllm", plans=PLANS)
    beside = load_sweep_model("amber", {**arguments, "dtype": "float32", "device": "cpu"})
    found = []
    for name, model in (("inside", inside), ("beside", beside)):
        with KeyedStore(tmp_path / f"{name}.sqlite", name) as answers:
            model.sweep(PLANS, answers)
            found.append(_answers(model, PLANS))
            if model is inside:
                monkeypatch.setattr(model.model, "generate", None)
                assert _answers(model, PLANS) == found[0], "the second time nothing is computed"
                monkeypatch.undo()
    for of_plan, wanted in zip(*found, strict=True):
        assert of_plan["generated"] == wanted["generated"]
        assert of_plan["greedy"] == wanted["greedy"]
        np.testing.assert_allclose(of_plan["scores"], wanted["scores"], atol=2e-3)
        np.testing.assert_allclose(of_plan["divergence"], wanted["divergence"], atol=1e-4)
    assert found[0][0]["divergence"] == [0, 0]
    assert all(of_plan["divergence"][0] > 0 for of_plan in found[0][1:])
