"""Control arms: what a choice has to beat before it is called more than a random direction."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.controls import (
    Controls,
    against_random,
    arms_of,
    random_step,
    smallest_step,
)
from lm_eval_trust.evaluate.lm_eval_internals import prompts_after
from lm_eval_trust.evaluate.prefixes import few_shot_prefixes, prompt_prefixes
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.spec import SteeringSpec

MC1 = "trust_truthfulqa_mc1_mini"


def test_controls_are_read_with_their_numbers(tmp_path: Path) -> None:
    assert Controls.parse("random:12,sign").counts == {"random": 12, "sign": 1}
    assert Controls.parse("random").counts == {"random": 8}
    assert Controls.parse("few-shot:3,unsteered").counts == {"few-shot": 3, "unsteered": 1}
    file = tmp_path / "prompt.txt"
    file.write_text("Be honest.", encoding="utf-8")
    assert Controls.parse("prompt", prompt=f"@{file}").prompt == "Be honest."


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("rotated", {}, "Unknown control 'rotated'"),
        ("random:2", {}, "whole number from 3"),
        ("random:x", {}, "whole number from 3"),
        ("sign:2", {}, "takes no number"),
        ("sign,sign", {}, "named twice"),
        ("few-shot:0", {}, "whole number from 1"),
        ("shuffled", {}, "needs --control-source"),
        ("sign", {"prompt": "Be honest."}, "belongs to --controls prompt"),
        ("sign", {"source": "mini"}, "belongs to --controls shuffled"),
        ("prompt", {"prompt": " "}, "empty"),
        ("prompt", {"prompt": "@/nowhere/prompt.txt"}, "cannot be read"),
    ],
)
def test_controls_that_cannot_run_are_refused(
    text: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Controls.parse(text, **given)


def test_arms_have_the_length_of_the_choice_and_other_directions(tmp_path: Path) -> None:
    file = tmp_path / "v.safetensors"
    random_vector(32, (0, 1), norm=6.0, seed=1).save(file)
    choice = SteeringSpec(vector=str(file), layer="0+1", alpha=2.0, scale="none")
    tasks = TaskIndex({}).load([MC1], limit=2)

    def plans(controls: str) -> dict[str, SteeringPlan]:
        return {a.name: a.plan for a in arms_of(Controls.parse(controls), [choice], tasks)}

    arms = plans("random:3,sign")
    assert list(arms) == ["random 1", "random 2", "random 3", "sign"]
    own = choice.plan().steps
    for step, other in zip(own, arms["random 1"].steps, strict=True):
        assert float(other.vector.norm()) == pytest.approx(float(step.vector.norm()), rel=1e-6)
        assert abs(float(torch.cosine_similarity(step.vector, other.vector, dim=0))) < 0.9
        assert (other.layer, other.alpha) == (step.layer, step.alpha)
    assert [step.alpha for step in arms["sign"].steps] == [-2.0, -2.0]
    assert len({arm.fingerprint for arm in arms.values()}) == 4
    assert plans("random:3")["random 2"].fingerprint == arms["random 2"].fingerprint


def test_examples_come_from_other_groups_than_those_that_are_evaluated() -> None:
    tasks = TaskIndex({}).load([MC1], part="test")
    evaluated = {str(doc["question"]) for doc in tasks.tasks[MC1].eval_docs}
    drawn = {seed: few_shot_prefixes(tasks, 4, seed)[MC1] for seed in (0, 0, 1)}
    assert drawn[0] != drawn[1]
    for text in drawn.values():
        examples = text.split("\n\n")[:-1]
        asked = {example.split("Q: ")[1].split(" A:")[0] for example in examples}
        assert len(examples) == len(asked) == 4
        assert not asked & evaluated
    answers = {
        f"Q: {row['question']} A: {row['mc1_targets']['choices'][0]}"
        for row in tasks.tasks[MC1].example_rows()
    }
    assert set(drawn[0].split("\n\n")) - {""} <= answers


def test_every_benchmark_of_the_paper_has_a_control_prompt_and_three_rewordings() -> None:
    tasks = TaskIndex({}).load(["trust_suite_mini"], limit=2)
    texts = [prompt_prefixes(tasks, None, wording=n) for n in range(4)]
    assert all(len(found) == 5 for found in texts)
    assert len({text for found in texts for text in found.values()}) == 20
    assert prompt_prefixes(tasks, "Be kind.") == dict.fromkeys(tasks.tasks, "Be kind.\n\n")


@pytest.mark.parametrize(
    ("task", "make", "message"),
    [
        ("trust_world_choice_mini", few_shot_prefixes, "no documents beside"),
        (MC1, few_shot_prefixes, "needs 5000 examples"),
        ("trust_world_choice_mini", prompt_prefixes, "has no such prompts"),
    ],
)
def test_tasks_without_examples_or_prompts_say_what_to_do(
    task: str, make: Callable[..., object], message: str
) -> None:
    tasks = TaskIndex({}).load([task], limit=2)
    arguments = (5000, 0) if make is few_shot_prefixes else (None,)
    with pytest.raises(InputError, match=message):
        make(tasks, *arguments)


def test_a_prefix_reaches_every_prompt_of_its_task_and_no_later_one() -> None:
    tasks = TaskIndex({}).load([MC1], limit=2)
    task = tasks.tasks[MC1]
    plain = task.fewshot_context(task.eval_docs[0], 0)
    with prompts_after(tasks.tasks, {MC1: "Be true.\n\n"}):
        assert task.fewshot_context(task.eval_docs[0], 0) == "Be true.\n\n" + plain
    assert task.fewshot_context(task.eval_docs[0], 0) == plain


def gains(random: np.random.Generator, directions: int, items: int) -> np.ndarray:
    """Gains on the test half: each direction has its own effect, all share the items' noise."""
    effects = random.normal(scale=0.03, size=directions)
    return effects + random.normal(scale=0.02, size=(items, directions)).mean(axis=0)


