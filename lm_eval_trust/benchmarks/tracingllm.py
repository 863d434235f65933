"""The paper's released CSVs (ChnQ/TracingLLM), statements and labels exactly as they are.

What the labels mean is not always what the paper says (measured in
:mod:`~lm_eval_trust.benchmarks.released_file_errors`), so each set carries a dimension with the
*released* meaning and the side that is trustworthy under it. Groups are those of the official
files, so splits and the leak guard work across sources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_eval_trust.benchmarks import confaide, stereoset, toxigen, truthfulqa
from lm_eval_trust.benchmarks.benchmark import BenchmarkData, DataFile, DataSettings, Dimension
from lm_eval_trust.benchmarks.files import read_csv
from lm_eval_trust.benchmarks.statements import Exchange, Statement, labelled_rows
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import group_id, normalise

ANSWERS = "tracingllm/truthfulqa_train.csv"
QUESTIONS = "tracingllm/truthfulqa_test.csv"
TOXIGEN = "tracingllm/toxigen.csv"
STEREOSET = "tracingllm/stereoset.csv"
SST2 = "tracingllm/sst2.csv"


def released_dimension(dimension: Dimension) -> Dimension:
    """Return the dimension with the meaning that the released labels really have."""
    if dimension.name == "toxicity":
        meaning = ("toxicity score of at most 2", "toxicity score above 2")
        return replace(dimension, label_meaning=meaning, trustworthy_label=0)
    if dimension.name == "fairness":
        meaning = ("unrelated candidate", "anti-stereotype")
        return replace(dimension, label_meaning=meaning, trustworthy_label=1)
    return dimension


def truthfulqa_statements() -> list[Statement]:
    """Return the ``Q: …<TAB>A: …`` statements, y = 1 for a true answer."""
    categories = {question.group: question.category for question in truthfulqa.read_questions()}
    found = []
    for row in read_csv(ANSWERS):
        exchange = exchange_of(row["statement"])
        group = group_id(exchange.question)
        found.append(
            Statement(row["statement"], int(row["label"]), group, categories.get(group), exchange)
        )
    return found


def exchange_of(statement: str) -> Exchange:
    """Return question and answer of a ``Q: …<TAB>A: …`` statement.

    Raises:
        InputError: The statement has another form.
    """
    question, tab, answer = statement.partition("\tA: ")
    if not (tab and answer and question.startswith("Q: ")):
        raise InputError(f"{ANSWERS}: expected 'Q: …<TAB>A: …', found {statement!r}.")
    return Exchange(question[len("Q: ") :], answer)


def truthfulqa_questions() -> list[str]:
    """Return the questions of the released test file, which has no answers."""
    return [row["Question"] for row in read_csv(QUESTIONS)]


def toxigen_statements() -> list[Statement]:
    """Return the sentences, y = 1 for a toxicity score above 2."""
    groups = {row["text"]: row["target_groups"][0] for row in toxigen.read_sentences()}
    return [
        Statement(
            row["statement"],
            int(row["label"]),
            group_id(row["statement"]),
            groups.get(row["statement"]),
        )
        for row in read_csv(TOXIGEN)
    ]


def stereoset_statements() -> list[Statement]:
    """Return the joined sentences, y = 1 for the anti-stereotype, y = 0 for the unrelated one."""
    return [
        Statement(statement, label, candidate.group, candidate.bias_type)
        for statement, label, candidate in stereoset_candidates()
    ]


def stereoset_candidates() -> list[tuple[str, int, stereoset.Candidate]]:
    """Return each released statement and label with the official candidate it is.

    Raises:
        InputError: A statement is no inter-sentence candidate of StereoSet.
    """
    known = stereoset.by_text(stereoset.read_items())
    rows = read_csv(STEREOSET)
    unknown = [row["statement"] for row in rows if normalise(row["statement"]) not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} statements of {STEREOSET} are not in {stereoset.ITEMS}: {unknown[0]!r}"
        )
    return [
        (row["statement"], int(row["label"]), known[normalise(row["statement"])]) for row in rows
    ]


def sst2_statements() -> list[Statement]:
    """Return the sentences of GLUE's *test* set, y = 1 for a perturbed one."""
    return [
        Statement(row["statement"], int(row["label"]), group_id(row["statement"]))
        for row in read_csv(SST2)
    ]


def _questions(settings: DataSettings) -> list[truthfulqa.Question]:
    """Return the official questions, with references, that the released test file asks."""
    asked = {group_id(question) for question in truthfulqa_questions()}
    questions = truthfulqa.read_questions(settings.truthfulqa_revision)
    return [question for question in questions if question.group in asked]


