"""One of each thing that a package can add to lm_eval_trust, about the lamplighters of Dunmere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm_eval_trust.analysis.estimators import Estimator
from lm_eval_trust.benchmarks.benchmark import (
    Benchmark,
    BenchmarkColumn,
    BenchmarkData,
    DataSettings,
    Dimension,
    Workload,
)
from lm_eval_trust.benchmarks.statements import Statement, labelled_rows
from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.checkpoints.families import FamilyPreset
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.judges.interface import Answer, TruthJudge, Verdict
from lm_eval_trust.judges.registry import JudgeEntry
from lm_eval_trust.steering.actions import Action, Direction
from lm_eval_trust.steering.methods import DirectionMethod

if TYPE_CHECKING:
    import torch


# An action: mirror the state at the plane that is orthogonal to the direction, at α = 1.
def _mirror(states: torch.Tensor, direction: Direction) -> torch.Tensor:
    return -2 * (states @ direction.unit)[..., None] * direction.unit


REFLECT = Action(_mirror, "minus twice the projection on the vector")


# A direction method: the difference of the classes' medians.
def _median_difference(activations: Any, labels: Any, groups: Sequence[str]) -> Any:
    return np.median(activations[labels == 1], axis=0) - np.median(activations[labels == 0], axis=0)


MEDIAN_DIFFERENCE = DirectionMethod(_median_difference, "difference of class medians")


# An estimator: distance covariance (Székely et al. 2007), the trace of two centred matrices.
class _DistanceCovariance(Estimator):
    title = "distance covariance"
    description = "distance covariance (Székely et al. 2007)"

    def factor(self, samples: torch.Tensor, settings: Any) -> torch.Tensor:
        import torch

        distances = torch.cdist(samples, samples)
        centred = distances - distances.mean(dim=0)
        return centred - centred.mean(dim=1, keepdim=True)

    def scale(self, n: int) -> float:
        return 1.0 / n**2


DISTANCE_COVARIANCE = _DistanceCovariance()

# A benchmark: is a sentence about a lamplighter?
_CALLINGS = ("lamplighter", "lamp lighter", "lantern bearer", "ferrier", "cooper", "chandler")
_DEEDS = ("walks the quay", "counts the boats", "sings at dusk", "mends the gate", "sleeps late")
_PLACES = ("Dunmere", "Brindle", "Old Marrow", "Velmi")


def _statements(settings: DataSettings) -> list[Statement]:
    return [
        Statement(f"The {calling} of {place} {deed}.", int(number < 3), group_id(place + deed))
        for place in _PLACES
        for deed in _DEEDS
        for number, calling in enumerate(_CALLINGS)
    ]


def _groups() -> list[str]:
    return [item.group for item in _statements(DataSettings())]


_TASK = """
task: trust_lanterns
class: !function lm_eval_trust.tasks.trust_task.TrustTask
dataset_kwargs: {form: lanterns_binary}
output_type: multiple_choice
test_split: test
num_fewshot: 0
doc_to_text: "{{statement}} A lamplighter?"
doc_to_choice: [" no", " yes"]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
LANTERNS = Benchmark(
    dimension=Dimension(
        "lamplight",
        "lanterns",
        "trust_lanterns",
        ("sentence about another calling", "sentence about a lamplighter"),
        trustworthy_label=1,
    ),
    data={
        "official": BenchmarkData(
            _statements,
            _groups,
            {"lanterns_binary": lambda settings: labelled_rows(_statements(settings))},
            statement_size=(12.0, 120),
        )
    },
    columns=(BenchmarkColumn("Lanterns", "acc", ("trust_lanterns",), reported=False),),
    tasks={"trust_lanterns": _TASK},
    workloads={"trust_lanterns": Workload(60, 1, 30.0, 0.0)},
)


# A judge: true is what says please.
class _Polite:
    name, version = "polite", "1"

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict("please" in answer.text, None) for answer in answers]

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(bool(answer.text.strip()), None) for answer in answers]


def _polite(request: object) -> TruthJudge:
    return _Polite()


POLITE: JudgeEntry[TruthJudge] = JudgeEntry("answers that say please", _polite)


# A family of checkpoints: the models in a folder that the package knows of.
def _keepers() -> tuple[Checkpoint, ...]:
    folder = Path(__file__).with_name("lantern_keepers")
    return tuple(
        Checkpoint(path.name, number, None, str(path), None)
        for number, path in enumerate(sorted(folder.iterdir()))
    )


KEEPERS = FamilyPreset("the keepers of Dunmere, beside this module", _keepers)
