"""A layer's full probing battery: 55 regressions solved together against a loop over scikit-learn.

Five values of C for the labels and for ten control labelings, at n = 1,562: on synthetic
activations of width 4,096, and on a layer of SmolLM2 on StereoSet's statements. Both go to the same
optimum, which is checked by the largest difference of coefficients. The loop is timed on one
labeling (five fits) and multiplied, unless ``--whole-loop`` is given.

    LM_EVAL_TRUST_DATA=FOLDER LM_EVAL_TRUST_SMOLLM2=FOLDER python benchmarks/probing.py
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from hsic import activations
from sklearn.linear_model import LogisticRegression

from lm_eval_trust.analysis.logistic import FeatureSpace

C_VALUES = (0.01, 0.1, 1.0, 10.0, 100.0)
CONTROLS = 10


def synthetic(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations with a few strong directions, as models have, and a label along one of many."""
    random = np.random.default_rng(0)
    scale = 1.0 / np.sqrt(1 + np.arange(d))
    values = (random.normal(size=(n, d)) * scale) @ random.normal(size=(d, d)) / np.sqrt(d)
    labels = (values @ random.normal(size=d) + 0.5 * values.std() > 0).astype(np.int64)
    return values, labels


def battery(name: str, values: np.ndarray, labels: np.ndarray, *, whole_loop: bool) -> None:
    """Print both times, their ratio, and the largest difference of coefficients."""
    random = np.random.default_rng(1)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    scaled = np.ascontiguousarray(scaled, dtype=np.float64)
    labelings = np.stack([labels, *(random.permutation(labels) for _ in range(CONTROLS))], axis=1)
    start = time.perf_counter()
    problems = torch.from_numpy(np.repeat(labelings, len(C_VALUES), axis=1))
    c = torch.tensor(C_VALUES, dtype=torch.float64).repeat(labelings.shape[1])
    fits = FeatureSpace(torch.from_numpy(scaled)).fit(problems, c)
    together = time.perf_counter() - start
    looped = labelings.shape[1] if whole_loop else 1
    # Its fastest solver where there are fewer features than samples, its default elsewhere.
    solver = "newton-cholesky" if scaled.shape[1] < len(scaled) else "lbfgs"
    worst, start = 0.0, time.perf_counter()
    for labeling in range(looped):
        for at, value in enumerate(C_VALUES):
            # Its tolerance is on the gradient over C n: a coarser one stops short of the optimum.
            model = LogisticRegression(C=value, tol=1e-10, max_iter=100_000, solver=solver)
            model.fit(scaled, labelings[:, labeling])
            mine = fits.coefficients[labeling * len(C_VALUES) + at].numpy()
            worst = max(worst, float(np.abs(model.coef_[0] - mine).max()))
    loop = (time.perf_counter() - start) * labelings.shape[1] / looped
    said = "measured" if whole_loop else "from five fits"
    print(
        f"{name}: n = {len(values)}, d = {values.shape[1]}, {problems.shape[1]} fits\n"
        f"  scikit-learn's loop {loop:7.2f} s ({solver}, {said})\n"
        f"  solved together     {together:7.2f} s, {loop / together:.1f} times faster; largest "
        f"difference of coefficients {worst:.1e}"
    )


def main() -> None:
    """Run both batteries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("LM_EVAL_TRUST_SMOLLM2"))
    parser.add_argument("--samples", type=int, default=1562)
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--whole-loop", action="store_true", help="time all 55 fits of the loop")
    options = parser.parse_args()
    wide = synthetic(options.samples, 4096)
    battery("synthetic", *wide, whole_loop=options.whole_loop)
    values, labels = activations(options.model, options.samples)
    battery("SmolLM2", values[:, options.layer], labels, whole_loop=options.whole_loop)


if __name__ == "__main__":
    main()
