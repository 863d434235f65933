"""Activation sets with a planted signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.models.untrained import UNTRAINED
from lm_eval_trust.study.activation_sets import SetInfo, save_set
from lm_eval_trust.study.measure import AnalysisSettings

SETTINGS = AnalysisSettings(ProbeSettings(controls=2), InformationSettings(permutations=20))
STEPS: tuple[int | None, ...] = (0, 1, 4, 16, 64, 256, 1024)


def write(
    folder: Path,
    number: int,
    *,
    n: int = 60,
    strength: float | None = None,
    untrained: bool = False,
    matched: bool = False,
    wording: str = "the {} mill",
    source: str = "mini",
    flipped: bool = False,
    split: str = "grouped",
    layers: tuple[int, int] = (0, 2),
    constant: int | None = None,
    dimension: str = "privacy",
    by_label: bool = False,
) -> Path:
    """A set whose layer 2 tells the label the better, the later the checkpoint."""
    random = np.random.default_rng(number)
    labels = (np.arange(n) + flipped) % 2
    activations = random.normal(size=(n, 2, 5)).astype(np.float32)
    activations[:, 1, 0] += (number if strength is None else strength) * (labels - 0.5)
    if constant is not None:
        activations[:, constant] = 3.0
    groups = [f"g{labels[i] if by_label else i // 2}" for i in range(n)]
    name = UNTRAINED if untrained else f"ckpt_{number:03d}"
    return save_set(
        folder,
        SetInfo(name, STEPS[number], 512 * (STEPS[number] or 0), dimension, source, "m"),
        activations,
        layers=layers,
        labels=labels,
        groups=groups,
        parts=partition(groups if split == "grouped" else [str(i) for i in range(n)]),
        # Every other statement of a label says so.
        texts=[wording.format("kind" if i % 4 == 3 else "old") for i in range(n)],
        controls={"matched": activations[:, :, ::-1]} if matched else {},
    )


def change_a_byte(path: Path, position: int) -> None:
    """Damage a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