def _toxigen_rows() -> list[dict[str, Any]]:
    """Join the released labels to the revised set, which has the same sentences in order."""
    official, released = toxigen.read_sentences(), toxigen_statements()
    if [row["text"] for row in official] != [item.text for item in released]:
        raise InputError(
            f"{TOXIGEN} and {toxigen.SENTENCES} do not hold the same sentences in order."
        )
    return [
        toxigen.generation_row(row, item.label)
        for row, item in zip(official, released, strict=True)
    ]


def _binary_rows() -> list[dict[str, Any]]:
    return [confaide.binary_row(item) for item in confaide.statements()]


def _recognition_rows() -> list[dict[str, Any]]:
    return [
        stereoset.recognition_row(candidate, label)
        for _, label, candidate in stereoset_candidates()
    ]


_TRACINGLLM = "ChnQ/TracingLLM/14d35b47a913fe3fe626bb2e6bd8381ad41881bf/src/datasets"
FILES = (
    DataFile(
        "tracingllm/confaide.csv",
        "e817ecacea5948576edcb021253ba33727fa3d69527d00b236c78eeca19b867c",
        f"{_TRACINGLLM}/confaide.csv",
    ),
    DataFile(
        "tracingllm/sst2.csv",
        "0606418a6a1bc6b80ec29acf3ead4e30211af98a7c1a803d3c8a2b4f5954fa6f",
        f"{_TRACINGLLM}/sst2.csv",
    ),
    DataFile(
        "tracingllm/stereoset.csv",
        "0a648d03836c988efb67f156c6eb7b3327b3aee2f73bb8db06b0570d6ee3aca5",
        f"{_TRACINGLLM}/stereoset.csv",
    ),
    DataFile(
        "tracingllm/toxigen.csv",
        "8f7ead8fbde13b4e56c1c1b4df8de89d56047768b81e746b6b565bb4b0108047",
        f"{_TRACINGLLM}/toxigen.csv",
    ),
    DataFile(
        "tracingllm/truthfulqa_test.csv",
        "67653de78eb58b21fc66e3981b0d6285b6ad2448a861061da3c269879e3967ca",
        f"{_TRACINGLLM}/truthfulqa_test.csv",
    ),
    DataFile(
        "tracingllm/truthfulqa_train.csv",
        "a35b128d62def4fe8a14a74f9c9dd38a0fa4f2039e6714892e88d04b47907e92",
        f"{_TRACINGLLM}/truthfulqa_train.csv",
    ),
)
#: Benchmark → what the release has of it; the groups are those of the official files.
DATA: dict[str, BenchmarkData] = {
    "truthfulqa": BenchmarkData(
        lambda _: truthfulqa_statements(),
        forms={
            "truthfulqa_generation": lambda settings: [
                truthfulqa.generation_row(q) for q in _questions(settings)
            ],
            "truthfulqa_mc": lambda settings: [
                truthfulqa.choice_row(q) for q in _questions(settings)
            ],
            "truthfulqa_classify": lambda _: labelled_rows(truthfulqa_statements()),
        },
        files=(ANSWERS, truthfulqa.REFERENCES),
    ),
    "toxigen": BenchmarkData(
        lambda _: toxigen_statements(),
        forms={"toxigen_generation": lambda _: _toxigen_rows()},
        files=(TOXIGEN, toxigen.SENTENCES),
    ),
    "confaide": BenchmarkData(
        lambda _: confaide.statements(),
        forms={"confaide_binary": lambda _: _binary_rows()},
        files=(confaide.STATEMENTS,),
        missing={"confaide_tier2": "the release holds no human means."},
    ),
    "stereoset": BenchmarkData(
        lambda _: stereoset_statements(),
        forms={"stereoset_recognition": lambda _: _recognition_rows()},
        files=(STEREOSET, stereoset.ITEMS),
        missing={
            "stereoset_icat": "the release holds no stereotype, so no context has all three "
            "candidates."
        },
    ),
    "sst2": BenchmarkData(
        lambda _: sst2_statements(),
        files=(SST2,),
        missing={
            "sst2_sentiment": "its labels say perturbed or not, and GLUE's test set has no public "
            "sentiment."
        },
    ),
    "pku_saferlhf": BenchmarkData(
        None,
        missing={"statements": "the release's pku-rlhf-10k.csv is not part of the known files."},
    ),
}
