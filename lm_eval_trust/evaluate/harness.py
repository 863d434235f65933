"""The harness called from our own code, many times in one process."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError, unknown_name
from lm_eval_trust.core.storage import disk_errors, temporary_folder
from lm_eval_trust.judges.registry import JudgeChoice

_OUR_PREFIX = "trust_"
#: Our groups whose members are the harness's own tasks.
_OF_HARNESS = frozenset(("trust_general",))


def task_manager(metadata: Mapping[str, Any] | None = None, *, with_defaults: bool = False) -> Any:
    """Return the harness's index of tasks, which remembers the tasks that it has loaded.

    Args:
        metadata: Settings of the tasks, as in ``--metadata``.
        with_defaults: Whether the harness's own 14,000 are to be known; indexing takes seconds.
    """
    from lm_eval.tasks import TaskManager

    from lm_eval_trust.plugin import register_models, task_paths

    class LoadedOnce(TaskManager):  # type: ignore[misc]
        """A task manager that hands out the same tasks when asked again."""

        def load(self, spec: Any) -> Any:
            key = str(spec)
            if key not in loaded:
                loaded[key] = super().load(spec)
            return loaded[key]

    loaded: dict[str, Any] = {}
    register_models()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return LoadedOnce(
        include_path=[str(path) for path in task_paths()],
        include_defaults=with_defaults,
        metadata=dict(metadata or {}),
    )


@functools.cache
def task_index(*, with_defaults: bool = False) -> Mapping[str, Any]:
    """Return the harness's index of tasks, groups and tags, as their files have it.

    No task is loaded, so neither data nor models are.

    Args:
        with_defaults: Whether the harness's own tasks are in it; indexing them takes seconds.
    """
    from lm_eval.tasks import TaskManager

    from lm_eval_trust.plugin import task_paths

    paths = [str(path) for path in task_paths()]
    manager = TaskManager(include_path=paths, include_defaults=with_defaults)
    index: Mapping[str, Any] = manager.task_index
    return index


def needs_defaults(name: str) -> bool:
    """Tell whether a task, group or tag is the harness's own, or a group of such."""
    return name in _OF_HARNESS or name not in task_index()


def brought_by_package(name: str) -> bool:
    """Tell whether a task, or one of a group or tag, comes with another package's benchmark."""
    from lm_eval_trust.plugin import task_path

    if needs_defaults(name):
        return False
    files = [task_index()[member].yaml_path for member, _ in _members(name)]
    return not all(file.is_relative_to(task_path()) for file in files)


def judges_of(name: str) -> dict[str, JudgeChoice[Any]]:
    """Return how the judges of a task, or of a group's or tag's tasks, are chosen, by setting.

    No task is loaded: loading one finds its judge, which may lie on the Hub.
    """
    found: dict[str, JudgeChoice[Any]] = {}
    if needs_defaults(name):
        return found
    for _, config in _members(name):
        # The index has a class as its file's folder, a slash, and the dotted name.
        module, _, kind = str(config.get("class") or "").rpartition("/")[2].rpartition(".")
        # A class that cannot be imported is reported when its task is loaded.
        with suppress(ImportError, ValueError):
            judges = getattr(getattr(importlib.import_module(module), kind, None), "judges", None)
            if isinstance(judges, JudgeChoice):
                found[judges.setting] = judges
    return found


def check_tasks(names: Iterable[str]) -> None:
    """Raise unless the harness knows all of these tasks, groups or tags.

    Raises:
        InputError: One is unknown; the message names the nearest ones.
    """
    for name in names:
        _entry(name)


def check_metric(name: str, metric: str) -> None:
    """Raise unless there is such a task with such a metric, as far as its file declares it.

    Args:
        name: A task, group or tag; one of its tasks has to have the metric.
        metric: The metric, with or without a filter.

    Raises:
        InputError: One is unknown; the message names the nearest ones.
    """
    wanted, lacking = metric.partition(",")[0], {}
    for task, config in _members(name):
        declared = [str(e["metric"]) for e in config.get("metric_list") or () if "metric" in e]
        breakdown = (config.get("dataset_kwargs") or {}).get("breakdown")
        of_category = breakdown is not None and wanted.startswith(f"{breakdown['metric']}_")
        # A task without declared metrics has those of its output type.
        if not declared or wanted in declared or of_category:
            return
        lacking[task] = declared
    for task, declared in lacking.items():
        raise unknown_name(f"metric of {task}", wanted, declared)


def _members(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each task that a name stands for, with the content of its file."""
    entry = _entry(name)
    if entry.kind.name == "TAG":
        members = sorted(entry.tags)
    elif entry.kind.name == "GROUP":
        members = [each for each in entry.cfg.get("task") or () if isinstance(each, str)]
    else:
        yield name, entry.cfg or {}
        return
    for member in members:
        yield from _members(member)


def _entry(name: str) -> Any:
    ours = task_index()
    if name in ours:
        return ours[name]
    if name.startswith(_OUR_PREFIX):
        raise unknown_name("task", name, ours)
    known = task_index(with_defaults=True)
    if name not in known:
        raise unknown_name("task", name, known)
    return known[name]


def save_results(tracker: Any, found: dict[str, Any]) -> None:
    """Write what ``simple_evaluate`` returned as the harness's command does, whole or not at all.

    Earlier results of the folder that say the same are removed. Read the samples before: they are
    taken out of ``found``, and their arguments are rewritten.

    Args:
        tracker: The harness's ``EvaluationTracker``.
        found: Results with samples.

    Raises:
        ExternalError: The disk refused to write; nothing half-written is left.
    """
    from lm_eval_trust.core.saved_runs import read_run, remove_repeats

    samples, out = found.pop("samples"), Path(tracker.output_path)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        # Hidden, so that a kill leaves nothing that is taken for results.
        with temporary_folder(out / "results") as making:
            tracker.output_path = str(making)
            tracker.save_results_aggregated(results=found, samples=samples)
            for task in found["configs"]:
                tracker.save_results_samples(task_name=task, samples=samples[task])
            tracker.output_path = str(out)
            written = list(making.rglob(f"*_{tracker.date_id}.json*"))
            if not _whole(written, {task: len(rows) for task, rows in samples.items()}):
                # The harness only logs that it could not write.
                raise ExternalError(
                    f"The harness could not write its results to {out}. Free space there, and "
                    f"repeat."
                )
            # Samples first: results without their samples are damaged.
            for file in sorted(written, key=lambda file: file.name.startswith("results_")):
                target = out / file.relative_to(making)
                target.parent.mkdir(exist_ok=True)
                file.replace(target)
            remove_repeats(read_run(target))


def _whole(written: Iterable[Path], samples: Mapping[str, int]) -> bool:
    """Tell whether results and samples of an evaluation are on disk to the last line."""
    from lm_eval_trust.core.saved_runs import read_run

    results = [file for file in written if file.name.startswith("results_")]
    try:
        (run,) = map(read_run, results)
        lines = {task: run.samples_file(task).read_bytes().count(b"\n") for task in samples}
    except (InputError, OSError, ValueError):
        return False
    return lines == samples
