"""HSIC of all layers: one Cholesky factorisation a layer against the release's four inversions.

Activations of SmolLM2 on StereoSet's statements; training half, as the paper has it. The baseline
computes, for each layer, R = K H (K H + ε n I)⁻¹ for both sides of I(T, X) and of I(T, Y) (labels
as 0 and 1) in float32 with a general inverse, as the paper's release does. Then the price of the
permutation null, beside one evaluation.

    LM_EVAL_TRUST_DATA=FOLDER LM_EVAL_TRUST_SMOLLM2=FOLDER python benchmarks/hsic.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from lm_eval_trust.analysis.information import InformationPlane, InformationSettings
from lm_eval_trust.analysis.kernels import standardise
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.models.activation_store import load_or_extract
from lm_eval_trust.models.decoder_blocks import number_of_blocks
from lm_eval_trust.models.sources import load_source

SIGMA, EPSILON = 50.0, 1e-5
#: The four inversions take minutes in float64; errors are measured at every EVERY-th layer.
EVERY = 5
Sides = list[tuple[float, float]]


def activations(model_folder: str, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations (n, layers, hidden) of some of StereoSet's statements, and their labels."""
    model, tokenizer, identity = load_source(model_folder, dtype="float32", device="cpu")
    statements = load_statements("stereoset").sample(samples)
    layers = range(number_of_blocks(model))
    found = load_or_extract(model, tokenizer, statements.texts, layers=layers, identity=identity)
    return found, statements.labels


def four_inversions(values: list[torch.Tensor], labels: torch.Tensor) -> Sides:
    """The baseline, in the dtype of its arguments."""

    def kernel_times_h(x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        distances = torch.cdist(x, x).square()
        kernel = torch.exp(-distances / (2 * SIGMA**2 * x.shape[1]))
        return kernel @ (torch.eye(n, dtype=x.dtype) - 1.0 / n)

    def normalised(x: torch.Tensor) -> torch.Tensor:
        kh = kernel_times_h(x)
        return kh @ torch.inverse(kh + EPSILON * len(x) * torch.eye(len(x), dtype=x.dtype))

    def pair(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((normalised(x) * normalised(y).T).sum())

    return [(pair(t, values[0]), pair(t, labels)) for t in values]


def ours(values: np.ndarray, labels: np.ndarray, precision: str, permutations: int) -> Sides:
    """Both sides of all layers."""
    settings = InformationSettings(precision=precision, permutations=permutations)
    plane = InformationPlane(values[:, 0], labels, settings)
    found = [plane.measure(values[:, layer]) for layer in range(values.shape[1])]
    return [(result.input.value, result.label.value) for result in found]


def timed(call: Callable[[], Sides], runs: int) -> tuple[float, Sides]:
    """Median seconds, and what the last call gave."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), found


def worst(found: Sides, exact: Sides) -> float:
    """Largest relative error at the layers that the exact values are of."""
    a, b = np.array(found[::EVERY]), np.array(exact)
    return float(np.abs(a / b - 1).max())


def main() -> None:
    """Print times, ratios and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--samples", type=int, default=1562)
    parser.add_argument("--layers", type=int, default=30, help="of the model's, from the first")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    values, labels = activations(options.model, options.samples)
    values = values[:, : options.layers]
    print(f"n = {len(values)}, {values.shape[1]} layers of width {values.shape[2]}")

    def inputs(dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
        layers = [
            standardise(torch.from_numpy(values[:, i]).double()).to(dtype)
            for i in range(values.shape[1])
        ]
        return layers, torch.from_numpy(labels).to(dtype)[:, None]

    double, labels_double = inputs(torch.float64)
    exact = four_inversions(double[::EVERY], labels_double)
    single = inputs(torch.float32)
    baseline, found = timed(lambda: four_inversions(*single), 1)
    print(f"four inversions, float32   {baseline:7.2f} s  largest error {worst(found, exact):.1e}")
    for precision in ("float64", "mixed"):
        seconds, found = timed(lambda p=precision: ours(values, labels, p, 0), options.runs)
        with_null, _ = timed(lambda p=precision: ours(values, labels, p, 200), 1)
        print(
            f"one factorisation, {precision:8}{seconds:7.2f} s  largest error "
            f"{worst(found, exact):.1e}  {baseline / seconds:.1f} times faster; with the null of "
            f"200 permutations {with_null:.2f} s, {with_null / seconds:.2f} times one evaluation"
        )


if __name__ == "__main__":
    main()