@pytest.mark.parametrize("tried", [1, 12])
def test_a_random_direction_is_seldom_called_more(tried: int) -> None:
    """The choice is the best of several random directions by a noisy look at their effects."""
    called = 0
    for run in range(1000):
        random = np.random.default_rng(run)
        found = gains(random, tried + 8, items=50)
        looks = found[:tried] + random.normal(scale=0.01, size=tried)
        called += against_random(
            found[looks.argmax()], found[tried:], tried=tried, step=0.0
        ).is_more
    assert called / 1000 <= 0.05


def test_a_planted_direction_is_called_more_than_random_ones() -> None:
    random = np.random.default_rng(0)
    found = against_random(0.4, gains(random, 8, items=50), tried=12, step=0.0)
    assert (found.beaten, found.arms) == (8, 8)
    assert found.is_more


def test_arms_that_change_hardly_any_item_spread_by_a_step() -> None:
    """One item of ten is what chance does; five are not."""
    still = [0.0] * 8
    one, five = (against_random(gain, still, tried=1, step=0.1) for gain in (0.1, 0.5))
    assert one.p == pytest.approx(stats.t.sf(1 / math.sqrt(1 + 1 / 8), 7))
    assert (one.is_more, five.is_more) == (False, True)
    tie = against_random(0.0, [0.0, 0.0, 0.0], tried=4, step=0.0)
    assert (tie.p, tie.is_more) == (1.0, False)
    with pytest.raises(InputError, match="at least 3"):
        against_random(0.1, [0.0, 0.0], tried=4, step=0.0)


def test_a_step_is_the_least_change_of_an_item() -> None:
    first = {"a": 0.0, "b": 1.0, "c": 0.5, "d": 0.0}
    assert smallest_step(first, [{"a": 1.0, "b": 1.0}, {"c": 0.25, "x": 0.0}]) == 0.25 / 4
    assert smallest_step(first, [first]) == smallest_step({}, []) == 0.0


@pytest.mark.slow
def test_a_sweep_runs_its_choice_against_all_arms(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = tmp_path / "v.safetensors"
    build = ["vector", "build", "--model", "mini", "--dimension", "toxigen", "--source", "mini"]
    assert main([*build, "--layers", "1", "--out", str(vector)]) == 0
    arms = "unsteered,prompt,few-shot:2,random:3,shuffled,sign"
    controls = ["--controls", arms, "--control-prompt", "Be kind."]
    call = [
        "sweep",
        *("--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"),
        *("--vector", str(vector), "--layers", "1", "--alphas", "-8", "-4", "4", "8"),
        *("--tasks", MC1, "--metric", "acc", "--search", "grid"),
        *("--perplexity-ratio", "1e9", "--out", str(tmp_path / "out")),
    ]
    assert main([*call, *controls, "--control-source", "mini"]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "controls.csv")
    assert list(table["arm"]) == [
        "unsteered",
        "prompt",
        "few-shot",
        "random 1",
        "random 2",
        "random 3",
        "shuffled 1",
        "sign",
    ]
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert list(effects["category"].isna()) == [True] + [False] * (len(effects) - 1)
    assert (effects[["right", "wrong", "unmoved"]].sum(axis=1) - 1).abs().max() < 1e-9
    assert (tmp_path / "out" / "figures" / "effects.svg").exists()
    assert f"On {MC1} it moves" in printed
    assert "Control prompt" in printed and "Control few-shot" in printed
    assert (table["change"][table["arm"] == "unsteered"] == 0).all()
    (file,) = (tmp_path / "out").glob("results/*-few-shot/test/**/results_*.json")
    config = json.loads(file.read_text())["config"]
    assert (config["control"]["arm"], config["control"]["kind"]) == ("few-shot", "few-shot")
    assert config["prefixes"][MC1].count("Q: ") == 2
    assert "random directions of the same length" in printed
    # The same sweep without controls leaves none of those of the first.
    assert main(call) == 0
    assert not list((tmp_path / "out").glob("controls.*"))


def test_a_random_arm_of_a_low_rank_change_adds_as_much_in_other_directions() -> None:
    random = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(2, 3, 40, generator=random)
    parts = {"rotation": rows, "weight": weight, "bias": torch.ones(3)}
    step = SteeringStep(1, torch.randn(40, generator=random), 1.0, "reft", parts=parts)
    states = torch.randn(5, 40, generator=random)
    first, second, again = (random_step(step, number) for number in (1, 2, 1))

    def added(each: SteeringStep) -> torch.Tensor:
        return ACTIONS["reft"].change(states, each.direction(), 1.0)

    for arm in (first, second):
        torch.testing.assert_close(added(arm).norm(dim=1), added(step).norm(dim=1))
        cosines = torch.nn.functional.cosine_similarity(added(arm), added(step))
        assert cosines.abs().mean() < 0.3
    assert not torch.allclose(added(first), added(second))
    assert torch.equal(added(first), added(again))
