"""What may be asked of a benchmark: which files, which seed, how strong a perturbation."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.benchmarks.perturbation import check_rate
from lm_eval_trust.core.errors import unknown_name

#: Sources of the real benchmarks.
REAL_SOURCES = ("official", "tracingllm")
#: The embedded world, in the benchmarks' shape.
MINI = "mini"
DATA_SOURCES = (*REAL_SOURCES, MINI)


@dataclass(frozen=True)
class DataSettings:
    """Settings that statements and task rows are built with.

    Attributes:
        data_source: ``official`` for the benchmark's own files and gold labels, ``tracingllm``
            for the paper's released ones as they are, ``mini`` for the embedded world.
        data_seed: Seed of every choice: balance, candidates, perturbed letters.
        perturbation_rate: Share of the letters whose case is flipped, 0 to 1.
        balanced: Whether statements are cut to as many of each label.
    """

    data_source: str = "official"
    data_seed: int = 0
    perturbation_rate: float = 0.05
    balanced: bool = True

    def __post_init__(self) -> None:
        if self.data_source not in DATA_SOURCES:
            raise unknown_name("data_source", self.data_source, DATA_SOURCES)
        check_rate(self.perturbation_rate)
