"""Tasks whose free-text answers a judge decides on, as a harness filter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from lm_eval.api.filter import Filter, FilterEnsemble

from lm_eval_trust.judges.registry import JudgeChoice
from lm_eval_trust.tasks.trust_task import TrustTask

#: What is logged of one answer: its cleaned text and the verdicts on it.
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
        """Build the task and its judge; the judge's name and version go into the metadata.

        Raises:
            InputError: The chosen judge is not available.
        """
        super().__init__(config)
        metadata = self.config.metadata
        self.judge = self.judges.resolve(metadata, split_seed=self.settings.split_seed)
        metadata[self.judges.setting] = self.judge.name
        metadata[f"{self.judges.setting}_version"] = self.judge.version
        self._filters = [FilterEnsemble("none", [lambda: JudgeFilter(self.judge_answers)])]

    @abstractmethod
    def judge_answers(self, answers: list[str], docs: list[dict[str, Any]]) -> list[Judged]:
        """Judge all answers of the task, given their rows."""
