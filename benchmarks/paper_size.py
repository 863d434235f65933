"""How long the paper's whole analysis takes: a slice of it, measured and extrapolated.

360 checkpoints × 32 layers × 5 dimensions with 2,000 statements of width 4,096. Synthetic
activations of some layers are written to disk as an activation set and analysed as
`lm-eval-trust analyze` does: a probe with five control labelings, both sides of nHSIC with 200
permutations, and the alignment to the final checkpoint. Peak memory is that of this process.

    python benchmarks/paper_size.py
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.study.activation_sets import SetInfo, save_set
from lm_eval_trust.study.analyse import analyse
from lm_eval_trust.study.measure import AnalysisSettings

CELLS = 360 * 32 * 5
SAMPLES, WIDTH = 2000, 4096


def write_slice(folder: Path, layers: int, unequal: bool) -> None:
    """One checkpoint's set of one dimension, as far as these layers."""
    random = np.random.default_rng(0)
    labels = np.arange(SAMPLES) % 2
    activations = random.normal(size=(SAMPLES, layers, WIDTH)).astype(np.float32)
    activations[:, :, :8] += 0.5 * (labels - 0.5)[:, None, None]
    sizes = 2 * random.integers(1, 8, size=SAMPLES) if unequal else np.full(SAMPLES, 2)
    groups = [f"g{number}" for number in np.arange(SAMPLES).repeat(sizes)[:SAMPLES]]
    info = SetInfo("ckpt_000", 0, 0, "reliability", "synthetic", "synthetic")
    save_set(
        folder,
        info,
        activations,
        layers=range(layers),
        labels=labels,
        groups=groups,
        parts=partition(groups),
    )


def timed(sets: Path, out: Path, settings: AnalysisSettings) -> float:
    """Seconds of one analysis."""
    start = time.perf_counter()
    analyse(sets, out, settings)
    return time.perf_counter() - start


def main() -> None:
    """Print seconds a layer, hours of the whole, and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--unequal",
        action="store_true",
        help="groups of 2 to 14 statements, as TruthfulQA's questions have, instead of pairs",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_slice(Path(place) / "sets", options.layers, options.unequal)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        for precision in ("float64", "mixed"):
            settings = AnalysisSettings(
                ProbeSettings(controls=5), InformationSettings(precision=precision)
            )
            # The second run finds everything and draws the figures only, which a study does once.
            both, figures = (
                timed(Path(place) / "sets", Path(place) / precision, settings) for _ in range(2)
            )
            seconds = (both - figures) / options.layers
            print(
                f"{precision:8} {seconds:6.2f} s a layer and set; {CELLS:,} of them: "
                f"{CELLS * seconds / 3600:.0f} hours"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB ({before:.2f} after writing the slice)")


if __name__ == "__main__":
    main()
