"""Settings of a benchmark's data: source, seed and strength of the perturbation."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.benchmarks.perturbation import check_rate

OFFICIAL = "official"


@dataclass(frozen=True)
class DataSettings:
    """Settings that statements and task rows are built with.

    Attributes:
        data_source: A name of :data:`lm_eval_trust.benchmarks.registry.DATA_SOURCES`.
        data_seed: Seed of every choice: balance, candidates, perturbed letters.
        perturbation_rate: Share of the letters whose case is flipped, 0 to 1.
        balanced: Whether statements are cut to as many of each label.
    """

    data_source: str = OFFICIAL
    data_seed: int = 0
    perturbation_rate: float = 0.05
    balanced: bool = True

    def __post_init__(self) -> None:
        check_rate(self.perturbation_rate)
