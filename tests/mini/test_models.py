"""The family's names as model arguments, sources of vectors and steering entries."""

from __future__ import annotations

import pytest
from support.harness import evaluate

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError, LeakError
from lm_eval_trust.mini.family import mini_model
from lm_eval_trust.mini.world import MIDDLE_LAYER
from lm_eval_trust.model_wrappers.amber import Amber, SteeredAmber
from lm_eval_trust.model_wrappers.amber_arguments import MINI_STEERING
from lm_eval_trust.steering.vectors import load_vector

pytestmark = pytest.mark.usefixtures("quick")
CPU = {"device": "cpu", "batch_size": 8, "dtype": "float32"}


@pytest.fixture(autouse=True)
def default_source_of_the_quick_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MINI_STEERING, "source", "mini@ckpt_003")


def weight(model: Amber) -> float:
    return float(next(model.model.parameters()).double().abs().sum())


def test_checkpoint_revision_and_name_mean_the_same() -> None:
    ways = (
        {"pretrained": "mini@ckpt_002"},
        {"pretrained": "mini", "checkpoint": 2},
        {"pretrained": "mini", "revision": "ckpt_002"},
    )
    first, *others = (weight(Amber(**way, **CPU)) for way in ways)
    assert all(other == first for other in others)
    assert first != weight(Amber(pretrained="mini", **CPU))


def test_a_checkpoint_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="name the checkpoint twice"):
        Amber(pretrained="mini@ckpt_002", checkpoint=3, **CPU)


def test_steering_needs_no_more_than_the_model() -> None:
    model = SteeredAmber(pretrained="mini-chat", **CPU)
    (built,) = model.plan.built_from
    assert (built.model, built.dimension) == ("mini@ckpt_003", "universal")
    assert built.data_source == "mini"
    assert [step.layer for step in model.plan.steps] == [MIDDLE_LAYER]


def test_a_dimension_is_built_in_the_world_of_the_model() -> None:
    model = SteeredAmber(pretrained="mini-chat", dimension="privacy", layer=1, alpha=3, **CPU)
    (built,) = model.plan.built_from
    assert (built.dimension, built.data_source) == ("privacy", "mini")
    assert [(step.layer, step.alpha) for step in model.plan.steps] == [(1, 3.0)]


def test_the_leak_guard_covers_the_world() -> None:
    model = SteeredAmber(pretrained="mini-chat", dimension="reliability", split_seed=1, **CPU)
    with pytest.raises(LeakError, match="items of trust_truthfulqa_mini"):
        evaluate(model, ["trust_truthfulqa_mini"])
    assert evaluate(model, ["trust_truthfulqa_mini"], split_seed=1, limit=2)


def test_vector_build_takes_names_and_the_mini_source(tmp_path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "v.safetensors"
    arguments = ["--model", "mini@ckpt_004", "--dimension", "toxicity", "--source", "mini"]
    assert main(["vector", "build", *arguments, "--layers", "0-3", "--out", str(out)]) == 0
    provenance = load_vector(out).provenance
    assert provenance is not None
    assert (provenance.model, provenance.data_source) == ("mini@ckpt_004", "mini")
    assert provenance.settings["world"] == 0


def test_an_embedded_model_is_a_folder_for_everybody_else() -> None:
    assert (mini_model("mini-chat") / "config.json").is_file()
