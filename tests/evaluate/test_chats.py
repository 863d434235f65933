"""Tasks that ask chat models are asked by the model's template, in our own evaluations too."""

from __future__ import annotations

from pathlib import Path

import lm_eval
import pytest
import torch

from lm_eval_trust.core.saved_runs import CHATS
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.evaluate.evaluator import Outcome, evaluate
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.sweep.sweep_model import SweepLM, load_sweep_model

TASK, PLAIN = "trust_xstest", "trust_sst2"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.model,
    pytest.mark.usefixtures("data_dir", "own_cache"),
]


@pytest.fixture(scope="module")
def model(smollm2: Path) -> SweepLM:
    arguments = {"pretrained": str(smollm2), "dtype": "float32", "device": "cpu"}
    return load_sweep_model("amber", {**arguments, "batch_size": 4})


def evaluated(
    model: SweepLM, folder: Path, prefixes: dict[str, str] | None = None
) -> tuple[Outcome, list[str]]:
    """What our evaluator gives on two items of each task, and XSTest's prompts."""
    tasks = TaskIndex({"answer_tokens": 8}).load([TASK, PLAIN], limit=2)
    with KeyedStore(folder / "answers.sqlite", "test") as answers, torch.inference_mode():
        model.sweep([SteeringPlan()], answers)
        model.steer_by(SteeringPlan())
        found = evaluate(model, tasks, folder / "results", prefixes=prefixes)
    return found, [each["prompt"] for each in found.examples[TASK]]


def test_a_chat_is_asked_as_the_harness_asks_it(
    model: SweepLM, smollm2: Path, tmp_path: Path
) -> None:
    found, prompts = evaluated(model, tmp_path)
    tasks = TaskIndex({"answer_tokens": 8}).load([TASK], limit=2)
    theirs = lm_eval.simple_evaluate(
        "hf",
        {"pretrained": str(smollm2), "dtype": "float32"},
        tasks=[tasks.tasks[TASK]],
        limit=2,
        device="cpu",
        apply_chat_template=True,
        bootstrap_iters=0,
    )["samples"][TASK]
    assert prompts == [sample["arguments"][0][0] for sample in theirs]
    assert [each["answer"] for each in found.examples[TASK]] == [s["resps"][0][0] for s in theirs]
    plain = found.examples[PLAIN]
    assert not any("<|im_start|>" in each["prompt"] for each in plain)
    (saved,) = (tmp_path / "results").rglob("results_*.json")
    assert f'"{CHATS}": [\n      "{TASK}"\n    ]' in saved.read_text(encoding="utf-8")


def test_a_prompt_arm_stands_in_the_users_turn(model: SweepLM, tmp_path: Path) -> None:
    plain = evaluated(model, tmp_path / "plain")[1]
    asked = evaluated(model, tmp_path / "asked", {TASK: "Be kind.\n\n", PLAIN: "Look: "})
    turn = "<|im_start|>user\n"
    assert asked[1] == [prompt.replace(turn, f"{turn}Be kind.\n\n") for prompt in plain]
    assert all(each["prompt"].startswith("Look: ") for each in asked[0].examples[PLAIN])
    assert evaluated(model, tmp_path / "after")[1] == plain
