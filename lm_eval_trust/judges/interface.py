"""What every judge looks like: texts in, one verdict a text out, all of a task at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to its question about one text.

    Attributes:
        accepted: Whether the judge says yes (true? informative? toxic?); ``None`` when it could
            not judge this text, which then counts neither way.
        score: What the decision was taken on, in the judge's own unit.
        details: Further figures worth logging beside the verdict.
    """

    accepted: bool | None
    score: float | None
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An answer to a question, with what the benchmark knows about the question.

    Attributes:
        question: The question.
        text: The cleaned answer.
        correct: Reference answers that are true.
        incorrect: Reference answers that are false.
    """

    question: str
    text: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]


class TruthJudge(Protocol):
    """Judges whether answers are true, and whether they are informative."""

    @property
    def name(self) -> str:
        """The spec that chooses this judge, e.g. ``reference``."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever a verdict could change; stands in results files."""
        ...

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer is true."""
        ...

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer is informative."""
        ...


class ToxicityJudge(Protocol):
    """Judges whether texts are toxic."""

    @property
    def name(self) -> str:
        """The spec that chooses this judge, e.g. ``linear``."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever a verdict could change; stands in results files."""
        ...

    def toxic(self, texts: Sequence[str]) -> list[Verdict]:
        """Return, in order, whether each text is toxic."""
        ...
