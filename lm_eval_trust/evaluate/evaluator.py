"""The one evaluator: a model on tasks → an outcome, which is kept and found again.

The key of a kept outcome holds everything that it depends on: the model with its adapters and
arguments, the steering, the items with the tasks' settings and judges, and the versions of the
libraries. Nothing of how it is computed (batch size, device) enters it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval_trust import __version__
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE
from lm_eval_trust.core.saved_runs import CHATS, CONTROL, PREFIXES
from lm_eval_trust.core.storage import read_kept, write_kept
from lm_eval_trust.evaluate.controls import smallest_step
from lm_eval_trust.evaluate.harness import save_results
from lm_eval_trust.evaluate.lm_eval_internals import in_chats, prompts_after, quick_calls
from lm_eval_trust.evaluate.measurement import Measurement, measurement_of
from lm_eval_trust.evaluate.paired_items import Item, values_of
from lm_eval_trust.evaluate.tasks import TaskSet
from lm_eval_trust.judges.correction import is_corrected
from lm_eval_trust.tasks.metrics import is_interval_end

Scores = dict[str, dict[str, Any]]
#: Of kept outcomes; it rises when earlier ones lack something. 2: the count of non-finite items;
#: 3: their categories.
_FORMAT = 3
#: Libraries whose releases may change what a model answers.
_LIBRARIES = ("lm_eval", "torch", "transformers", "peft")
#: Resamples of the standard errors that have no closed form; the harness takes its own for others.
_BOOTSTRAP = 100
#: Items of each task whose prompts and answers are kept for reading.
EXAMPLES = 3


@dataclass(frozen=True)
class EvaluationSpec:
    """What is evaluated.

    Attributes:
        name: For the names of files; no identity.
        model: Identity of the model: weights, adapters, arguments that change answers. JSON-like,
            and known without loading it.
        steering: Fingerprint of the steering plan.
        tasks: On what.
        prefixes: Task → text before each of its prompts.
    """

    name: str
    model: Mapping[str, Any]
    steering: str
    tasks: TaskSet
    prefixes: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identity of everything that the outcome depends on."""
        tasks = self.tasks.identity
        if self.prefixes:
            tasks = fingerprint({"tasks": tasks, "prefixes": dict(self.prefixes)})
        return evaluation_key(self.model, self.steering, tasks)


def evaluation_key(model: Mapping[str, Any], steering: str, tasks: str) -> str:
    """Return the key of an outcome; see :class:`EvaluationSpec` for the arguments."""
    return fingerprint(
        {
            "format": _FORMAT,
            "model": dict(model),
            "steering": steering,
            "tasks": tasks,
            "software": software(),
        }
    )


