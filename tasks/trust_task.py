"""The harness task behind every trust task: a YAML task over rows of ``lm_eval_trust.benchmarks``.

Unlike ``ConfigurableTask``, it records in the results which data was evaluated, breaks one metric
down by the benchmark's sub-categories, and keeps the harness's request cache from mixing up data.
The YAML's ``dataset_kwargs`` hold ``form`` (of the rows), optionally ``breakdown`` (the arguments
of :class:`Breakdown`), ``example`` (a template of a row with its answer, as examples in a prompt
have it; empty for rows that cannot be examples; by default ``doc_to_text`` with
``doc_to_target``), ``chat`` (true for tasks that ask chat models), ``mixed_by`` (fields of the rows
whose values are spread evenly, so any first rows contain all of them), and any data setting that
the task fixes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from lm_eval_trust.benchmarks.load import load_examples, load_rows
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE, SCORED_TYPES, has_nonfinite
from lm_eval_trust.tasks.lm_eval_internals import add_metric, has_metric
from lm_eval_trust.tasks.metrics import (
    interval_ends,
    interval_names,
    mean_of_category,
    of_category,
)
from lm_eval_trust.tasks.row_settings import RowSettings, answer_tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Breakdown:
    """Which metrics are broken down, and by what.

    Attributes:
        metric: The task's metric, e.g. ``acc``.
        by: The rows' field with the sub-category, or the list of those that a row belongs to.
        further: Other metrics that are broken down in the same way.
    """

    metric: str
    by: str = "category"
    further: Sequence[str] = ()

    def categories(self, docs: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the sub-categories that these rows have, as parts of metrics' names, sorted."""
        return sorted({category for doc in docs for category in self._of(doc)})

    def metrics(self, categories: Iterable[str]) -> dict[str, str]:
        """Return the name of each metric of a sub-category → the metric that it breaks down."""
        names = list(categories)
        return {f"{m}_{name}": m for m in (self.metric, *self.further) for name in names}

    def scores(
        self, doc: Mapping[str, Any], values: Mapping[str, Any], categories: Iterable[str]
    ) -> dict[str, Any]:
        """Return a row's values for the metrics of its own sub-categories, ``None`` for others.

        Every row carries all metrics, so they have as many values as there are rows, on every
        rank of a distributed run.
        """
        own = self.metrics(self._of(doc))
        return {
            name: values.get(metric) if name in own else None
            for name, metric in self.metrics(categories).items()
        }

    def _of(self, doc: Mapping[str, Any]) -> set[str]:
        categories = doc[self.by] if isinstance(doc[self.by], list) else [doc[self.by]]
        return {slug(category) for category in categories if category}


def slug(category: str) -> str:
    """Return a sub-category as part of a metric's name, e.g. ``native_american``."""
    return re.sub(r"[^a-z0-9]+", "_", category.casefold()).strip("_")


def evenly_mixed(labels: Sequence[Hashable]) -> list[int]:
    """Return positions in an order in which each label is spread evenly, otherwise as they are."""
    places: dict[Hashable, list[int]] = {}
    for position, label in enumerate(labels):
        places.setdefault(label, []).append(position)
    order = [
        ((rank + 0.5) / len(positions), position)
        for positions in places.values()
        for rank, position in enumerate(positions)
    ]
    return [position for _, position in sorted(order)]


