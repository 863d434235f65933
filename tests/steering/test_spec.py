"""One declaration of a steering: what it takes, what it refuses and where it says so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import (
    STEERING_KEYS,
    SteeringSpec,
    choices_for,
    combined_plan,
    read_steering_file,
    steering_yaml,
)
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    import torch

    layers = {layer: LayerVector(torch.eye(4)[layer], 2.0, 1.0) for layer in range(3)}
    SteeringVector(layers).save(tmp_path / "v.safetensors")
    return tmp_path / "v.safetensors"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either vector=FILE or dimension=NAME"),
        ({"vector": "v", "dimension": "toxicity"}, "either vector=FILE or dimension=NAME"),
        ({"vector": 3}, "vector=3 is not the name of a file"),
        ({"vector": ""}, "vector='' is not the name of a file"),
        ({"dimension": 3}, "dimension=3 is not a text"),
        ({"dimension": "honesty"}, "Unknown dimension 'honesty'"),
        ({"vector": "v", "alpha": math.nan}, "alpha=nan is not a number"),
        ({"vector": "v", "alpha": math.inf}, "alpha=inf is not a number"),
        ({"vector": "v", "alpha": True}, "alpha=True is not a number"),
        ({"vector": "v", "alpha": "2"}, "alpha='2' is not a number"),
        ({"vector": "v", "target": "high"}, "target='high' is not a number"),
        ({"vector": "v", "target": 1.0}, "means nothing to action=add"),
        ({"vector": "v", "layer": True}, "layer=True names no decoder block"),
        ({"vector": "v", "layer": 1.5}, "layer=1.5 names no decoder block"),
        ({"vector": "v", "layer": []}, "names no decoder block"),
        ({"vector": "v", "layer": [1, None]}, "names no decoder block"),
        ({"vector": "v", "layer": [1, 1]}, "name a layer twice"),
        ({"vector": "v", "action": "push"}, "known are ablate, add, clamp"),
        ({"vector": "v", "action": ["add"]}, "Unknown steering action"),
        ({"vector": "v", "positions": "generate"}, "Did you mean 'generated'?"),
        ({"vector": "v", "scale": "huge"}, "Unknown scale 'huge'"),
        ({"dimension": "toxicity", "method": "lda"}, "Unknown method 'lda'"),
        ({"dimension": "toxicity", "split": "rows"}, "Unknown split 'rows'"),
        ({"dimension": "toxicity", "split_seed": 1.0}, "split_seed=1.0 is not a whole number"),
        ({"dimension": "toxicity", "split_seed": -1}, "split_seed=-1 is not a whole number"),
        ({"dimension": "toxicity", "source": 3}, "source=3 is not a text"),
        ({"dimension": "toxicity", "chat_template": ""}, "chat_template='' is not a text"),
        ({"vector": "v", "chat_template": "So?"}, "pass dimension=NAME, not vector=FILE"),
    ],
)
def test_what_cannot_be_steered_by_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        SteeringSpec(**settings)  # type: ignore[arg-type]
    assert words in str(error.value)


@pytest.mark.parametrize("key", STEERING_KEYS)
def test_a_null_is_refused_under_every_key(key: str) -> None:
    with pytest.raises(InputError, match=f"^{key} has no value"):
        SteeringSpec.parse({"vector": "v", key: None})


def test_layers_are_numbers_however_they_are_written() -> None:
    written: tuple[object, ...] = ("14+16", "14,16", [14, 16], (14, "16"))
    assert {SteeringSpec(vector="v", layer=layer).layers for layer in written} == {(14, 16)}  # type: ignore[arg-type]
    assert SteeringSpec(vector="v", layer=3).layer_text == "3"


def test_specs_of_one_family_are_equal_at_one_strength() -> None:
    weak = SteeringSpec(vector="v", layer=[1, 2], alpha=1)
    assert weak.at(4.0) != weak
    assert {weak, weak.at(4.0).at(1.0)} == {weak}
    assert weak.at(0.5).describe() == "v-layer1+2-generated-add-projection_std-alpha0.5"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("steering: []\n", "line 1, steering: the list 'steering' is empty"),
        ("steering:\n", "line 1, steering: there is no list of entries"),
        ("steering: {vector: v}\n", "there is no list of entries"),
        ("steering: [{vector: v}, 3]\n", "there is no list of entries"),
        ("vectors: []\n", "there is no list of entries under the key 'steering'"),
        ("steering: [{vector: v}]\nlayer: 3\n", "line 2, layer: Unknown key beside 'steering'"),
        ("steering:\n- vector: v\n  layr: 3\n", "line 3, steering.0.layr: Unknown key in entry 1"),
        ("steering:\n- vector: v\n  alpha: big\n", "line 3, steering.0.alpha: alpha='big'"),
        ("steering:\n- vector: v\n  alpha:\n", "line 3, steering.0.alpha: alpha has no value"),
        ("steering:\n- vector: v\n  alpha: .nan\n", "line 3, steering.0.alpha: alpha=nan"),
        ("steering:\n- vector: v\n- layer: 3\n", "line 3, steering.1: A steering names either"),
        ("steering:\n- vector: v\n  alpha: 1\n  alpha: 2\n", "line 4"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place(
    tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "steering.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as error:
        read_steering_file(file)
    assert str(error.value).startswith(f"{file}, line ") and words in str(error.value)


def test_a_steering_file_that_is_written_is_read_again(tmp_path: Path, vector: Path) -> None:
    specs = [
        SteeringSpec(vector=str(vector), layer=[0, 2], alpha=-1.5, positions="all", scale="unit"),
        SteeringSpec(vector=str(vector), layer=1, action="clamp", target=0.5),
    ]
    file = tmp_path / "steering.yaml"
    file.write_text(steering_yaml(specs, tmp_path, comment="two\nsteerings"))
    assert file.read_text().startswith("# two\n# steerings\nsteering:\n- vector: v.safetensors\n")
    assert read_steering_file(file) == specs
    steps = combined_plan(read_steering_file(file)).steps
    assert [(s.layer, s.alpha, s.action, s.target) for s in steps] == [
        (0, -1.5, "add", None),
        (2, -1.5, "add", None),
        (1, 1.0, "clamp", 0.5),
    ]


def test_help_pages_name_what_there_is() -> None:
    assert choices_for("action") == "add (default), clamp, ablate, rotate, erase, reft"
    assert choices_for("method") == "mass_mean (default), pca, logistic, leace, reft_r1, loreft"
