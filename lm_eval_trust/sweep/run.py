"""A whole sweep in a folder: load once, search, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError, did_you_mean
from lm_eval_trust.core.storage import folder_lock, read_kept, require_empty, write_kept
from lm_eval_trust.engine import TRANSFORMERS
from lm_eval_trust.evaluate.controls import check_shuffled, prefixes_of
from lm_eval_trust.evaluate.harness import check_tasks
from lm_eval_trust.evaluate.tasks import TaskIndex, TaskSet
from lm_eval_trust.model_wrappers.swept_model import SweptModel
from lm_eval_trust.sweep.grid import Grid, SweepSettings
from lm_eval_trust.sweep.passes import ANSWERS, TEST, VALIDATION, shared_passes
from lm_eval_trust.sweep.report import summary, write_report
from lm_eval_trust.sweep.search import Found, Search, kept_limits

_MARK = "sweep.json"
#: 2: before, answers of models with sliding windows could be wrong where prompts began alike.
_FORMAT = {"format": 2}


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Attributes:
        model: Harness model, e.g. ``amber``.
        arguments: Its model arguments.
        grid: Configurations.
        settings: How they are measured and chosen.
        engine: What the model runs on.
    """

    model: str
    arguments: Mapping[str, Any]
    grid: Grid
    settings: SweepSettings
    engine: str = TRANSFORMERS


def run_sweep(
    sweep: Sweep, folder: Path, *, loaded: SweptModel | None = None
) -> tuple[Found, list[str]]:
    """Run a sweep; what the folder contains already is not computed again.

    Args:
        sweep: What is swept.
        folder: Where everything goes.
        loaded: The model, where it is loaded already.

    Returns:
        What was found, and lines that say it.

    Raises:
        InputError: The model, a vector, a task or a setting does not fit, or another sweep runs in
            the folder.
        ExternalError: The disk refused to write.
    """
    # Before gigabytes of weights are loaded.
    settings = sweep.settings
    others = (settings.perplexity_task, *settings.ability_tasks, *settings.kept_tasks)
    check_tasks((*settings.tasks, *others))
    plans = [configuration.plan() for configuration in sweep.grid.configurations]
    check_shuffled(settings.controls, sweep.grid.families)
    with folder_lock(folder, f"Another sweep is running in {folder}; choose another folder."):
        claim(folder, _MARK, _FORMAT, what="sweep")
        index = TaskIndex(settings.metadata)
        check_metric(index, settings.tasks, settings.metric, settings.limit)
        kept_limits(index, settings)
        tested = settings.items(settings.tasks, TEST)
        prefixes_of(settings.controls, index.load(tested.tasks, limit=tested.limit, part=TEST))
        with shared_passes(
            folder,
            sweep.model,
            sweep.arguments,
            index,
            plans,
            engine=sweep.engine,
            loaded=loaded,
        ) as passes:
            found = Search(passes, sweep.grid, settings).run()
            notes = [passes.model.note] if passes.model.note else []
        write_report(found, settings, folder)
    return found, [*notes, *summary(found, settings)]


def claim(folder: Path, name: str, content: Mapping[str, int], *, what: str) -> None:
    """Mark a folder as one of sweeps or rankings, unless it is, or refuse it.

    Args:
        folder: The folder.
        name: Name of the file that marks it.
        content: What that file contains, with the format of what is kept.
        what: ``sweep`` or ``ranking``.

    Raises:
        InputError: Another release ran there, and kept its answers in another form; or it holds
            other things.
    """
    mark = folder / name
    known = mark.is_file() and read_kept(mark) == content
    if not known and (mark.is_file() or (folder / ANSWERS).exists()):
        raise InputError(
            f"{folder} holds a {what} of another release, whose answers cannot be used. Choose "
            f"another folder, or delete this one to repeat the {what} there."
        )
    if not known:
        require_empty(folder, f"a {what}'s")
    write_kept(mark, content)


def check_metric(index: TaskIndex, tasks: Sequence[str], metric: str, limit: int | None) -> None:
    """Raise before anything is scored if configurations cannot be chosen by a metric.

    Args:
        index: Loads the tasks.
        tasks: What is to become better.
        metric: By the mean of which.
        limit: Items of each task at most.

    Raises:
        InputError: A task has no such metric, more of it is not better, or a group does not
            aggregate it.
    """
    for part in (VALIDATION, TEST):
        for name in tasks:
            loaded = index.load([name], limit=limit, part=part)
            for member, task in loaded.tasks.items():
                known = task.aggregation()
                if metric not in known:
                    whose = "it" if member == name else member
                    raise InputError(
                        f"{name} has no metric {metric!r}; {whose} has "
                        f"{', '.join(sorted(known))}. Name one that all of its tasks have by "
                        f"--metric.{did_you_mean(metric, known)}"
                    )
                better = sorted(m for m, more in task.higher_is_better().items() if more)
                if metric not in better:
                    instead = f"the metric {' or '.join(better)}" if better else "another task"
                    raise InputError(
                        f"{metric} of {member} is not a metric of which more is better, so that "
                        f"nothing can be chosen by it. Name {instead}."
                    )
            if name not in loaded.tasks and metric not in _aggregated(loaded, name):
                raise InputError(
                    f"{name} has no {metric!r} of its own, since it does not aggregate "
                    f"its tasks'. Name the tasks instead: --tasks {','.join(loaded.tasks)}."
                )


def _aggregated(loaded: TaskSet, name: str) -> set[str]:
    """Return the metrics that a group aggregates; a tag, which is only a name for tasks, none."""
    group = loaded.manager.load(list(loaded.names))["groups"].get(name)
    return {found.metric for found in getattr(group, "aggregate_metric_list", None) or ()}
