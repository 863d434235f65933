"""Evaluate a model, and hold what came of it."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lm_eval_trust.api.display import bars, card
from lm_eval_trust.api.models import Model, loaded_model
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.saved_runs import SavedRun, find_runs
from lm_eval_trust.core.storage import atomic_path, disk_errors
from lm_eval_trust.evaluate.evaluator import evaluate as _evaluate
from lm_eval_trust.evaluate.harness import check_tasks
from lm_eval_trust.evaluate.tasks import TaskIndex
from lm_eval_trust.leaderboard.board import Column
from lm_eval_trust.leaderboard.items import Samples, strata_of
from lm_eval_trust.leaderboard.layout import (
    columns_of,
    figures,
    numbers,
    recorded_interval,
    stderr,
)
from lm_eval_trust.leaderboard.names import default_name
from lm_eval_trust.leaderboard.page.samples import answer_of, prompt_of, target_of
from lm_eval_trust.leaderboard.resampling import interval_of
from lm_eval_trust.tasks.metrics import is_interval_end

#: Of the intervals in tables.
_LEVEL = 0.95


class EvaluationResult:
    """Scores and samples of one evaluation.

    Attributes:
        run: Results and samples on disk, in the harness's format.
    """

    def __init__(self, run: SavedRun, folder: tempfile.TemporaryDirectory[str] | None = None):
        self.run = run
        # Deleted with the last reference to it.
        self._folder = folder

    def __repr__(self) -> str:
        return f"<EvaluationResult of {self.name} on {', '.join(self.run.results['configs'])}>"

    @property
    def name(self) -> str:
        """The model, and how it was changed."""
        return default_name(self.run)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Task or group → the harness's metrics."""
        found = {**self.run.results["results"], **(self.run.results.get("groups") or {})}
        return {task: dict(metrics) for task, metrics in found.items()}

    @property
    def steering(self) -> dict[str, Any]:
        """How the model was steered: fingerprint, steps, and what the vectors were built from."""
        return dict((self.run.results.get("config") or {}).get("steering") or {})

    @property
    def fingerprint(self) -> str:
        """Identity of all that the model's answers depend on; empty for other models than ours."""
        return str((self.run.results.get("config") or {}).get("trust_fingerprint") or "")

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each task and metric.

        Columns: ``task``, ``metric``, ``filter``, ``value``, ``stderr`` (the harness's; NaN without
            one), ``low`` and ``high`` (95 % interval over groups of items; NaN where the value is
            not a mean over items), ``items``, ``higher_is_better`` (``None`` where unknown).
        """
        return pd.DataFrame(list(self._rows()))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row for each item and filter.

        Columns: ``task``, ``item`` (its number), ``group``, ``filter``, ``prompt``, ``target``,
        ``answer``, and a column for each metric.
        """
        return pd.DataFrame(
            [
                {
                    "task": task,
                    "item": sample["doc_id"],
                    "group": (sample.get("doc") or {}).get("group_id"),
                    "filter": sample.get("filter", "none"),
                    "prompt": prompt_of(sample),
                    "target": target_of(sample),
                    "answer": answer_of(sample),
                    **{name: sample.get(name) for name in sample.get("metrics", ())},
                }
                for task in self.run.tasks
                for sample in self.run.samples(task)
            ]
        )

    @property
    def scores(self) -> pd.DataFrame:
        """The rows of :attr:`table` that stand for their tasks: one metric each."""
        headline = {(c.task, c.metric, c.filter) for c in columns_of([self.run])}
        keys = zip(self.table["task"], self.table["metric"], self.table["filter"], strict=True)
        return self.table[[key in headline for key in keys]]

    def plot(self, *, metric: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the scores with their 95 % intervals; return the axes.

        Args:
            metric: Which; by default the one that stands for each task.
            ax: Where to draw; by default on a new figure.

        Raises:
            InputError: There is no such metric.
        """
        rows = self.scores if metric is None else self.table[self.table["metric"] == metric]
        if rows.empty:
            known = ", ".join(sorted(set(self.table["metric"])))
            raise InputError(f"There is no metric {metric!r}; there are {known}.")
        labels = [f"{row.task}, {row.metric}" for row in rows.itertuples()]
        axes = bars(labels, rows["value"], rows["low"], rows["high"], ax=ax)
        axes.set_title(self.name)
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return all that the harness's results file says, as JSON-like values."""
        found: dict[str, Any] = plain(self.run.results)
        return found

    def save(self, folder: str | Path) -> Path:
        """Write results and samples in the harness's format, for ``lm-eval-trust leaderboard``.

        Args:
            folder: Results go to a folder of the model's name in it, as the harness does it.

        Returns:
            The results file.

        Raises:
            ExternalError: The disk refused to write.
        """
        target = Path(folder) / (re.sub(r"[^\w.@-]+", "_", self.name).strip("_") or "model")
        with disk_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            # Samples first: results without their samples are damaged.
            for file in (*map(self.run.samples_file, self.run.tasks), self.run.path):
                if file.resolve() != (target / file.name).resolve():
                    with atomic_path(target / file.name) as temporary:
                        shutil.copyfile(file, temporary)
        return target / self.run.path.name

    def _repr_html_(self) -> str:
        steps = self.steering.get("steps") or ()
        steered = "; ".join(f"layer {s['layer']}, α = {s['alpha']:g}, {s['origin']}" for s in steps)
        facts = {"steering": steered or "none", "fingerprint": self.fingerprint}
        return card(self.name, facts, self.scores)

    def _rows(self) -> Iterator[dict[str, Any]]:
        samples = Samples()
        directions = self.run.results.get("higher_is_better") or {}
        counts = self.run.results.get("n-samples") or {}
        for task in self.results:
            for (metric, filter_name), value in numbers(self.run, task).items():
                if is_interval_end(f"{metric},{filter_name}", figures(self.run, task)):
                    continue
                column = Column(task, metric, filter_name, metric, None)
                strata = strata_of({"": [self.run]}, column, samples).get("")
                recorded = recorded_interval(self.run, task, metric, filter_name)
                found = recorded or (interval_of(strata, _LEVEL) if strata else None)
                yield {
                    "task": task,
                    "metric": metric,
                    "filter": filter_name,
                    "value": value,
                    "stderr": _or_nan(stderr(self.run, column)),
                    "low": found.low if found else math.nan,
                    "high": found.high if found else math.nan,
                    "items": (counts.get(task) or {}).get("effective"),
                    "higher_is_better": (directions.get(task) or {}).get(metric),
                }


def evaluate(
    model: Model | str | Path,
    tasks: str | Sequence[str],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    allow_leak: bool = False,
    out: str | Path | None = None,
) -> EvaluationResult:
    """Evaluate a model on tasks of the harness, steered as it is at the moment.

    Inside ``with model.steer(…)`` the figures are those of ``lm_eval --model steered_amber`` with
    the same arguments. Tasks that ask chat models are asked by the model's chat template.

    Args:
        model: A loaded model, or a name for :func:`~lm_eval_trust.api.models.load`.
        tasks: Names of tasks, groups or tags; ours and all of the harness.
        limit: Items of each task at most; the first ones.
        num_fewshot: Examples before each prompt, for tasks that take some.
        metadata: Settings of the tasks, as in ``--metadata``: ``{"split_seed": 1}``.
        allow_leak: Evaluate also on items that a vector was built from, or the model trained on.
        out: Folder to save results and samples in, see :meth:`EvaluationResult.save`.

    Raises:
        InputError: A task, a setting or the limit is wrong.
        LeakError: The vector was built from items of the tasks; pass ``allow_leak=True`` if that is
            what you want.
        MissingDataError: Data of a task is missing.
        ExternalError: Data, a model or a judge cannot be reached.
    """
    names: list[str] = list(tasks) if isinstance(tasks, (list, tuple)) else [tasks]  # type: ignore[list-item]
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"tasks is {tasks!r:.80}; name at least one task, such as 'trust_truthfulqa'."
        )
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InputError(f"metadata is {metadata!r:.80}; expected names and values in a dict.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise InputError(f"limit is {limit!r}; expected a whole number of items from 1.")
    check_tasks(names)
    chosen = TaskIndex(metadata or {}).load(names, limit=limit)
    found = loaded_model(model)
    folder = tempfile.TemporaryDirectory(prefix="lm_eval_trust-")
    with found.in_use(), found.lm.allowing_leaks() if allow_leak else nullcontext():
        call: dict[str, Any] = {} if num_fewshot is None else {"num_fewshot": num_fewshot}
        _evaluate(found.lm, chosen, Path(folder.name), described=found.described, **call)
    (run,) = find_runs([Path(folder.name)])
    result = EvaluationResult(run, folder)
    if out is not None:
        result.save(out)
    return result


def load_results(*places: str | Path) -> list[EvaluationResult]:
    """Return the evaluations in results files, or in folders with such files.

    Args:
        *places: Of any model of the harness: ours, ``hf``, ``vllm``, an API.

    Raises:
        InputError: A place does not exist, holds no results, or they are damaged.
    """
    return [EvaluationResult(run) for run in find_runs(map(Path, places))]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
