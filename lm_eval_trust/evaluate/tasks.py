"""Tasks of the harness as an evaluation takes them: loaded, cut to the items, and identified."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.core.errors import InputError, did_you_mean
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.evaluate.harness import brought_by_package, needs_defaults, task_manager
from lm_eval_trust.evaluate.paired_items import group_of

#: Where a function of a task's settings lies in this process's memory.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
#: Metrics that stand for a task, if it has them, in this order.
_SCORES = ("trust_score", "acc")
#: Metrics that are held each for itself: a score of both would let one make up for the other.
SIDES = ("refusal_of_unsafe", "answers_to_safe")
#: Metadata that changes no score: the place of the task's file, and a judge's measured quality.
_IRRELEVANT = ("config_source", "_calibration")


@dataclass(frozen=True)
class TaskSet:
    """What is evaluated together: tasks with the items of each.

    Attributes:
        names: Tasks, groups or tags, as asked for.
        tasks: Name of each task → the harness's task.
        chosen: Name of each task → positions of the items, in order.
        limit: Items of each task at most.
        manager: The index that the tasks come from.
        identities: Name of each task → what its scores depend on, apart from the model: settings,
            judge, items. Taken before any evaluation, which changes the tasks.
    """

    names: tuple[str, ...]
    tasks: Mapping[str, Any]
    chosen: Mapping[str, Sequence[int]]
    limit: int | None
    manager: Any
    identities: Mapping[str, Mapping[str, Any]]

    @property
    def identity(self) -> str:
        """Identity of all that scores depend on in addition to the model."""
        return fingerprint(self.identities)

    @property
    def asked(self) -> list[Any]:
        """What the harness is asked for: loaded tasks, or names if they include groups."""
        if set(self.names) == set(self.tasks):
            return [self.tasks[name] for name in self.names]
        return list(self.names)

    @property
    def aggregations(self) -> dict[str, dict[str, str]]:
        """Task → metric → name of its aggregation; empty where that has none."""
        return {
            name: {m: getattr(f, "__name__", "") for m, f in task.aggregation().items()}
            for name, task in self.tasks.items()
        }

    def members(self) -> list[TaskSet]:
        """Return each task as its own set."""
        return [
            TaskSet(
                (name,),
                {name: task},
                {name: self.chosen[name]},
                self.limit,
                self.manager,
                {name: self.identities[name]},
            )
            for name, task in self.tasks.items()
        ]

    def groups(self, name: str) -> list[str]:
        """Return the group of each item of a task."""
        docs = self.tasks[name].eval_docs
        return [group_of(docs[i]) or f"item {i}" for i in self.chosen[name]]


class TaskIndex:
    """Tasks loaded with some settings, each when it is first asked for, and identified then.

    Args:
        metadata: Settings of the tasks, as in ``--metadata``.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = dict(metadata)
        self._managers: dict[str, Any] = {}
        self._sets: dict[tuple[Any, ...], TaskSet] = {}

    def load(
        self, names: Sequence[str], *, limit: int | None = None, part: str | None = None
    ) -> TaskSet:
        """Return the tasks that some tasks, groups or tags stand for.

        Args:
            names: Tasks, groups or tags.
            limit: Items of each task at most.
            part: ``validation`` or ``test``; tasks without their own parts (the harness's)
                give every second item to each. By default what the tasks evaluate.

        Raises:
            InputError: A setting of the tasks, or their data, is wrong or missing, a task has too
                few items for the part, or the limit is below 1.
            ExternalError: A judge or data cannot be fetched.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}, but at least 1 item of a task is needed.")
        wanted = (tuple(names), limit, part)
        if wanted not in self._sets:
            self._sets[wanted] = self._load(names, limit, part)
        return self._sets[wanted]

    def _load(self, names: Sequence[str], limit: int | None, part: str | None) -> TaskSet:
        settings = self._metadata | ({} if part is None else {"part": part})
        foreign = any(map(needs_defaults, names))
        if not foreign and not any(map(brought_by_package, names)):
            from lm_eval_trust.tasks.row_settings import check_metadata

            check_metadata(self._metadata)
        key = fingerprint({"settings": {k: str(v) for k, v in settings.items()}, "all": foreign})
        if key not in self._managers:
            self._managers[key] = task_manager(settings, with_defaults=foreign)
        manager = self._managers[key]
        tasks = manager.load(list(names))["tasks"]
        chosen = {name: _chosen(name, task, limit, part) for name, task in tasks.items()}
        return TaskSet(
            tuple(names),
            tasks,
            chosen,
            limit,
            manager,
            {name: _identity(task, chosen[name]) for name, task in tasks.items()},
        )


def _chosen(name: str, task: Any, limit: int | None, part: str | None) -> list[int]:
    from lm_eval_trust.tasks.trust_task import TrustTask

    number = len(task.eval_docs)
    first, step = 0, 1
    if part is not None and not isinstance(task, TrustTask):
        first, step = (1 if part == "validation" else 0), 2
    chosen = list(range(first, number, step))[:limit]
    if not chosen:
        raise InputError(f"{name} has {number} items: too few for a {part or 'test'} part.")
    return chosen


def _identity(task: Any, chosen: Sequence[int]) -> dict[str, Any]:
    """Return what a task's scores depend on beside the model."""
    config = task.dump_config()
    metadata = {k: v for k, v in config.get("metadata", {}).items() if not k.endswith(_IRRELEVANT)}
    docs = task.eval_docs
    found: dict[str, Any] = {
        "config": _ADDRESS.sub("", str({**config, "metadata": metadata})),
        "version": str(task.VERSION),
        "items": content_id(*(repr(docs[i]) for i in chosen)),
    }
    if judges := getattr(task, "judges", None):
        found["judge"] = judges.identity(metadata, split_seed=task.settings.split_seed)
    return found


def score_metric(task: str, known: Sequence[str], asked: str = "") -> str:
    """Return the metric by which a task is compared; empty for a task of perplexity.

    Args:
        task: Its name, for messages.
        known: Its metrics.
        asked: The one that is asked for.

    Raises:
        InputError: It has none that is known to be a score.
    """
    if asked:
        if asked not in known:
            raise InputError(
                f"{task} has no metric {asked!r}; it has {', '.join(sorted(known))}."
                f"{did_you_mean(asked, known)}"
            )
        return asked
    for name in _SCORES:
        if name in known:
            return name
    if any("perplexity" in name for name in known):
        return next(name for name in sorted(known) if name in ("perplexity", "word_perplexity"))
    raise InputError(
        f"{task} has neither {' nor '.join(_SCORES)}; it has {', '.join(sorted(known))}. Leave "
        f"it out, or name its metric."
    )


def held_metrics(task: str, known: Sequence[str], asked: str = "") -> tuple[str, ...]:
    """Return the metrics of a task that steering must not make worse; see :func:`score_metric`."""
    if not asked and set(known).issuperset(SIDES):
        return SIDES
    return (score_metric(task, known, asked),)