def software() -> dict[str, str]:
    """Return the versions that an outcome depends on."""
    return {name: version(name) for name in _LIBRARIES} | {"lm_eval_trust": __version__}


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave.

    Attributes:
        scores: Task or group → the harness's aggregated metrics.
        counts: Task → number of items.
        measurements: Task → each item's values.
        examples: Task → prompts and answers of the first items.
        details: What the model tells of the run, such as its divergence.
    """

    scores: Scores
    counts: dict[str, int]
    measurements: dict[str, Measurement]
    examples: dict[str, list[dict[str, str]]]
    details: dict[str, Any]

    @property
    def items(self) -> dict[str, list[Item]]:
        """Task → its items, in order, as paired comparisons take them."""
        return {task: found.items for task, found in self.measurements.items()}

    @property
    def divergence(self) -> float:
        """Mean KL(unsteered ‖ steered) per scored token, in nats; NaN where it was not measured."""
        return float(self.details.get("divergence", math.nan))

    @property
    def nonfinite(self) -> int:
        """Number of items with a log-likelihood, an answer or a score that is NaN or infinite."""
        generated = int(self.details.get(NONFINITE, 0))
        return generated + sum(found.nonfinite for found in self.measurements.values())

    def step(self, others: Sequence[Outcome], metric: str) -> float:
        """Return by how little the mean of a metric over the tasks can move, 0 if nothing differs.

        Args:
            others: Outcomes of other models on the same items.
            metric: Metric with a value for each item.
        """
        found = [
            smallest_step(
                values_of(items, metric), (values_of(o.items[task], metric) for o in others)
            )
            for task, items in self.items.items()
        ]
        return min((step for step in found if step > 0), default=0.0) / len(found)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome:
        """Return the outcome that ``asdict`` made a record of.

        Raises:
            TypeError: It is something else.
        """
        measurements = {t: Measurement(**found) for t, found in record["measurements"].items()}
        return cls(**{**record, "measurements": measurements})


def evaluate(
    model: Any,
    tasks: TaskSet,
    results: Path,
    *,
    details: Callable[[], Mapping[str, Any]] = dict,
    prefixes: Mapping[str, str] | None = None,
    control: Mapping[str, Any] | None = None,
    described: Mapping[str, Any] | None = None,
    **call: Any,
) -> Outcome:
    """Evaluate a model by the harness, and write the harness's results and samples files.

    This is the only place in the package that calls ``simple_evaluate``. Tasks that ask chat models
    (``asks_chat``) are asked by the model's chat template, if it has one.

    Args:
        model: The harness's model, or its name with ``model_args`` among ``call``, which cannot be
            asked by its template.
        tasks: On what.
        results: Folder of the files.
        details: Asked after the evaluation for what the model tells of it.
        prefixes: Task → text before each of its prompts.
        control: What results files say about a control arm, under ``config``.
        described: What results files say of the model under ``config``, for a loaded one.
        **call: Further arguments of ``simple_evaluate``.

    Raises:
        InputError: As the tasks or the model raise; as the leak guard.
        ExternalError: A judge failed, or the files could not be written.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(results))
    by_limit = all(list(rows) == list(range(len(rows))) for rows in tasks.chosen.values())
    choice = {"limit": tasks.limit} if by_limit else {"samples": dict(tasks.chosen)}
    aggregations = tasks.aggregations
    chats = _chats(tasks, model)
    before = {name: text for name, text in (prefixes or {}).items() if name not in chats}
    with (
        quick_calls(),
        in_chats(chats, model, prefixes or {}),
        prompts_after(tasks.tasks, before),
    ):
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=tasks.asked,
            task_manager=tasks.manager,
            evaluation_tracker=tracker,
            **{"bootstrap_iters": _BOOTSTRAP, **choice, **call},
        )
        samples = found["samples"]
        outcome = Outcome(
            scores=_without_derived({**found["results"], **(found.get("groups") or {})}),
            counts={name: int(n["effective"]) for name, n in found["n-samples"].items()},
            measurements={
                task: measurement_of(task, found, aggregations.get(task, {})) for task in samples
            },
            examples={task: _examples(rows) for task, rows in samples.items()},
            details=dict(details()),
        )
        found["config"].update(described or {})
        if chats:
            found["config"][CHATS] = sorted(chats)
        if control is not None:
            found["config"][CONTROL] = dict(control)
        if prefixes:
            found["config"][PREFIXES] = dict(prefixes)
        save_results(tracker, found)
    return outcome


def _chats(tasks: TaskSet, model: Any) -> dict[str, Any]:
    """Return the tasks that are asked by the model's chat template."""
    if not getattr(getattr(model, "tokenizer", None), "chat_template", None):
        return {}
    return {n: task for n, task in tasks.tasks.items() if getattr(task, "asks_chat", False)}


class Evaluator:
    """Evaluates specifications, each once.

    Args:
        folder: Where outcomes are kept, one file each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, spec: EvaluationSpec) -> Path:
        """Return where an outcome is kept."""
        return self._folder / f"{spec.name}-{spec.key}.json"

    def kept(self, spec: EvaluationSpec) -> Outcome | None:
        """Return a finished outcome, or ``None`` if there is none that is intact."""
        record = read_kept(self.file(spec))
        return None if record is None else Outcome.from_record(record)

    def outcome(self, spec: EvaluationSpec, run: Callable[[], Outcome]) -> Outcome:
        """Return the outcome of a specification, from ``run`` unless it is kept.

        Raises:
            InputError: As ``run`` raises.
            ExternalError: The same, or the disk refused to write.
        """
        found = self.kept(spec)
        if found is None:
            found = run()
            write_kept(self.file(spec), asdict(found))
        return found


def _without_derived(scores: Scores) -> Scores:
    """Leave out the ends of intervals, and what follows from a calibration, which may be newer."""
    return {
        task: {
            metric: value
            for metric, value in found.items()
            if not is_corrected(metric) and not is_interval_end(metric, found)
        }
        for task, found in scores.items()
    }


def _examples(samples: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))[:EXAMPLES]
    return [
        {"prompt": str(sample["arguments"][0][0]), "answer": sample["resps"][0][0]}
        for sample in ordered
        if isinstance(sample["resps"][0][0], str)
    ]
