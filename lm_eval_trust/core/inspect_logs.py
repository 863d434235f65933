"""Logs of inspect_ai (``.eval``) as saved runs, for the leaderboard and the gate.

A log becomes a run of one task with the harness's parts: scores with standard errors, each
sample's values, and what makes two logs compare: data set, solver, scorer, epochs.

Tested with inspect_ai 0.3.285.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.saved_runs import Sample, SavedRun, read_run, results_files

ENDING = ".eval"
#: Key of what our provider records with each answer.
RECORD = "lm_eval_trust"
#: Key of a task's metadata that holds what else two logs have to agree in.
SETTINGS = "inspect_ai"
#: ``config.model`` of runs that were read from logs.
KIND = "inspect_ai"
_NO_FILTER = "none"
#: Metrics that are the mean of the samples' values.
_MEANS = ("accuracy", "mean")
_ERRORS = ("stderr", "bootstrap_stderr")
#: Settings of generation on which no answer depends.
_EXECUTION = ("max_retries", "timeout", "attempt_timeout", "max_connections", "cache", "batch")


@dataclass(frozen=True)
class InspectRun(SavedRun):
    """A log as a run of the harness; its samples are in the log itself.

    Attributes:
        rows: Task → samples, in the harness's form.
    """

    rows: Mapping[str, Sequence[Sample]] = field(default_factory=dict)

    def samples_file(self, task: str) -> Path:
        """Return the log."""
        return self.path

    def samples(self, task: str) -> list[Sample]:
        """Return a task's samples in the order of their numbers."""
        return sorted(self.rows.get(task, ()), key=lambda sample: int(sample["doc_id"]))


def read_saved(path: Path) -> SavedRun:
    """Read a results file of the harness, or a log of inspect_ai.

    Raises:
        InputError: The file is neither, or is damaged.
    """
    return read_log(path) if path.suffix == ENDING else read_run(path)


def saved_files(folder: Path) -> list[Path]:
    """Return the results files and logs in a folder, at any depth; hidden folders are left out."""
    logs = (path for path in sorted(folder.rglob(f"*{ENDING}")) if path.is_file())
    shown = (p for p in logs if not any(x.startswith(".") for x in p.relative_to(folder).parts))
    return [*results_files(folder), *shown]


def read_log(path: Path) -> InspectRun:
    """Read a log of inspect_ai.

    Raises:
        InputError: inspect_ai is not installed, the file is damaged or of another tool, or the
            evaluation did not end with scores.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise InputError(
            f"{path} is a log of inspect_ai, which is not installed; "
            f"`pip install 'lm_eval_trust[inspect]'` (Python 3.11 or later)."
        ) from error
    try:
        log = read_eval_log(str(path), resolve_attachments=True)
    except Exception as error:  # A zip archive of JSON can be broken in many ways.
        raise InputError(f"{path} is not a whole log of inspect_ai: {reason_of(error)}.") from error
    if log.status != "success" or log.results is None or not log.results.scores:
        why = f"its status is {log.status!r}" if log.status != "success" else "it has no scores"
        why += f" ({' '.join(log.error.message.split())[:120]})" if log.error else ""
        raise InputError(
            f"{path} cannot be used: {why}. Finish it with `inspect eval-retry`, or score it with "
            f"`inspect score`."
        )
    if not log.samples:
        raise InputError(f"{path} holds no samples; evaluate without --no-log-samples.")
    try:
        return _run_of(path, log)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {type(error).__name__}: {reason_of(error)}."
        ) from error


def _run_of(path: Path, log: Any) -> InspectRun:
    task = str(log.eval.task)
    scores = list(_scores(log))
    rows = [row for score in scores for row in _rows(log, score, alone=len(scores) == 1)]
    figures: dict[str, Any] = {"alias": task}
    for score in scores:
        figures |= _figures(score, alone=len(scores) == 1)
    if not any(isinstance(value, float) for value in figures.values()):
        raise InputError(f"{path} has no numeric metric of {task}.")
    first = next((name for score in scores for name in score.metrics if name not in _ERRORS), "")
    counted = {row["doc_id"] for row in rows}
    results = {
        "results": {task: figures},
        "configs": {task: _task_config(log, first, rows)},
        "versions": {task: log.eval.task_version},
        "n-shot": {},
        "n-samples": {task: {"original": log.eval.dataset.samples, "effective": len(counted)}},
        # Logs do not say which way is better; inspect_ai's own scorers all count up.
        "higher_is_better": {task: dict.fromkeys(_MEANS, True)},
        "config": _config(log),
        "date": datetime.fromisoformat(str(log.eval.created)).timestamp(),
        "git_hash": log.eval.revision.commit if log.eval.revision else None,
        "inspect_ai_version": (log.eval.packages or {}).get("inspect_ai"),
    }
    return InspectRun(path, str(log.eval.created), results, {task: rows})


def _scores(log: Any) -> Iterator[Any]:
    """Yield each scorer's scores; of several reducers of epochs, the first one's."""
    seen = set()
    for score in log.results.scores:
        if (score.scorer, score.name) not in seen:
            seen.add((score.scorer, score.name))
            yield score


def _filter(score: Any, alone: bool) -> str:
    return _NO_FILTER if alone else str(score.name)


def _figures(score: Any, *, alone: bool) -> dict[str, float]:
    """Return a scorer's metrics; the standard error belongs to the mean."""
    found, name = {}, _filter(score, alone)
    for metric, each in score.metrics.items():
        if metric not in _ERRORS:
            found[f"{metric},{name}"] = float(each.value)
    errors = [score.metrics[error].value for error in _ERRORS if error in score.metrics]
    for mean in _MEANS:
        if errors and mean in score.metrics:
            found[f"{mean}_stderr,{name}"] = float(errors[0])
    return found


