"""Readers of the general-ability sets, in the columns that lm_eval's own tasks read.

They serve the local twins of the built-in tasks: ARC (Clark et al. 2018), MMLU (Hendrycks et al.
2021), MathQA (Amini et al. 2019), RACE (Lai et al. 2017) and LAMBADA (Paperno et al. 2016).
"""

from __future__ import annotations

from typing import Any

from lm_eval_trust.benchmarks.benchmark import Benchmark, BenchmarkColumn, DataFile, Workload
from lm_eval_trust.benchmarks.files import read_csv, read_json, read_jsonl
from lm_eval_trust.benchmarks.mmlu_checksums import ADDRESS, CHECKSUMS
from lm_eval_trust.core.errors import unknown_name

MMLU_SUBJECTS: tuple[str, ...] = tuple(CHECKSUMS)
MMLU_PARTS = ("dev", "test")


def arc_challenge() -> list[dict[str, Any]]:
    """Return ``id``, ``question``, ``choices`` {``text``, ``label``}, ``answerKey``; 1,172 rows."""
    return list(read_jsonl("arc/arc_challenge_test.jsonl"))


def mmlu(subject: str, part: str = "test") -> list[dict[str, Any]]:
    """Return ``question``, ``subject``, ``choices`` (4), ``answer`` (0 to 3) of one subject.

    Args:
        subject: One of :data:`MMLU_SUBJECTS`.
        part: ``test``, or ``dev`` for the five few-shot examples.

    Raises:
        InputError: Unknown subject or part.
    """
    if subject not in CHECKSUMS:
        raise unknown_name("MMLU subject", subject, CHECKSUMS)
    if part not in MMLU_PARTS:
        raise unknown_name("MMLU part", part, MMLU_PARTS)
    return [
        {
            "question": row["question"],
            "subject": subject,
            "choices": [row[f"choice{number}"] for number in range(4)],
            "answer": int(row["answer"]),
        }
        for row in read_csv(f"mmlu/{part}/{subject}_{part}.csv")
    ]


def mathqa() -> list[dict[str, Any]]:
    """Return ``Problem``, ``options`` (one string), ``correct`` (a to e), …; 2,985 rows."""
    rows: list[dict[str, Any]] = read_json("mathqa/test.json")
    return rows


def race_high() -> list[dict[str, Any]]:
    """Return ``article`` and ``problems``, 1,045 rows, one an article.

    ``problems`` is a list of ``question``, ``answer`` (a letter), ``options`` (4) written as one
    Python literal, as the set behind lm_eval's ``race`` has it.
    """
    return [
        {"article": row["article"], "problems": repr(_problems(row))}
        for row in read_jsonl("race/race_high_test.jsonl")
    ]


def _problems(row: dict[str, Any]) -> list[dict[str, Any]]:
    triples = zip(row["questions"], row["answers"], row["options"], strict=True)
    return [
        {"question": question, "answer": answer, "options": options}
        for question, answer, options in triples
    ]


def lambada() -> list[dict[str, Any]]:
    """Return ``text``, whose last word is to be predicted; 5,153 rows."""
    return list(read_jsonl("lambada/lambada_test.jsonl"))


def _mmlu_files() -> tuple[DataFile, ...]:
    return tuple(
        DataFile(f"mmlu/{part}/{name}", sha256, f"{ADDRESS}/{part}/{name}")
        for subject, checksums in CHECKSUMS.items()
        for part, sha256 in zip(("dev", "test"), checksums, strict=True)
        for name in (f"{subject}_{part}.csv",)
    )


ARC = Benchmark(
    files=(DataFile("arc/arc_challenge_test.jsonl", None, built_in="arc_challenge"),),
    columns=(
        BenchmarkColumn("ARC", "acc", ("arc_challenge", "trust_arc_challenge_local"), position=10),
    ),
    workloads={
        "trust_arc_challenge_local": Workload(1172, 1, 148.3, 0.0),
    },
)
MMLU = Benchmark(
    files=_mmlu_files(),
    columns=(BenchmarkColumn("MMLU", "acc", ("mmlu", "trust_mmlu_local"), position=11),),
    workloads={
        "trust_mmlu_local": Workload(2755, 18, 325.6, 0.0),
    },
)
MATHQA = Benchmark(
    files=(
        DataFile(
            "mathqa/test.json",
            "dfe7bc4691caf26842ccd4cf14e8f978327bab4f2989e0b076a4e6b38a9371d1",
            "shaigue/mathqa/175079e/data/MathQA/test.json",
        ),
    ),
    columns=(BenchmarkColumn("MathQA", "acc", ("mathqa", "trust_mathqa_local"), position=12),),
    workloads={
        "trust_mathqa_local": Workload(2985, 1, 274.9, 0.0),
    },
)
RACE = Benchmark(
    files=(DataFile("race/race_high_test.jsonl", None, built_in="race"),),
    columns=(BenchmarkColumn("RACE", "acc", ("race", "trust_race_local"), position=13),),
    workloads={
        "trust_race_local": Workload(1045, 1, 1862.9, 0.0),
    },
)
LAMBADA = Benchmark(
    files=(
        DataFile(
            "lambada/lambada_test.jsonl",
            "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
            "cybertronai/bflm/620fff7/lambada_test.jsonl",
        ),
    ),
    columns=(
        BenchmarkColumn(
            "PPL",
            "perplexity",
            ("lambada_openai", "trust_lambada_openai_local"),
            higher_is_better=False,
            reported=False,
            position=91,
        ),
    ),
    workloads={
        "trust_lambada_openai_local": Workload(5153, 1, 81.6, 0.0),
    },
)
#: Groups of tasks of several benchmarks.
GROUP_WORKLOADS: dict[str, Workload] = {
    "trust_general": Workload(24397, 61, 325.2, 0.0),
    "trust_general_local": Workload(13110, 22, 324.8, 0.0),
    "trust_safety": Workload(2845, 2, 98.0, 35.0),
    "trust_suite": Workload(7358, 5, 61.4, 35.6),
}