class TrustTask(ConfigurableTask):  # type: ignore[misc]
    """A task over rows of one form.

    Attributes:
        settings: Which rows.
        data_fingerprint: Identity of the rows themselves.
        breakdown: Which metric is broken down by sub-category, if any.
    """

    settings: RowSettings
    data_fingerprint: str

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the task from its YAML, as the harness's task manager read it.

        Raises:
            InputError: A data setting is not allowed; :class:`MissingDataError` where the data
                cannot be found.
        """
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        most = answer_tokens(self.config.metadata)
        if most is not None and self.config.output_type == "generate_until":
            self.config.generation_kwargs = {
                **(self.config.generation_kwargs or {}),
                "max_gen_toks": most,
            }
        breakdown = self.config.dataset_kwargs.get("breakdown")
        self.breakdown = Breakdown(**breakdown) if breakdown else None
        self._categories = self._declare_categories()
        self._with_interval = self._declare_intervals()

    @property
    def asks_chat(self) -> bool:
        """Whether it asks chat models; our own evaluations then apply the model's template."""
        return bool(self.config.dataset_kwargs.get("chat"))

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the rows and note in the metadata which they are."""
        self.settings = RowSettings.from_task(dataset_kwargs or {}, self.config.metadata)
        arguments = self.settings.load_arguments()
        rows = load_rows(self.settings.form, **arguments)
        everything = {**arguments, "split": "full", "part": "test"}
        of = len(rows if arguments == everything else load_rows(self.settings.form, **everything))
        if fields := (dataset_kwargs or {}).get("mixed_by"):
            order = evenly_mixed([tuple(row[field] for field in fields) for row in rows])
            rows = [rows[position] for position in order]
        self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        self.data_fingerprint = content_id(json.dumps(rows, sort_keys=True, ensure_ascii=False))
        self.config.metadata.update(
            arguments,
            data_fingerprint=self.data_fingerprint,
            data_rows=len(rows),
            data_rows_of=of,
        )

    def example_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the training part, from which examples for prompts are drawn.

        Raises:
            InputError: The task evaluates all rows, so there is no such part.
        """
        settings = {k: v for k, v in self.settings.load_arguments().items() if k != "part"}
        return load_examples(self.settings.form, **settings)

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: Sequence[int] | None = None,
        tokenizer_name: str = "",
        **kwargs: Any,
    ) -> None:
        """Build the requests; a cache entry of other rows or other prompts is never taken.

        The harness names its cache entries by task and tokenizer, so what else decides a request
        travels in the tokenizer's name.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}, but at least 1 item of a task is needed.")
        self.config.metadata.pop(NONFINITE, None)
        if self.breakdown:
            docs = self.dataset["test"]
            evaluated = range(len(docs))[:limit] if samples is None else samples
            self._categories = self.breakdown.categories(docs.select(evaluated))
        requests = fingerprint(
            {
                "data": self.data_fingerprint,
                "prompt": str(self.config.doc_to_text),
                "generation": self.config.generation_kwargs,
            }
        )
        super().build_all_requests(
            limit=limit, samples=samples, tokenizer_name=f"{tokenizer_name}-{requests}", **kwargs
        )

    def process_results(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Score one row, its sub-categories and what intervals are made from included.

        Rows with a log-likelihood that is not finite are counted in the metadata, which is in the
        results file.
        """
        if self.config.output_type in SCORED_TYPES and has_nonfinite(list(results)):
            self._count_nonfinite()
        scores: dict[str, Any] = super().process_results(doc, results)
        if self.breakdown is not None and has_metric(self, self.breakdown.metric):
            scores |= self.breakdown.scores(doc, scores, self._categories)
        ends = [name for name in scores if name in self._with_interval]
        return scores | {end: scores[name] for name in ends for end in interval_names(name)}

    def _count_nonfinite(self) -> None:
        metadata = self.config.metadata
        if NONFINITE not in metadata:
            logger.warning(
                "The model gives log-likelihoods that are not finite in %s, whose scores mean "
                "nothing; the number of such items is in the results, under configs.",
                self.config.task,
            )
        metadata[NONFINITE] = metadata.get(NONFINITE, 0) + 1

    def _declare_categories(self) -> list[str]:
        if self.breakdown is None:
            return []
        categories = self.breakdown.categories(self.dataset["test"])
        for name, metric in self.breakdown.metrics(categories).items():
            whole = self.aggregation()[metric]
            of_items = mean_of_category if whole is mean else of_category(whole)
            add_metric(self, name, of_items, like=metric)
        return categories

    def _declare_intervals(self) -> frozenset[str]:
        """Declare the ends of intervals that the harness lacks; return the metrics they are of."""
        found = {name: interval_ends(of) for name, of in self.aggregation().items()}
        for name, ends in found.items():
            for end, aggregation in zip(interval_names(name), ends, strict=False):
                add_metric(self, end, aggregation, like=name)
        return frozenset(name for name, ends in found.items() if ends)
