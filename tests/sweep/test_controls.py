"""Control arms: what a choice has to beat before it is called more than a random direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.sweep.controls import Controls, against_random, arms_of


def test_controls_are_read_with_their_numbers(tmp_path: Path) -> None:
    assert Controls.parse("random:12,sign").counts == {"random": 12, "sign": 1}
    assert Controls.parse("random").counts == {"random": 8}
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
        ("prompt", {}, "needs --control-prompt"),
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
    arms = {arm.name: arm.plan for arm in arms_of(Controls.parse("random:3,sign"), choice)}
    assert list(arms) == ["random 1", "random 2", "random 3", "sign"]
    own = choice.plan().steps
    for step, other in zip(own, arms["random 1"].steps, strict=True):
        assert float(other.vector.norm()) == pytest.approx(float(step.vector.norm()), rel=1e-6)
        assert abs(float(torch.cosine_similarity(step.vector, other.vector, dim=0))) < 0.9
        assert (other.layer, other.alpha) == (step.layer, step.alpha)
    assert [step.alpha for step in arms["sign"].steps] == [-2.0, -2.0]
    assert len({arm.fingerprint for arm in arms.values()}) == 4
    again = {arm.name: arm.plan for arm in arms_of(Controls.parse("random:3"), choice)}
    assert again["random 2"].fingerprint == arms["random 2"].fingerprint


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
        called += against_random(found[looks.argmax()], found[tried:], tried=tried).is_more
    assert called / 1000 <= 0.05


def test_a_planted_direction_is_called_more_than_random_ones() -> None:
    random = np.random.default_rng(0)
    found = against_random(0.4, gains(random, 8, items=50), tried=12)
    assert (found.beaten, found.arms) == (8, 8)
    assert found.is_more


def test_arms_that_change_nothing_leave_no_spread() -> None:
    assert against_random(0.1, [0.0, 0.0, 0.0], tried=4).p == 0.0
    tie = against_random(0.0, [0.0, 0.0, 0.0], tried=4)
    assert (tie.p, tie.is_more) == (1.0, False)
    with pytest.raises(InputError, match="at least 3"):
        against_random(0.1, [0.0, 0.0], tried=4)


@pytest.mark.slow
def test_a_sweep_runs_its_choice_against_all_arms(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = tmp_path / "v.safetensors"
    build = ["vector", "build", "--model", "mini", "--dimension", "toxigen", "--source", "mini"]
    assert main([*build, "--layers", "1", "--out", str(vector)]) == 0
    controls = ["--controls", "prompt,random:3,shuffled,sign", "--control-prompt", "Be kind."]
    call = [
        "sweep",
        *("--model_args", "pretrained=mini-chat,dtype=float32", "--device", "cpu"),
        *("--vector", str(vector), "--layers", "1", "--alphas", "-8", "-4", "4", "8"),
        *("--tasks", "trust_world_choice_mini", "--metric", "acc", "--search", "grid"),
        *("--perplexity-ratio", "1e9", "--out", str(tmp_path / "out")),
    ]
    assert main([*call, *controls, "--control-source", "mini"]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "controls.csv")
    assert list(table["arm"]) == [
        "prompt",
        "random 1",
        "random 2",
        "random 3",
        "shuffled 1",
        "sign",
    ]
    assert "Control prompt" in printed
    assert "random directions of the same length" in printed
    # The same sweep without controls leaves none of those of the first.
    assert main(call) == 0
    assert not list((tmp_path / "out").glob("controls.*"))
