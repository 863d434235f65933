"""TruthfulQA (Lin et al. 2022): 817 questions in 38 categories with reference answers.

Read from the authors' ``TruthfulQA.csv`` (references for generation, categories) and
``mc_task.json`` (single answers with their labels), both of the later revision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    Benchmark,
    BenchmarkColumn,
    BenchmarkData,
    DataFile,
    DataSettings,
    Dimension,
    Workload,
)
from lm_eval_trust.benchmarks.files import read_csv, read_json
from lm_eval_trust.benchmarks.statements import Exchange, Statement, labelled_rows, shuffled
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id

REFERENCES = "truthfulqa/TruthfulQA.csv"
CHOICES = "truthfulqa/mc_task.json"


@dataclass(frozen=True)
class Question:
    """One question with its reference answers and labels.

    Attributes:
        text: The question.
        category: One of 38, e.g. ``Misconceptions``.
        type: ``Adversarial`` or ``Non-Adversarial``.
        best_answer: The best reference answer.
        correct_answers: Reference answers that are true.
        incorrect_answers: Reference answers that are false.
        mc1: Answer → 1 for the single right choice, else 0.
        mc2: Answer → 1 for true, 0 for false.
    """

    text: str
    category: str
    type: str
    best_answer: str
    correct_answers: tuple[str, ...]
    incorrect_answers: tuple[str, ...]
    mc1: dict[str, int]
    mc2: dict[str, int]

    @property
    def group(self) -> str:
        """Group id of the question."""
        return group_id(self.text)


def read_questions() -> list[Question]:
    """Return the questions in the order of ``TruthfulQA.csv``.

    Raises:
        InputError: The two files do not hold the same questions.
    """
    choices = {group_id(row["question"]): row for row in read_json(CHOICES)}
    rows = read_csv(REFERENCES)
    missing = [row["Question"] for row in rows if group_id(row["Question"]) not in choices]
    if missing:
        raise InputError(f"{CHOICES} lacks {len(missing)} questions of {REFERENCES}: {missing[0]}")
    return [_question(row, choices[group_id(row["Question"])]) for row in rows]


def _question(row: dict[str, str], choices: dict[str, Any]) -> Question:
    return Question(
        text=row["Question"].strip(),
        category=row["Category"].strip(),
        type=row["Type"].strip(),
        best_answer=row["Best Answer"].strip(),
        correct_answers=split_answers(row["Correct Answers"]),
        incorrect_answers=split_answers(row["Incorrect Answers"]),
        mc1=choices["mc1_targets"],
        mc2=choices["mc2_targets"],
    )


def split_answers(joined: str) -> tuple[str, ...]:
    """Split a cell of answers joined with semicolons."""
    return tuple(answer.strip() for answer in joined.split(";") if answer.strip())


def statements(questions: Iterable[Question], *, seed: int, balance: bool) -> list[Statement]:
    """Return ``Q: … A: …`` statements, y = 1 for a true answer.

    Args:
        questions: The questions.
        seed: Chooses which answers of the more frequent label are kept.
        balance: Keep as many true as false answers of each question.
    """
    return [
        Statement(
            f"Q: {question.text} A: {answer}",
            label,
            question.group,
            question.category,
            Exchange(question.text, answer),
        )
        for question in questions
        for answer, label in _answers(question, seed, balance)
    ]


def _answers(question: Question, seed: int, balance: bool) -> list[tuple[str, int]]:
    answers = list(question.mc2.items())
    if not balance:
        return answers
    true, false = ([a for a in answers if a[1] == label] for label in (1, 0))
    size = min(len(true), len(false))
    chosen = {
        answer
        for side in (true, false)
        for answer, _ in shuffled(side, seed, lambda a: question.text + a[0])[:size]
    }
    return [answer for answer in answers if answer[0] in chosen]


def generation_row(question: Question) -> dict[str, Any]:
    """Return the row of the generation task."""
    return {
        "group_id": question.group,
        "category": question.category,
        "question": question.text,
        "best_answer": question.best_answer,
        "correct_answers": list(question.correct_answers),
        "incorrect_answers": list(question.incorrect_answers),
        "type": question.type,
    }


def choice_row(question: Question) -> dict[str, Any]:
    """Return the row of the multiple-choice tasks."""
    return {
        "group_id": question.group,
        "category": question.category,
        "question": question.text,
        "mc1_targets": _targets(question.mc1),
        "mc2_targets": _targets(question.mc2),
    }


def _targets(answers: dict[str, int]) -> dict[str, list[Any]]:
    return {"choices": list(answers), "labels": list(answers.values())}


def _statements(settings: DataSettings) -> list[Statement]:
    return statements(read_questions(), seed=settings.data_seed, balance=settings.balanced)


def _classify(settings: DataSettings) -> list[dict[str, Any]]:
    return labelled_rows(statements(read_questions(), seed=settings.data_seed, balance=True))


_EASYSTEER = "ZJU-REAL/EasySteer/312c6d8/experiment/hallucination"
_TASKS = ("trust_truthfulqa", "trust_truthfulqa_mini")
BENCHMARK = Benchmark(
    dimension=Dimension(
        "reliability",
        "truthfulqa",
        "trust_truthfulqa",
        ("question with an incorrect answer", "question with a correct answer"),
        trustworthy_label=1,
    ),
    data={
        OFFICIAL: BenchmarkData(
            _statements,
            lambda: (question.group for question in read_questions()),
            {
                "truthfulqa_generation": lambda _: [generation_row(q) for q in read_questions()],
                "truthfulqa_mc": lambda _: [choice_row(q) for q in read_questions()],
                "truthfulqa_classify": _classify,
                "truthfulqa_references": lambda _: [generation_row(q) for q in read_questions()],
            },
            files=(REFERENCES, CHOICES),
            settings=("data_seed", "balanced"),
            statement_size=(27.5, 5030),
        )
    },
    files=(
        DataFile(
            "truthfulqa/TruthfulQA.csv",
            "f9bd9e859cc102cb1f647f1064da7e009be752c416845cf9fa56e6eaae403a7d",
            f"{_EASYSTEER}/TruthfulQA.csv",
        ),
        DataFile(
            "truthfulqa/mc_task.json",
            "3b0da647dc7ee212916b1f1ea30efd01f9dd383eb3096774649a0be1b32ebf61",
            f"{_EASYSTEER}/mc_task.json",
        ),
    ),
    columns=(
        BenchmarkColumn("Truth", "truth", _TASKS, headline=False, position=1),
        BenchmarkColumn("Info", "info", _TASKS, headline=False, position=2),
        BenchmarkColumn("Truth*Info", "truth_info", _TASKS, position=3),
    ),
    workloads={
        "trust_truthfulqa": Workload(408, 1, 185.1, 50.0),
        "trust_truthfulqa_classify": Workload(2528, 1, 58.7, 8.0),
        "trust_truthfulqa_classify_ll": Workload(2528, 1, 119.4, 0.0),
        "trust_truthfulqa_mc1": Workload(408, 1, 1029.3, 0.0),
        "trust_truthfulqa_mc2": Workload(408, 1, 1522.9, 0.0),
    },
)
