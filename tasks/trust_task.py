"""The harness task behind every trust task: a YAML task over rows of ``lm_eval_trust.benchmarks``.

Beside what ``ConfigurableTask`` does, it says in the results which data was evaluated, breaks one
metric down by the benchmark's sub-categories, and keeps the harness's request cache from mixing up
data. The YAML's ``dataset_kwargs`` hold ``form`` (of the rows), optionally ``breakdown`` (the
arguments of :class:`Breakdown`) and any data setting that the task fixes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask

from lm_eval_trust.benchmarks.load import load_rows
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.tasks.breakdown import Breakdown
from lm_eval_trust.tasks.metrics import mean_of_category
from lm_eval_trust.tasks.settings import RowSettings


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
        breakdown = self.config.dataset_kwargs.get("breakdown")
        self.breakdown = Breakdown(**breakdown) if breakdown else None
        self._category_metrics = self._declare_categories()

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the rows and note in the metadata which they are."""
        self.settings = RowSettings.from_task(dataset_kwargs or {}, self.config.metadata)
        rows = load_rows(self.settings.form, **self.settings.load_arguments())
        self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        self.data_fingerprint = content_id(json.dumps(rows, sort_keys=True, ensure_ascii=False))
        self.config.metadata.update(
            self.settings.load_arguments(),
            data_fingerprint=self.data_fingerprint,
            data_rows=len(rows),
        )

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
        if self.breakdown:
            docs = self.dataset["test"]
            evaluated = range(len(docs))[:limit] if samples is None else samples
            self._category_metrics = self.breakdown.metrics(docs.select(evaluated))
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
        """Score one row, its sub-categories included."""
        scores: dict[str, Any] = super().process_results(doc, results)
        if self.breakdown is None or self.breakdown.metric not in self._metric_fn_list:
            return scores  # no breakdown, or --predict_only has taken the metrics away
        value = scores.get(self.breakdown.metric)
        return scores | self.breakdown.scores(doc, value, self._category_metrics)

    def _declare_categories(self) -> list[str]:
        if self.breakdown is None:
            return []
        metrics = self.breakdown.metrics(self.dataset["test"])
        for name in metrics:
            self._aggregation_list[name] = mean_of_category
            self._higher_is_better[name] = self._higher_is_better[self.breakdown.metric]
        return metrics
