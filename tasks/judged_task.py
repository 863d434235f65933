"""Tasks whose free-text answers are judged, in a harness filter."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from datasets import Dataset, DatasetDict
from lm_eval.api.filter import Filter

from lm_eval_trust.core.errors import ExternalError, InputError, TrustError, reason_of
from lm_eval_trust.core.saved_runs import SAVED_ROWS, write_run
from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.judges.calibration_store import stored_calibration
from lm_eval_trust.judges.correction import (
    JUDGED,
    corrected_ends,
    corrected_names,
    rates_of,
)
from lm_eval_trust.judges.interface import Described, judge_fingerprint
from lm_eval_trust.judges.registry import UNMEASURED, JudgeChoice
from lm_eval_trust.tasks.lm_eval_internals import add_metric, has_metric, set_filter
from lm_eval_trust.tasks.row_settings import RowSettings
from lm_eval_trust.tasks.trust_task import TrustTask

logger = logging.getLogger(__name__)

#: What is logged of one answer: its cleaned text, the verdicts on it, and whose they are.
Judged = dict[str, Any]


class JudgeFilter(Filter):  # type: ignore[misc]
    """Hands all answers of a task to a judge at once."""

    def __init__(self, judge_answers: Callable[[list[str], list[dict[str, Any]]], list[Judged]]):
        """Keep the function that judges answers, given their rows."""
        self._judge_answers = judge_answers

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[Judged]:
        """Return the verdicts on each row's first answer, in order."""
        return self._judge_answers([answers[0] for answers in resps], list(docs))


class JudgedTask(TrustTask):
    """A task with a judge, which is found when the task is loaded: before any model runs."""

    judges: ClassVar[JudgeChoice[Any]]

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the task and its judge; the judge is recorded in the metadata.

        Raises:
            InputError: The chosen judge is not available.
            ExternalError: Its files or its server are unavailable.
        """
        self._again = False
        super().__init__(config)
        metadata = self.config.metadata
        self.judge = self.judges.resolve(metadata, split_seed=self.settings.split_seed)
        self.judge_fingerprint = judge_fingerprint(self.judge)
        metadata.update(self._judge_record())
        self._corrected = self._declare_corrected(metadata)
        set_filter(self, lambda: JudgeFilter(self._judge_or_save))

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the rows; those of a saved run, where the metadata holds them."""
        rows = self.config.metadata.pop(SAVED_ROWS, None)
        if rows is None:
            super().download(dataset_kwargs, **kwargs)
            return
        self._again = True
        self.settings = RowSettings.from_task(dataset_kwargs or {}, self.config.metadata)
        self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        self.data_fingerprint = str(self.config.metadata.get("data_fingerprint", ""))

    def process_results(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Score one row; scores that can be corrected carry what the correction needs."""
        scores: dict[str, Any] = super().process_results(doc, results)
        for metric in self._corrected:
            if scores.get(metric) is not None:
                item = (str(doc["group_id"]), scores[metric], scores[JUDGED])
                scores |= dict.fromkeys(corrected_names(metric), item)
        return scores

    @abstractmethod
    def judge_answers(self, answers: list[str], docs: list[dict[str, Any]]) -> list[Judged]:
        """Judge all answers of the task, given their rows."""

    def _judge_record(self) -> dict[str, Any]:
        """Return the judge's entry in results files, its measured quality included."""
        setting, judge = self.judges.setting, self.judge
        record: dict[str, Any] = {
            setting: judge.name,
            f"{setting}_version": judge.version,
            f"{setting}_fingerprint": self.judge_fingerprint,
        }
        if isinstance(judge, Described):
            record[f"{setting}_description"] = dict(judge.description)
        calibration = stored_calibration(setting, self.judge_fingerprint)
        if calibration is not None:
            record[f"{setting}_calibration"] = calibration
        return record

    def _declare_corrected(self, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Declare the corrected scores of a calibrated judge; return what they correct."""
        figures, scores = metadata.get(f"{self.judges.setting}_calibration"), self.judges.scores
        metrics = [metric for metric, of in scores.items() if of != UNMEASURED]
        if figures is None or not all(has_metric(self, metric) for metric in metrics):
            return ()
        try:
            rates = {metric: rates_of(figures, scores[metric]) for metric in metrics}
        except InputError as error:
            logger.warning("Scores of %s are not corrected. %s", self.config.task, error)
            return ()
        for metric in metrics:
            ends = zip(corrected_names(metric), corrected_ends(rates[metric]), strict=True)
            for name, end in ends:
                add_metric(self, name, end, like=metric)
        return tuple(metrics)

    def _judge_or_save(self, answers: list[str], docs: list[dict[str, Any]]) -> list[Judged]:
        """Judge the answers; if the judge fails, save them to be judged later."""
        try:
            judged = self.judge_answers(answers, docs)
        except (Exception, KeyboardInterrupt) as error:
            if self._again:
                raise
            failed = _save_unjudged(self.config.task, self.dump_config(), answers, docs, error)
            if isinstance(error, KeyboardInterrupt):
                logger.warning("%s", failed)
                raise
            raise failed from error
        return [{**each, "judge": self.judge_fingerprint} for each in judged]


def _save_unjudged(
    task: str,
    config: Mapping[str, Any],
    answers: Sequence[str],
    docs: Sequence[Mapping[str, Any]],
    error: BaseException,
) -> TrustError:
    """Write answers in the layout of the harness's results, and return an error that says where.

    Args:
        task: Name of the task.
        config: Its configuration.
        answers: One for each row.
        docs: The rows.
        error: What the judge failed with.

    Returns:
        An error that tells how to judge the answers later, of the judge's error's class if that
        is one of ours.
    """
    told = error if isinstance(error, TrustError) else _unexpected(error)
    date = datetime.now().isoformat().replace(":", "-")
    folder = cache_dir() / "judges" / "unjudged" / f"{task}-{date}-{os.getpid()}"
    results = {"results": {task: {}}, "configs": {task: config}, "config": {}, "group_subtasks": {}}
    samples = [
        {"doc_id": i, "doc": doc, "resps": [[answer]], "metrics": []}
        for i, (answer, doc) in enumerate(zip(answers, docs, strict=True))
    ]
    try:
        write_run(folder, date, results, {task: samples})
    except ExternalError as failure:
        return type(told)(f"{told} The model's answers could not be kept either: {failure}")
    return type(told)(
        f"{told} The model's {len(answers)} answers are kept; once the judge works again, "
        f"`lm-eval-trust judge {folder}` judges them."
    )


def _unexpected(error: BaseException) -> ExternalError:
    if isinstance(error, KeyboardInterrupt):
        return ExternalError("The judging was interrupted.")
    return ExternalError(f"The judge failed: {type(error).__name__}: {reason_of(error)}.")
