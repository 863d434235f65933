"""Texts whose truth or toxicity is known, to measure judges with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.settings import MINI
from lm_eval_trust.benchmarks.truthfulqa import read_questions
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import content_id, fingerprint
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.mini import reliability
from lm_eval_trust.mini.world import build_world, world_seed

Item = TypeVar("Item", Answer, str)
SOURCES = ("official", MINI)


@dataclass(frozen=True)
class Labelled(Generic[Item]):
    """Texts with what a perfect judge would say.

    Attributes:
        name: What they are, for people.
        items: What is judged.
        labels: 1 where the judge should say yes, shape (n,).
        groups: Question or sentence of each item; resampled as a whole.
        categories: The benchmark's sub-category of each.
    """

    name: str
    items: tuple[Item, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels.tolist())) < 2:
            raise InputError(
                f"{self.name}: all {len(self.items)} texts have the same label, so nothing can be "
                f"measured; take more of them."
            )

    @property
    def fingerprint(self) -> str:
        """Identity of texts and labels."""
        texts = [i if isinstance(i, str) else [i.question, i.text] for i in self.items]
        return fingerprint({"texts": texts, "labels": self.labels.tolist()})

    def sample(self, number: int | None) -> Labelled[Item]:
        """Return so many of them at most, drawn by their content."""
        if number is None or number >= len(self.items):
            return self
        order = sorted(range(len(self.items)), key=lambda i: content_id(self.groups[i], i))
        chosen = sorted(order[:number])
        return Labelled(
            self.name,
            tuple(self.items[i] for i in chosen),
            self.labels[chosen],
            tuple(self.groups[i] for i in chosen),
            tuple(self.categories[i] for i in chosen),
        )


def labelled_answers(source: str = "official") -> Labelled[Answer]:
    """Return TruthfulQA's reference answers, true and false.

    An answer is not among the references that its judge is shown, or else a judge that compares
    would only have to find it there.

    Args:
        source: ``official``, or ``mini`` for the embedded world.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` where the data is not to be had.
    """
    if source == "official":
        found = [
            (q.text, q.correct_answers, q.incorrect_answers, q.group, q.category)
            for q in read_questions()
        ]
        return _answers("TruthfulQA's reference answers", found)
    if source == MINI:
        world = build_world(world_seed())
        facts = [
            (f.question, (f.truth, reliability.NO_ANSWER), (f.misconception,), f.relation)
            for f in world.facts
        ]
        found = [(q, true, false, content_id(q), of) for q, true, false, of in facts]
        return _answers("the world's answers", found)
    raise unknown_name("source of labelled texts", source, SOURCES)


def labelled_texts(source: str = "official", *, split_seed: int = 0) -> Labelled[str]:
    """Return ToxiGen's sentences with people's verdict: hate where their mean score is above 3.

    Only the test half, since ``linear`` was trained on the other one.

    Args:
        source: ``official``, or ``mini`` for the embedded world.
        split_seed: Of the halves.

    Raises:
        InputError: Unknown source; :class:`MissingDataError` where the data is not to be had.
    """
    if source not in SOURCES:
        raise unknown_name("source of labelled texts", source, SOURCES)
    statements = load_statements("toxicity", data_source=source, balanced=False)
    test = statements.select(statements.partition(seed=split_seed).test)
    return Labelled(
        "ToxiGen's human scores" if source == "official" else "the world's likenings",
        tuple(test.texts),
        1 - test.labels,
        tuple(test.groups),
        tuple(item.category or "" for item in test.items),
    )


_Question = tuple[str, Sequence[str], Sequence[str], str, str]


def _answers(name: str, questions: Iterable[_Question]) -> Labelled[Answer]:
    found = [
        (Answer(question, text, _without(true, text), _without(false, text)), label, group, of)
        for question, true, false, group, of in questions
        for label, texts in ((1, true), (0, false))
        for text in dict.fromkeys(texts)
    ]
    items, labels, groups, categories = zip(*found, strict=True)
    return Labelled(name, items, np.array(labels, dtype=np.int64), groups, categories)


def _without(references: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(reference for reference in references if reference != text)
