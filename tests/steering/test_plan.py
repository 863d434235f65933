"""What a steering plan accepts, refuses and identifies."""

from __future__ import annotations

import math

import pytest
import torch

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

AXIS = torch.eye(4)


def step(axis: int = 0, **settings: object) -> SteeringStep:
    return SteeringStep(layer=settings.pop("layer", 1), vector=2 * AXIS[axis], **settings)  # type: ignore[arg-type]


def vector(**layers: float) -> SteeringVector:
    made = {int(name[1:]): LayerVector(3 * AXIS[0], std, 5.0) for name, std in layers.items()}
    return SteeringVector(made, name="v.safetensors")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"action": "push"}, "Unknown steering action 'push'; known are ablate, add, clamp"),
        ({"positions": "generate"}, "Did you mean 'generated'?"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": math.inf}, "alpha=inf"),
        ({"action": "clamp"}, "needs a target projection"),
        ({"action": "clamp", "target": math.nan}, "target=nan"),
        ({"action": "clamp", "target": 1e39}, "target=1e+39 of vector is not a finite number"),
        ({"alpha": 1e300}, "alpha=1e+300 of vector is not a finite number of float32"),
        ({"alpha": 1e-46}, "too small: what it adds is 0 as float32"),
        ({"target": 1.0}, "means nothing to action=add"),
    ],
)
def test_impossible_steps_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        step(**settings)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("vector", "alpha", "words"),
    [
        (torch.zeros(3), 1.0, r"has length 0\.0"),
        (torch.full((3,), 3e38), 1.0, "has length inf"),
        (torch.full((3,), 3.0), -3e38, "too large: what it adds is infinite as float32"),
    ],
)
def test_a_change_that_float32_does_not_hold_is_refused(
    vector: torch.Tensor, alpha: float, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        SteeringStep(1, vector, alpha)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_vector_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="not a finite vector"):
        SteeringStep(0, torch.tensor([1.0, value]))


@pytest.mark.parametrize(
    "others",
    [
        (step(action="ablate"), step(alpha=3.0)),
        (step(action="clamp", target=1.0), step(action="clamp", target=2.0)),
        (step(action="ablate"), SteeringStep(1, -7 * AXIS[0])),
        (step(action="clamp", target=1.0, positions="last_prompt"), step(action="ablate")),
    ],
)
def test_steps_that_contradict_each_other_are_refused(
    others: tuple[SteeringStep, SteeringStep],
) -> None:
    with pytest.raises(InputError, match=r"contradict each other.*layer 1"):
        SteeringPlan(others)
    with pytest.raises(InputError, match="contradict"):
        SteeringPlan((others[0],)) + SteeringPlan((others[1],))


def test_steps_that_do_not_meet_go_together() -> None:
    plan = SteeringPlan(
        (step(action="ablate"), step(layer=2), step(axis=1), step(axis=2, alpha=-1.0))
    )
    assert list(plan.by_layer()) == [1, 2]
    assert len(plan.by_layer()[1]) == 3


def test_steps_of_a_layer_keep_their_order() -> None:
    steps = (step(axis=1, layer=2), step(axis=0), step(axis=2, layer=2), step(axis=3, layer=2))
    found = SteeringPlan((*steps, step(axis=1, alpha=0.0))).by_layer()
    assert found == {1: (steps[1],), 2: (steps[0], steps[2], steps[3])}


def test_vectors_of_two_widths_are_refused() -> None:
    with pytest.raises(InputError, match=r"widths \[3, 4\]"):
        SteeringPlan((step(), SteeringStep(1, torch.ones(3))))


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"blocks": 1, "width": 4}, "has 1 decoder blocks, numbered 0 to 0"),
        ({"blocks": 3, "width": 8}, "width 4, but tiny has hidden size 8"),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_refused(check: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SteeringPlan((step(),)).check(model="tiny", **check)


def test_scales_set_the_length_of_what_alpha_multiplies() -> None:
    source = vector(L3=0.5)
    lengths = {
        scale: SteeringPlan.from_vector(source, [3], scale=scale).steps[0].vector.norm().item()
        for scale in ("none", "unit", "projection_std")
    }
    assert lengths == pytest.approx({"none": 3.0, "unit": 1.0, "projection_std": 0.5})


def test_clamp_aims_at_the_trustworthy_side_unless_told_otherwise() -> None:
    plan = SteeringPlan.from_vector(vector(L3=1.0), [3], action="clamp")
    assert plan.steps[0].target == 5.0
    plan = SteeringPlan.from_vector(vector(L3=1.0), [3], action="clamp", target=-1.0)
    assert plan.steps[0].target == -1.0


def test_a_layer_that_the_vector_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"v\.safetensors has no layer 7; it holds 2, 3"):
        SteeringPlan.from_vector(vector(L2=1.0, L3=1.0), [7])


def test_the_fingerprint_tells_what_the_plan_does() -> None:
    plans = [
        SteeringPlan((step(),)),
        SteeringPlan((step(alpha=2.0),)),
        SteeringPlan((step(layer=2),)),
        SteeringPlan((step(axis=1),)),
        SteeringPlan((step(action="ablate"),)),
        SteeringPlan((step(positions="all"),)),
        SteeringPlan((step(), step(layer=2))),
        SteeringPlan(),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)
    assert SteeringPlan((step(alpha=0.0),)).fingerprint == SteeringPlan().fingerprint
    assert SteeringPlan((step(origin="a"),)).fingerprint == SteeringPlan((step(),)).fingerprint
