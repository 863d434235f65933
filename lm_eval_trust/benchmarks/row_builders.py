"""The forms that a benchmark's task rows come in, and how each is made from each source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.benchmarks import confaide, sst2, stereoset, toxigen, tracingllm, truthfulqa
from lm_eval_trust.benchmarks.sampling import consistent
from lm_eval_trust.benchmarks.settings import MINI, DataSettings
from lm_eval_trust.benchmarks.statements import labelled_rows
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.mini.benchmarks import mini_rows

Row = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """One form of a benchmark's rows.

    Attributes:
        benchmark: The benchmark whose groups the rows are split over.
        official: Makes all rows from the benchmark's own files.
        released: Makes all rows from the paper's released files; ``None`` where those cannot.
        why_not: Why they cannot.
    """

    benchmark: str
    official: Callable[[DataSettings], list[Row]]
    released: Callable[[DataSettings], list[Row]] | None = None
    why_not: str = ""

    def build(self, name: str, settings: DataSettings) -> list[Row]:
        """Return all rows of the form called ``name``, without ``item_id``, in a stable order.

        Raises:
            InputError: The source cannot make this form.
        """
        if settings.data_source == "official":
            return self.official(settings)
        if settings.data_source == MINI:
            return mini_rows(self.benchmark, name, settings)
        if self.released is None:
            raise InputError(
                f"data_source=tracingllm cannot make these {self.benchmark} rows: {self.why_not} "
                f"Use data_source=official."
            )
        return self.released(settings)


def _released_questions() -> list[truthfulqa.Question]:
    """Return the official questions, with references, that the released test file asks."""
    asked = {group_id(question) for question in tracingllm.truthfulqa_questions()}
    return [question for question in truthfulqa.read_questions() if question.group in asked]


def _official_classify(settings: DataSettings) -> list[Row]:
    questions = truthfulqa.read_questions()
    return labelled_rows(truthfulqa.statements(questions, seed=settings.data_seed, balance=True))


def _released_toxigen(settings: DataSettings) -> list[Row]:
    """Join the released labels to the revised set, which has the same sentences in order."""
    official, released = toxigen.read_sentences(), tracingllm.toxigen_statements()
    if [row["text"] for row in official] != [item.text for item in released]:
        raise InputError(
            f"{tracingllm.TOXIGEN} and {toxigen.SENTENCES} do not hold the same sentences in order."
        )
    return [
        toxigen.generation_row(row, item.label)
        for row, item in zip(official, released, strict=True)
    ]


def _recognition(settings: DataSettings) -> list[Row]:
    chosen = stereoset.chosen_candidates(stereoset.read_items(), settings.data_seed)
    return [stereoset.recognition_row(candidate) for candidate in chosen]


def _released_recognition(settings: DataSettings) -> list[Row]:
    return [
        stereoset.recognition_row(candidate, label)
        for _, label, candidate in tracingllm.stereoset_candidates()
    ]


def _sentiment(settings: DataSettings) -> list[Row]:
    return [
        sst2.sentiment_row(
            sentence, sentiment, rate=settings.perturbation_rate, seed=settings.data_seed
        )
        for sentence, sentiment in sst2.read_sentences()
    ]


FORMS: dict[str, Form] = {
    "truthfulqa_generation": Form(
        "truthfulqa",
        lambda _: [truthfulqa.generation_row(q) for q in truthfulqa.read_questions()],
        lambda _: [truthfulqa.generation_row(q) for q in _released_questions()],
    ),
    "truthfulqa_mc": Form(
        "truthfulqa",
        lambda _: [truthfulqa.choice_row(q) for q in truthfulqa.read_questions()],
        lambda _: [truthfulqa.choice_row(q) for q in _released_questions()],
    ),
    "truthfulqa_classify": Form(
        "truthfulqa",
        _official_classify,
        lambda _: labelled_rows(tracingllm.truthfulqa_statements()),
    ),
    "toxigen_generation": Form(
        "toxigen",
        lambda _: [toxigen.generation_row(row) for row in toxigen.read_sentences()],
        _released_toxigen,
    ),
    "confaide_binary": Form(
        "confaide",
        lambda _: [confaide.binary_row(item) for item in consistent(confaide.statements())],
        lambda _: [confaide.binary_row(item) for item in confaide.statements()],
    ),
    "confaide_tier2": Form(
        "confaide",
        lambda _: confaide.tier2_rows(),
        why_not="the release holds no human means.",
    ),
    "stereoset_recognition": Form("stereoset", _recognition, _released_recognition),
    "stereoset_icat": Form(
        "stereoset",
        lambda s: [stereoset.icat_row(item, s.data_seed) for item in stereoset.read_items()],
        why_not="the release holds no stereotype, so no context has all three candidates.",
    ),
    "sst2_sentiment": Form(
        "sst2",
        _sentiment,
        why_not="its labels say perturbed or not, and GLUE's test set has no public sentiment.",
    ),
}
