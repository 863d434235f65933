"""Judging saved answers again: the harness's own scoring, with another judge and no model.

The harness is given the saved rows and answers in place of a benchmark and a model, so metrics,
aggregation and standard errors are the task's own. Everything else in the results is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.config.group import AggMetricConfig
from lm_eval.utils import sanitize_list

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import (
    JUDGED_FROM,
    SAVED_ROWS,
    Sample,
    SavedRun,
    read_run,
    write_run,
)
from lm_eval_trust.evaluate.harness import task_index, task_manager
from lm_eval_trust.judges.calibration_store import in_words
from lm_eval_trust.judges.correction import corrected_names
from lm_eval_trust.judges.registry import (
    CHOICES,
    MINI_REFUSAL,
    MINI_TOXICITY,
    MINI_TRUTH,
    REFUSAL,
    TOXICITY,
    TRUTH,
)

#: What is judged → settings of its judges; the embedded world's tasks have settings of their own.
_SETTINGS = {
    "truth": (TRUTH.setting, MINI_TRUTH.setting),
    "toxicity": (TOXICITY.setting, MINI_TOXICITY.setting),
    "refusal": (REFUSAL.setting, MINI_REFUSAL.setting),
}
#: The harness's default number of resamples, for runs that do not record theirs.
_BOOTSTRAP = 100_000


@dataclass(frozen=True)
class Rejudgement:
    """Which judges judge again; without any, each task's own judge does.

    Attributes:
        truth: Spec of the judge of truth; empty to keep the verdicts on truth.
        toxicity: Spec of the judge of toxicity; empty to keep the verdicts on toxicity.
        refusal: Spec of the judge of refusal; empty to keep the verdicts on refusal.
        settings: Further metadata, such as ``judge_base_url``.
    """

    truth: str = ""
    toxicity: str = ""
    refusal: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def metadata_for(self, saved: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the metadata to judge a task with, or ``None`` if it is not judged again.

        The record of the old judge is removed. The harness passes all metadata to every task; a
        judged one is recognised by its judge's version.
        """
        specs = {kind: getattr(self, kind) for kind in _SETTINGS}
        for kind, spec in specs.items():
            for name in _SETTINGS[kind]:
                again = "" if any(specs.values()) else saved.get(name, "")
                if f"{name}_version" in saved and (spec or again):
                    stale = (f"{name}_",) if again else (f"{name}_", "judge_")
                    kept = {k: v for k, v in saved.items() if not k.startswith(stale)}
                    return {**kept, **self.settings, name: spec or again}
        return None


def judge_again(run: SavedRun, request: Rejudgement, out: Path | None = None) -> Path:
    """Judge the saved answers of a run again, and write results in the harness's format.

    Args:
        run: Results with their samples.
        request: Which judges judge.
        out: Folder in which the run's folder name is kept for the new files; by default they go
            into a folder ``judged`` next to the run's files.

    Returns:
        The new results file.

    Raises:
        InputError: No task of the run can be judged by these judges, a judge is not available,
            or samples are damaged.
        ExternalError: A judge failed; its verdicts so far are kept.
    """
    told = {task: _told(run, task, request) for task in run.tasks}
    wanted = {task: metadata for task, metadata in told.items() if metadata}
    if not wanted:
        raise InputError(
            f"{run.path} has no saved samples of a task that these judges can judge; it has "
            f"samples of {', '.join(run.tasks) or 'none'} (lm_eval saves them with --log_samples)."
        )
    results = {**run.results, "results": dict(run.results["results"])}
    samples = {task: run.samples(task) for task in run.tasks}
    for task, metadata in wanted.items():
        found = _scored(run, task, samples[task], metadata)
        samples[task] = _merged(samples[task], found["samples"][task])
        _put(results, run, task, found)
    _aggregate_groups(results, set(wanted))
    results[JUDGED_FROM] = {"results": run.path.name, "tasks": sorted(wanted)}
    date = datetime.now().isoformat().replace(":", "-")
    folder = run.path.parent / "judged" if out is None else out / run.path.parent.name
    return write_run(folder, date, results, samples)


class SavedAnswers(LM):  # type: ignore[misc]
    """A stub model that replays saved answers.

    Args:
        samples: The saved samples, in the order of the rows.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__()
        self._samples = samples

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return the saved answers."""
        return [str(self._samples[r.doc_id]["resps"][r.idx][0]) for r in requests]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: no judged task needs log-likelihoods."""
        raise InputError("Saved answers have no log-likelihoods.")

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Refuse: no judged task needs log-likelihoods."""
        raise InputError("Saved answers have no log-likelihoods.")


def _told(run: SavedRun, task: str, request: Rejudgement) -> dict[str, Any] | None:
    saved = run.results["configs"][task].get("metadata") or {}
    return request.metadata_for(saved) if task in task_index() else None


