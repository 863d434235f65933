"""Jobs: cells that are computed together, since they load the same model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lm_eval_trust.study.cells import Cell, EvaluationCell
from lm_eval_trust.study.models import StudyModel


@dataclass(frozen=True)
class Job:
    """Some cells of one model.

    Attributes:
        model: Which model.
        cells: What is computed, in this order.
    """

    model: StudyModel
    cells: tuple[Cell, ...]

    @property
    def needs_model(self) -> bool:
        """Whether the model has to be loaded for any cell."""
        return any(cell.needs_model for cell in self.cells)

    def without(self, done: Iterable[str]) -> Job:
        """Return the job without the cells of these names."""
        gone = set(done)
        return replace(self, cells=tuple(cell for cell in self.cells if cell.name not in gone))


def stages(cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Divide cells into those that can be computed at once, and those that need others' results."""
    return (
        [cell for cell in cells if not cell.needs_others],
        [cell for cell in cells if cell.needs_others],
    )


def plan_jobs(cells: Sequence[Cell], workers: int) -> list[Job]:
    """Group cells into jobs.

    A checkpoint of the family is one job, so that it is fetched once. Evaluations of another model
    are dealt to so many jobs that all workers have a share.

    Args:
        cells: Unfinished cells of one stage.
        workers: That are going to work.
    """
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in cells:
        divisible = isinstance(cell, EvaluationCell) and not cell.model.streamed
        groups.setdefault((cell.model.spec, divisible), []).append(cell)
    jobs: list[Job] = []
    for (_, divisible), members in groups.items():
        ordered = sorted(members, key=_loaded_as)
        parts = min(workers, len(ordered)) if divisible else 1
        jobs += [Job(members[0].model, tuple(part)) for part in _shares(ordered, parts)]
    return jobs


def _loaded_as(cell: Cell) -> tuple[int, str]:
    """Cells that load the model in one way stand together; what others derive from comes first."""
    if not isinstance(cell, EvaluationCell):
        return 0, ""
    if cell.adapter is not None:
        return 2, cell.adapter.identity
    if cell.proxy is not None:
        return 3, str(cell.proxy)
    return 1, ""


def _shares(cells: Sequence[Cell], parts: int) -> list[Sequence[Cell]]:
    bounds = [round(i * len(cells) / parts) for i in range(parts + 1)]
    return [cells[a:b] for a, b in pairwise(bounds) if b > a]
