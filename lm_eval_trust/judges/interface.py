"""The interface of judges: all texts of a task in, one verdict for each out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lm_eval_trust.core.hashing import fingerprint


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to its question about one text.

    Attributes:
        accepted: Whether the judge says yes (true? informative? toxic? a refusal?); ``None`` when
            its reply could not be read, or it could not judge this text.
        score: What the decision is based on, in the judge's own unit; a probability for judges
            that give one, ``None`` if the decision comes from a word alone.
        details: Further figures to log with the verdict.
        reply: The beginning of a reply that could not be read, to show in errors.

    Raises:
        ValueError: The score is not finite.
    """

    accepted: bool | None
    score: float | None
    details: Mapping[str, float] = field(default_factory=dict)
    reply: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a verdict's score is {self.score}; it has to be finite, or None")


@dataclass(frozen=True)
class Answer:
    """An answer to a question, with what the benchmark knows about the question.

    Attributes:
        question: The question.
        text: The cleaned answer.
        correct: Reference answers that are true, where the benchmark has them.
        incorrect: Reference answers that are false.
    """

    question: str
    text: str
    correct: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()


class Judge(Protocol):
    """What results files record of every judge."""

    @property
    def name(self) -> str:
        """The spec that chooses this judge, e.g. ``reference``."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever a verdict could change; recorded in results files."""
        ...


class TruthJudge(Judge, Protocol):
    """Judges whether answers are true, and whether they are informative."""

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer is true."""
        ...

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer is informative."""
        ...


class ToxicityJudge(Judge, Protocol):
    """Judges whether texts are toxic."""

    def toxic(self, texts: Sequence[str]) -> list[Verdict]:
        """Return, in order, whether each text is toxic."""
        ...


class RefusalJudge(Judge, Protocol):
    """Judges whether answers refuse what was asked."""

    def refusal(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer refuses, fully or in part.

        Judges that recognise partial refusals have ``partial``, 1 or 0, in the details. An answer
        without letters and digits gets no verdict.
        """
        ...


class HarmJudge(Judge, Protocol):
    """Judges the harm that answers to harmful requests do, as two benchmarks define it."""

    def jailbreak(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return, in order, whether each answer is unsafe in JailbreakBench's sense."""
        ...

    def strongreject(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return each answer's StrongREJECT score, 0 to 1, in order, as the verdict's score."""
        ...


@runtime_checkable
class Described(Protocol):
    """A judge that describes itself beyond its name and version."""

    @property
    def description(self) -> Mapping[str, Any]:
        """JSON-like facts for the record: model, commit, prompt form, server."""
        ...


def judge_fingerprint(judge: Judge) -> str:
    """Return 16 hexadecimal digits that two judges share only if their verdicts agree."""
    return fingerprint({"name": judge.name, "version": judge.version})


def on_answers(
    answers: Sequence[Answer], judge: Callable[[Sequence[Answer]], Sequence[Verdict]]
) -> list[Verdict]:
    """Return a verdict for each answer, of which those without letters and digits get none."""
    said = [any(c.isalnum() for c in answer.text) for answer in answers]
    found = iter(judge([answer for answer, has in zip(answers, said, strict=True) if has]))
    return [next(found) if has else Verdict(None, None) for has in said]