def _rows(log: Any, score: Any, *, alone: bool) -> Iterator[Sample]:
    """Yield the samples that a scorer scored, each once: with epochs, its reduced value."""
    metrics = [metric for metric in _MEANS if metric in score.metrics]
    values = _values(log, score)
    seen = set()
    for sample in log.samples:
        key = str(sample.id)
        if key in seen or key not in values:
            continue
        seen.add(key)
        document = {
            "id": sample.id,
            "input": sample.input if isinstance(sample.input, str) else _messages(sample.input),
            "target": sample.target,
            **({"choices": sample.choices} if sample.choices else {}),
            **{k: v for k, v in (sample.metadata or {}).items() if k in ("group_id", "category")},
        }
        yield {
            "doc_id": _number(sample.id),
            "doc": document,
            "target": sample.target if isinstance(sample.target, str) else list(sample.target),
            "arguments": [[_prompt(sample), {}]],
            "resps": [[sample.output.completion]],
            "filtered_resps": [_answer(sample, score)],
            "filter": _filter(score, alone),
            "metrics": metrics,
            "doc_hash": _hash([document["input"], sample.target, sample.choices]),
            "prompt_hash": _hash(_prompt(sample)),
            "target_hash": _hash(sample.target),
            **dict.fromkeys(metrics, values[key]),
        }


def _values(log: Any, score: Any) -> dict[str, float]:
    """Return a sample's id → its value; samples that were not scored are left out."""
    from inspect_ai.scorer import value_to_float

    to_float, found = value_to_float(), {}
    reduced = [r for r in log.reductions or () if r.scorer in (score.name, score.scorer)]
    chosen = [r for r in reduced if r.reducer == score.reducer] or reduced
    if chosen:
        pairs = [(each.sample_id, each.value) for each in chosen[0].samples]
    else:
        scored = [(s.id, (s.scores or {}).get(score.scorer)) for s in log.samples]
        pairs = [(key, each.value) for key, each in scored if each is not None]
    for key, value in pairs:
        if isinstance(value, Mapping):
            value = value.get(score.name)
        if value is None or isinstance(value, (list, tuple)):
            continue
        number = float(to_float(value))
        if math.isfinite(number):
            found[str(key)] = number
    return found


def _answer(sample: Any, score: Any) -> str:
    given = (sample.scores or {}).get(score.scorer)
    answer = getattr(given, "answer", None)
    return str(answer if answer is not None else sample.output.completion)


def _prompt(sample: Any) -> str:
    asked = [m for m in sample.messages or () if m.role != "assistant"]
    return _messages(asked) if asked else str(sample.input)


def _messages(messages: Sequence[Any]) -> str:
    return "\n\n".join(f"[{message.role}] {message.text}" for message in messages)


def _number(key: int | str) -> int:
    """Return the number of a sample, the same in every log of its data set."""
    if isinstance(key, int) or str(key).isdecimal():
        return int(key)
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:6], "big")


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def _task_config(log: Any, metric: str, rows: Sequence[Sample]) -> dict[str, Any]:
    """Return the task's configuration, with what two logs have to agree in to compare."""
    plan = {"steps": [(step.solver, step.params) for step in log.plan.steps]}
    settings = {
        "solver": fingerprint(plan),
        "scorers": ", ".join(str(each.name) for each in log.eval.scorers or ()),
        "epochs": log.eval.config.epochs or 1,
        "task_arguments": json.dumps(log.eval.task_args or {}, sort_keys=True, default=str),
    }
    data = sorted({(row["doc_id"], row["doc_hash"]) for row in rows})
    listed = {"metric": metric}
    if metric in _MEANS:
        listed["aggregation"] = "mean"
    return {
        "task": log.eval.task,
        "metric_list": [listed],
        "metadata": {
            SETTINGS: settings,
            "data_source": log.eval.dataset.name or log.eval.dataset.location,
            "data_fingerprint": fingerprint({"items": data}),
        },
    }


def _config(log: Any) -> dict[str, Any]:
    """Return which model was evaluated, and how it generated."""
    spec = log.eval
    asked = log.plan.config.model_dump(exclude_none=True)
    asked |= spec.model_generate_config.model_dump(exclude_none=True)
    seed = asked.pop("seed", None)
    generating = {k: v for k, v in sorted(asked.items()) if k not in _EXECUTION}
    record: dict[str, Any] = next(
        (found for s in log.samples if (found := (s.output.metadata or {}).get(RECORD))), {}
    )
    return {
        "model": KIND,
        "model_args": {"model": spec.model, **{k: v for k, v in (spec.model_args or {}).items()}},
        "gen_kwargs": generating or None,
        "limit": spec.config.limit,
        **({} if seed is None else {"torch_seed": seed}),
        **record,
    }
