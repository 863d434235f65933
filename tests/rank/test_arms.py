"""Which arms a ranking has, and what takes no part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.conformance import random_vector

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.rank.arms import Panel, controls_of, panel_of
from lm_eval_trust.rank.spec import RankSpec, read_rank_file
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

LAYERS = (0, 1)


def ranking(folder: Path, vectors: dict[str, SteeringVector], **keys: Any) -> RankSpec:
    """A ranking of vectors that lie in files."""
    for name, vector in vectors.items():
        vector.save(folder / f"{name}.safetensors")
    panel = {
        "tasks": ["trust_truthfulqa_mc2_mini"],
        "metric": "acc",
        "vectors": {name: f"{name}.safetensors" for name in vectors},
    }
    content = {
        "layers": [0, "0+1"],
        "scale": "none",
        "controls": {"random": 3, "shuffled": 0},
        "dimensions": {"panel": panel},
        **keys,
    }
    (folder / "rank.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_rank_file(folder / "rank.yaml")


def panel(folder: Path, spec: RankSpec) -> Panel:
    return panel_of("panel", spec, folder / "out")


def test_random_directions_are_as_long_and_as_many_for_each_action(tmp_path: Path) -> None:
    vector = random_vector(32, LAYERS, norm=6.0, seed=1)
    spec = ranking(tmp_path, {"mine": vector}, actions=["add", "rotate"])
    found = panel(tmp_path, spec)
    assert [arm.name for arm in found.methods] == ["mine add", "mine rotate"]
    assert [arm.name for arm in found.randoms][:4] == [
        "random 1 add",
        "random 2 add",
        "random 3 add",
        "random 1 rotate",
    ]
    assert {arm.limit(spec) for arm in found.methods} == {4.0, 180.0}
    for arm in found.randoms:
        assert list(arm.plans) == [(0,), (0, 1)]
        for step in arm.plans[(0, 1)].steps:
            assert float(step.vector.norm()) == pytest.approx(6.0, rel=1e-5)
            own = vector.layer(step.layer).direction
            assert abs(float(torch.cosine_similarity(own, step.vector, dim=0))) < 0.9
    prints = {arm.plans[(0,)].fingerprint for arm in (*found.methods, *found.randoms)}
    assert len(prints) == 8


def test_strengths_and_signs_scale_the_plan(tmp_path: Path) -> None:
    spec = ranking(tmp_path, {"mine": random_vector(32, LAYERS, norm=6.0, seed=1)})
    (arm,) = panel(tmp_path, spec).methods
    assert [step.alpha for step in arm.at((0, 1), 0.3).steps] == [0.3, 0.3]
    (sign,) = controls_of(arm, [(0,)], spec)
    assert (sign.kind, sign.of) == ("sign", "mine")
    assert [step.alpha for step in sign.at((0,), 0.3).steps] == [-0.3]


def test_of_vectors_that_steer_alike_one_takes_part(tmp_path: Path) -> None:
    vector = random_vector(32, LAYERS, norm=6.0, seed=1)
    other = random_vector(32, LAYERS, norm=6.0, seed=2)
    found = panel(tmp_path, ranking(tmp_path, {"a": vector, "b": vector, "c": other}))
    assert [arm.name for arm in found.methods] == ["a", "c"]
    assert found.notes == ("panel: b steers as a does, and is not run again.",)


def test_what_cannot_take_part_is_said_or_refused(tmp_path: Path) -> None:
    bare = {i: LayerVector(torch.ones(32) + i) for i in LAYERS}
    vectors = {"mine": SteeringVector(bare)}
    several = panel(tmp_path, ranking(tmp_path, vectors, actions=["add", "erase"]))
    assert [arm.name for arm in several.methods] == ["mine add"]
    assert several.notes[0].startswith("mine erase takes no part")
    for keys, message in (
        ({"actions": ["erase"], "methods": []}, "mine: "),
        ({"scale": "relative", "methods": []}, "does not carry the length of the hidden states"),
        ({"layers": 7, "methods": []}, "has no layer 7"),
        ({"controls": {"shuffled": 1}, "methods": []}, "shuffled: 0"),
        ({"actions": ["erase"]}, "no method can take part"),
    ):
        with pytest.raises(InputError, match=message):
            panel(tmp_path, ranking(tmp_path, vectors, **keys))
