"""LEACE against the formula of its paper, and against probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.linear_model import LogisticRegression

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.build import layer_vector
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

HIDDEN = 12


def labelled(items: int, trustworthy: int = 1) -> tuple[Any, Any]:
    """Statements with activations that a planted concept, among others, lies in."""
    statements = load_statements("reliability", data_source=MINI).sample(items)
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(HIDDEN, HIDDEN))
    activations = rng.normal(size=(len(statements), HIDDEN)) @ mixing + 4.0
    activations += np.outer(statements.labels, 2 * rng.normal(size=HIDDEN))
    return activations.astype(np.float32), statements


def erased(activations: Any, layer: LayerVector, alpha: float = 1.0) -> Any:
    step = SteeringPlan.from_vector(SteeringVector({0: layer}), [0], action="erase").steps[0]
    states = torch.from_numpy(activations).double()
    direction = step.direction().to(torch.float64)
    return (states + ACTIONS["erase"].change(states, direction, alpha)).numpy()


def by_the_paper(activations: Any, labels: Any) -> Any:
    """x − W⁺ P W (x − μ), with W the root of the covariance's pseudo-inverse (theorem 4.2)."""
    x = activations.astype(np.float64)
    centred, z = x - x.mean(axis=0), labels - labels.mean()
    covariance = centred.T @ centred / len(x)
    whitening = scipy.linalg.sqrtm(np.linalg.pinv(covariance, hermitian=True)).real
    crossed = (whitening @ (centred.T @ z) / len(x))[:, None]
    projection = crossed @ np.linalg.pinv(crossed)
    return x - centred @ (np.linalg.pinv(whitening) @ projection @ whitening).T


@pytest.mark.parametrize("items", [200, 9], ids=["many", "fewer than dimensions"])
def test_erasing_is_what_the_paper_says(items: int) -> None:
    activations, statements = labelled(items)
    layer = layer_vector("leace", activations, statements)
    expected = by_the_paper(activations, statements.labels)
    np.testing.assert_allclose(erased(activations, layer), expected, atol=2e-4)
    np.testing.assert_array_equal(erased(activations, layer, alpha=0.0), activations)


def test_no_linear_probe_beats_the_majority_afterwards() -> None:
    activations, statements = labelled(200)
    labels = statements.labels
    layer = layer_vector("leace", activations, statements)

    def accuracy(values: Any) -> float:
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        fitted = LogisticRegression(C=1e6, max_iter=5000, tol=1e-10).fit(values, labels)
        # At what the rounding of the vector to single precision leaves, every item is a tie.
        logits = fitted.decision_function(values)
        return float(((logits - np.median(logits) > 1e-2) == labels).mean())

    majority = max(labels.mean(), 1 - labels.mean())
    assert accuracy(activations) > majority + 0.1
    assert accuracy(erased(activations, layer)) <= majority + 1e-9


def test_erasing_does_not_depend_on_which_label_is_trustworthy() -> None:
    activations, statements = labelled(100)
    layer = layer_vector("leace", activations, statements)
    other = statements.relabelled((1 - statements.labels).tolist())
    reversed_layer = layer_vector("leace", activations, other)
    np.testing.assert_allclose(layer.direction, -reversed_layer.direction, rtol=1e-6)
    np.testing.assert_allclose(
        erased(activations, layer), erased(activations, reversed_layer), atol=1e-5
    )


def test_the_tensors_are_kept_in_the_file(tmp_path: Any) -> None:
    activations, statements = labelled(100)
    layer = layer_vector("leace", activations, statements)
    SteeringVector({5: layer, 6: LayerVector(layer.direction)}).save(tmp_path / "v.safetensors")
    back = load_vector(tmp_path / "v.safetensors")
    assert dict(back.layer(6).parts) == {}
    assert list(back.layer(5).parts) == ["covector", "mean"]
    for name, part in layer.parts.items():
        assert torch.equal(back.layer(5).parts[name], part)
    plans = [
        SteeringPlan.from_vector(v, [5], action="erase") for v in (back, SteeringVector({5: layer}))
    ]
    assert plans[0].fingerprint == plans[1].fingerprint
    with pytest.raises(InputError, match=r"needs covector and mean, .* method=leace"):
        SteeringPlan.from_vector(back, [6], action="erase", scale="none")


def test_another_fit_is_another_steering() -> None:
    activations, statements = labelled(100)
    layer = layer_vector("leace", activations, statements)
    moved = LayerVector(
        layer.direction, 1.0, 0.0, parts={**layer.parts, "mean": torch.ones(HIDDEN)}
    )
    plans = [
        SteeringPlan.from_vector(SteeringVector({0: each}), [0], action="erase", scale="none")
        for each in (layer, moved)
    ]
    assert plans[0].fingerprint != plans[1].fingerprint


@pytest.mark.parametrize(
    "parts",
    [{}, {"covector": torch.ones(4)}, {"covector": torch.ones(3), "mean": torch.ones(4)}],
)
def test_tensors_that_lack_or_do_not_fit_are_refused(parts: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"needs|do not fit each other"):
        SteeringStep(0, torch.ones(4), action="erase", parts=parts)


def test_a_method_that_finds_no_covector_is_refused_before_anything_is_built() -> None:
    with pytest.raises(InputError, match=r"method=mass_mean does not find; .*method=leace"):
        SteeringSpec(dimension="toxicity", action="erase")
    assert SteeringSpec(dimension="toxicity", action="erase", method="leace").action == "erase"
