"""Conditions: what is accepted, which rows are steered, and that the decision is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score
from support.models import build_llama

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.arguments import plan_from_arguments, split_arguments
from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.conditions import Condition, When
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.spec import SteeringSpec, read_steering_file, steering_yaml
from lm_eval_trust.steering.thresholds import best_threshold
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector
from lm_eval_trust.study.spec import SteeringGridSpec
from lm_eval_trust.sweep.grid import Grid

WIDTH = 32
UNIT = torch.nn.functional.normalize(
    torch.randn(WIDTH, generator=torch.Generator().manual_seed(5)), dim=0
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A vector and a condition."""
    found = []
    for name, seed in (("v", 1), ("c", 2)):
        drawn = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(seed))
        vector = SteeringVector({i: LayerVector(drawn[i], 1.0, 0.0) for i in range(3)})
        vector.save(tmp_path / f"{name}.safetensors")
        found.append(str(tmp_path / f"{name}.safetensors"))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"threshold": 0.2}, r"when has no vector; expected for instance when: \{vector"),
        ({"vector": "c.safetensors"}, "when has no threshold"),
        ({}, "when has no vector and no threshold"),
        ("c.safetensors", "is no mapping"),
        ({"vector": "c", "threshold": 0.2, "treshold": 1}, "Unknown key of when 'treshold'"),
        ({"vector": "c", "threshold": 2}, "is no cosine"),
        ({"vector": "c", "threshold": True}, "is no cosine"),
        ({"vector": "c", "threshold": "high"}, "is no cosine"),
        ({"vector": "c", "threshold": float("nan")}, "is no cosine"),
        ({"vector": "c", "threshold": 0.2, "layer": -1}, r"when\.layer=-1 is no decoder block"),
        ({"vector": "c", "threshold": 0.2, "layer": 1.5}, r"when\.layer=1\.5"),
        ({"vector": "c", "threshold": 0.2, "above": "no"}, "neither true nor false"),
        ({"vector": "", "threshold": 0.2}, "is not the name of a file"),
        ({"vector": "c", "threshold": 0.2, "layer": 2}, r"above the steered layer 1.*up to 1"),
    ],
)
def test_impossible_conditions_are_refused(when: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SteeringSpec.parse({"vector": "v", "layer": "1+2", "when": when})


def test_every_token_cannot_wait_for_the_end_of_the_prompt() -> None:
    when = {"vector": "c", "threshold": 0.2}
    with pytest.raises(InputError, match=r"positions=all steers before .*generated or last_prompt"):
        SteeringSpec(vector="v", positions="all", when=when)
    condition = Condition(1, UNIT, 0.2)
    with pytest.raises(InputError, match="positions=all"):
        SteeringStep(1, UNIT, positions="all", when=condition)
    with pytest.raises(InputError, match="above the steered layer 0"):
        SteeringStep(0, UNIT, when=condition)


def test_model_arguments_files_and_python_ask_for_the_same(
    files: tuple[str, str], tmp_path: Path
) -> None:
    vector, condition = files
    when = {"vector": condition, "threshold": -0.1, "layer": 1, "above": False}
    spec = SteeringSpec(vector=vector, layer=2, scale="none", when=when)
    assert spec.condition == When(condition, -0.1, 1, above=False)
    (tmp_path / "steering.yaml").write_text(steering_yaml([spec], tmp_path))
    text = (tmp_path / "steering.yaml").read_text()
    assert "vector: c.safetensors" in text and str(tmp_path) not in text
    (read,) = read_steering_file(tmp_path / "steering.yaml")
    flat = {f"when.{key}": value for key, value in when.items()}
    request, own, rest = split_arguments(
        {"vector": vector, "layer": 2, "scale": "none", **flat}, frozenset(), frozenset()
    )
    assert (own, rest) == ({}, {})
    plans = [spec.plan(), read.plan(), plan_from_arguments(request, None)]
    assert len({plan.fingerprint for plan in plans}) == 1
    assert "when-c-layer1-upto-0.1" in spec.describe() and "/" not in spec.describe()
    unconditional = SteeringSpec(vector=vector, layer=2, scale="none").plan()
    assert unconditional.fingerprint != spec.plan().fingerprint


def test_a_threshold_has_the_best_f1_of_all() -> None:
    rng = np.random.default_rng(2)
    wanted = rng.random(60) < 0.4
    cosines = rng.normal(size=60) * 0.2 - 0.2 * wanted
    found = best_threshold(cosines, wanted)

    def f1(value: float, above: bool) -> float:
        return float(f1_score(wanted, (cosines > value) == above))

    assert found.f1 == pytest.approx(f1(found.value, found.above))
    assert found.f1 >= max(f1(v, above) for v in np.linspace(-1, 1, 400) for above in (True, False))
    assert not found.above
    assert best_threshold(-cosines, wanted).above
    steered = cosines <= found.value
    assert found.precision == pytest.approx(precision_score(wanted, steered))
    assert found.recall == pytest.approx(recall_score(wanted, steered))
    with pytest.raises(InputError, match="all have the same label"):
        best_threshold(cosines, np.ones(60, dtype=bool))
    with pytest.raises(InputError, match="same cosine"):
        best_threshold(np.zeros(60), wanted)


def test_sweeps_and_studies_hand_the_condition_on(files: tuple[str, str], tmp_path: Path) -> None:
    when = When(files[1], 0.1, 0)
    grid = Grid((files[0],), ((1,),), (1.0, 2.0), when=when)
    assert [spec.condition for spec in grid.configurations] == [when, when]
    assert grid.fingerprint != Grid((files[0],), ((1,),), (1.0, 2.0)).fingerprint
    settings = {"sources": ["m"], "dimensions": ["toxicity"], "layers": [1], "alphas": [1]}
    asked = SteeringGridSpec(**settings, when={"vector": files[1], "threshold": 0.1})
    assert asked.when == When(files[1], 0.1)
    with pytest.raises(ValueError, match="when has no vector"):
        SteeringGridSpec(**settings, when={"threshold": 0.1})


def test_both_ways_at_once_are_refused() -> None:
    with pytest.raises(InputError, match=r"when is given beside when\.threshold"):
        split_arguments({"when": {}, "when.threshold": 1}, frozenset(), frozenset())


def test_the_lowest_steered_layer_decides_by_default(files: tuple[str, str]) -> None:
    spec = SteeringSpec(vector=files[0], layer="1+2", when={"vector": files[1], "threshold": 0.0})
    (condition,) = spec.plan().conditions
    assert condition.layer == 1


@pytest.mark.parametrize(("changed", "value"), [("threshold", 0.3), ("above", False), ("layer", 0)])
def test_another_condition_is_another_steering(
    files: tuple[str, str], changed: str, value: Any
) -> None:
    when = {"vector": files[1], "threshold": 0.2, "layer": 1}
    one = SteeringSpec(vector=files[0], layer=1, when=when).plan()
    other = SteeringSpec(vector=files[0], layer=1, when={**when, changed: value}).plan()
    assert one.fingerprint != other.fingerprint


def test_the_condition_has_the_width_of_the_model() -> None:
    with pytest.raises(InputError, match="mixes vectors of widths"):
        SteeringPlan((SteeringStep(1, UNIT, when=Condition(0, torch.ones(4) / 2, 0.1)),))


@pytest.mark.parametrize("above", [True, False])
def test_a_state_that_is_compared_is_what_the_block_gave(above: bool) -> None:
    """What is steered at the condition's own layer is decided before it is steered."""
    model, tokens = build_llama(layers=3, hidden=WIDTH), torch.randint(3, 200, (6, 9))
    ends = torch.tensor([8, 4, 0, 7, 2, -1])
    states: list[torch.Tensor] = []
    handle = model.model.layers[1].register_forward_hook(lambda m, a, out: states.append(out))
    with torch.no_grad():
        plain = model(tokens).logits
    handle.remove()
    at_ends = states[0][torch.arange(6), ends]
    cosines = torch.nn.functional.cosine_similarity(at_ends, UNIT[None], dim=-1)
    threshold = float(cosines[:5].median()) + 1e-4
    step = SteeringStep(1, 5 * UNIT, when=Condition(1, UNIT, threshold, above))
    always = SteeringPlan((SteeringStep(1, 5 * UNIT),))
    with torch.no_grad():
        with Steerer(model, always).apply(ends):
            steered = model(tokens).logits
        with Steerer(model, SteeringPlan((step,))).apply(ends):
            found = model(tokens).logits
    expected = (cosines > threshold) == above
    expected[5] = False
    assert 0 < int(expected.sum()) < 5
    for row, chosen in enumerate(expected.tolist()):
        assert torch.equal(found[row], (steered if chosen else plain)[row])


def test_a_decision_is_kept_through_a_cache_and_made_anew_for_the_next_prompt() -> None:
    model = build_llama(layers=3, hidden=WIDTH)
    tokens = torch.randint(3, 200, (4, 12), generator=torch.Generator().manual_seed(0))
    ends = torch.tensor([3, 5, 1, 4])
    found = []
    plan = SteeringPlan((SteeringStep(2, 5 * UNIT, when=Condition(1, UNIT, 0.0)),))
    with torch.no_grad(), Steerer(model, plan).apply(ends):
        for rows in (tokens, tokens.flip(1)):
            whole, cache, pieces = model(rows).logits, None, []
            for first, last in ((0, 2), (2, 5), (5, 6), (6, 12)):
                output = model(rows[:, first:last], use_cache=True, **{CACHE: cache})
                cache = output[CACHE]
                pieces.append(output.logits)
            torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)
            found.append(whole)
    assert not torch.equal(found[0], found[1])