def _scored(
    run: SavedRun, task: str, samples: Sequence[Sample], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the harness's results on a task's saved answers with another judge."""
    _check_samples(run, task, samples)
    rows = [sample["doc"] for sample in samples]
    loaded = task_manager({**metadata, SAVED_ROWS: rows}).load([task])
    iterations = (run.results.get("config") or {}).get("bootstrap_iters")
    found: dict[str, Any] = lm_eval.evaluate(
        lm=SavedAnswers(samples),
        task_dict=loaded,
        bootstrap_iters=_BOOTSTRAP if iterations is None else iterations,
    )
    return found


def _check_samples(run: SavedRun, task: str, samples: Sequence[Sample]) -> None:
    """Refuse a file of samples that is not the whole of what the run measured."""
    path = run.samples_file(task)
    if not samples:
        raise InputError(f"{path} contains no samples.")
    for sample in samples:
        match sample:
            case {"doc": dict(), "resps": [[_, *_], *_]}:
                continue
        raise InputError(f"{path}: sample {sample['doc_id']} lacks its row or its answer.")
    _check_kinds(path, samples)
    numbers = Counter(sample["doc_id"] for sample in samples)
    number, times = numbers.most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: doc_id {number} stands there {times} times; once is right.")
    counts = (run.results.get("n-samples") or {}).get(task) or {}
    expected = counts.get("effective", len(samples))
    if expected != len(samples):
        raise InputError(
            f"{path} has {len(samples)} samples, but {run.path.name} was measured on {expected}; "
            f"restore the file, or answer again with lm_eval --log_samples."
        )


def _check_kinds(path: Path, samples: Sequence[Sample]) -> None:
    """Refuse rows one of which lacks a value, or has one of another kind than the others have."""
    rows = [sample["doc"] for sample in samples]
    for key in sorted({key for row in rows for key in row}):
        kinds = [_kind(row[key]) if key in row else "nothing" for row in rows]
        counts = Counter(filter(None, kinds)).most_common()
        usual = counts[0][0] if counts else ""
        for kind, _ in reversed(counts):
            empty = kind == "list" and usual.startswith("list")
            if kind != usual and not empty:
                raise InputError(
                    f"{path}: {key!r} of sample {samples[kinds.index(kind)]['doc_id']} is {kind}, "
                    f"where other samples have {usual}; restore the file."
                )


def _kind(value: Any) -> str:
    """Return what sort of value it is in words; an absent one is of no kind."""
    match value:
        case None:
            return ""
        case []:
            return "list"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "half a character" if any("\ud800" <= c <= "\udfff" for c in value) else "text"
        case list():
            return f"list of {' and '.join(sorted({_kind(v) or 'nothing' for v in value}))}"
    return "a mapping"


def _merged(saved: Sequence[Sample], judged: Sequence[Sample]) -> list[Sample]:
    """Return the saved samples with the new verdicts and metrics."""
    merged = []
    for old, new in zip(saved, judged, strict=True):
        stale = set(old.get("metrics", ()))
        kept = {name: value for name, value in old.items() if name not in stale}
        fresh = {name: new[name] for name in ("metrics", "filter", *new["metrics"])}
        verdicts = sanitize_list(new["filtered_resps"])
        merged.append({**kept, "filtered_resps": verdicts, **fresh})
    return merged


def _put(results: dict[str, Any], run: SavedRun, task: str, found: Mapping[str, Any]) -> None:
    """Replace a task's results by the new ones."""
    results["results"][task] = found["results"][task]
    for part in ("configs", "versions", "higher_is_better"):
        results[part] = {**results.get(part, {}), task: found[part][task]}
    counts = dict(found["n-samples"][task])
    counts["original"] = run.results.get("n-samples", {}).get(task, counts).get("original")
    results["n-samples"] = {**results.get("n-samples", {}), task: counts}


def _aggregate_groups(results: dict[str, Any], judged: set[str]) -> None:
    """Aggregate our groups again; drop other groups that contain a judged task."""
    index = task_index()
    groups = dict(results.get("groups") or {})
    for name, members in (results.get("group_subtasks") or {}).items():
        if not judged & set(members) or name not in groups:
            continue
        config = index[name].cfg if name in index else None
        metrics = (config or {}).get("aggregate_metric_list")
        if not metrics:
            del groups[name]
            results["results"].pop(name, None)
            continue
        aggregated = _Members(
            name=name,
            alias=groups[name].get("alias"),
            aggregate_metric_list=[AggMetricConfig(**metric) for metric in metrics],
            members=tuple(members),
        ).aggregate(results["results"])
        groups[name] = results["results"][name] = aggregated
    if groups or "groups" in results:
        results["groups"] = groups


@dataclass
class _Members(Group):  # type: ignore[misc]
    """A group that knows only the names of its tasks."""

    members: tuple[str, ...] = ()

    def get_all_tasks(self, recursive: bool = True) -> list[Any]:
        return [SimpleNamespace(task_name=name) for name in self.members]


def scores(path: Path) -> Iterator[str]:
    """Yield lines for each judged task of a results file: score, judge and its calibration.

    Scores without the judge's errors follow.
    """
    results = read_run(path).results
    for task in results[JUDGED_FROM]["tasks"]:
        found, metadata = results["results"][task], results["configs"][task]["metadata"]
        setting = next(s for s in CHOICES if f"{s}_version" in metadata)
        score, error = found["trust_score,none"], found["trust_score_stderr,none"]
        shown = f" ± {error:.4f}" if isinstance(error, float) else ""
        unread = found.get("judge_unparsed,none", 0.0)
        yield (
            f"{task}: trust_score {score:.4f}{shown}, {unread:.1%} without a verdict, judged by "
            f"{metadata[setting]}; {in_words(metadata.get(f'{setting}_calibration'))}"
        )
        for metric in CHOICES[setting].scores:
            ends = [found.get(f"{name},none") for name in corrected_names(metric)]
            if None not in ends:
                mean, low, high = ends
                yield f"{task}: {metric} corrected {mean:.4f} [{low:.4f}, {high:.4f}]"
