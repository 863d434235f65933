"""The paper's released CSVs (ChnQ/TracingLLM), statements and labels exactly as they are.

What the labels mean is not always what the paper says (measured in
:mod:`~lm_eval_trust.benchmarks.released_file_errors`), so each set carries a dimension with the
*released* meaning and the side that is trustworthy under it. Groups are those of the official
files, so that splits and the leak guard work across sources.
"""

from __future__ import annotations

from dataclasses import replace

from lm_eval_trust.benchmarks import confaide, stereoset, toxigen
from lm_eval_trust.benchmarks.dimensions import Dimension
from lm_eval_trust.benchmarks.readers import read_csv
from lm_eval_trust.benchmarks.statements import Exchange, Statement
from lm_eval_trust.benchmarks.truthfulqa import read_questions
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
    categories = {question.group: question.category for question in read_questions()}
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


def confaide_statements() -> list[Statement]:
    """Return the privacy statements with their duplicates."""
    return confaide.statements()
