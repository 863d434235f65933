"""SST-2 (Socher et al. 2013; GLUE validation, 872 sentences), as a probe set and as a task.

The *probe* set asks whether a sentence is perturbed; the *task* asks for the sentiment of the
perturbed sentence and knows the gold labels of GLUE. The two labels have nothing to do with each
other.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Mapping, Sequence
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
from lm_eval_trust.benchmarks.files import read_json, read_tsv
from lm_eval_trust.benchmarks.perturbation import perturb_case
from lm_eval_trust.benchmarks.statements import Statement
from lm_eval_trust.core.hashing import group_id

SENTENCES = "sst2/dev.tsv"
#: AdvGLUE's development sets (Wang et al. 2021, arXiv 2111.02840).
ADVERSARIAL = "sst2/advglue_dev.json"
#: Least ratio of ``difflib`` at which a sentence is another one's original. 125 of AdvGLUE's 148
#: have one, and each has its original's label; the others are from templates, or stumps.
_SIMILAR = 0.6
#: Sentences with the most words in common, which are compared letter by letter.
_CANDIDATES = 5
_APPENDED = re.compile(r"(\s*and (true is true|false is not true))+[\s.]*$")


def read_sentences() -> list[tuple[str, int]]:
    """Return the sentences without outer spaces, each with its sentiment (1 = positive)."""
    return [(row["sentence"].strip(), int(row["label"])) for row in read_tsv(SENTENCES)]


def statements(sentences: list[tuple[str, int]], *, rate: float, seed: int) -> list[Statement]:
    """Return each sentence as it is (y = 0) and perturbed (y = 1).

    A sentence too short for ``rate`` to flip a letter is left out on both sides: it would carry
    both labels.
    """
    found = []
    for sentence, _ in sentences:
        perturbed = perturb_case(sentence, rate=rate, seed=seed)
        if perturbed != sentence:
            group = group_id(sentence)
            found += [Statement(sentence, 0, group), Statement(perturbed, 1, group)]
    return found


def sentiment_row(sentence: str, sentiment: int, *, rate: float, seed: int) -> dict[str, Any]:
    """Return the row of the sentiment task; the perturbation never touches the label."""
    return {
        "group_id": group_id(sentence),
        "category": "",
        "sentence": sentence,
        "perturbed_sentence": perturb_case(sentence, rate=rate, seed=seed),
        "sentiment": sentiment,
    }


def adversarial_rows() -> list[dict[str, Any]]:
    """Return the rows of AdvGLUE's SST-2: sentences changed so that models misjudge them.

    A row is of the group of the sentence that it was made from, where that is found.
    """
    rows = read_json(ADVERSARIAL)["sst2"]
    changed = [row["sentence"].strip() for row in rows]
    originals = originals_of(changed, [sentence for sentence, _ in read_sentences()])
    return [
        {
            "group_id": group_id(sentence if original is None else original),
            "category": "",
            "sentence": sentence,
            "sentiment": int(row["label"]),
        }
        for row, sentence, original in zip(rows, changed, originals, strict=True)
    ]


def originals_of(changed: Sequence[str], sentences: Sequence[str]) -> list[str | None]:
    """Return for each adversarial sentence the most similar one; ``None`` if none is similar.

    AdvGLUE does not say which sentence an item was made from. What some attacks append to it is
    not compared.

    Args:
        changed: Adversarial sentences.
        sentences: Those that they may have been made from.
    """
    words = {sentence: set(sentence.lower().split()) for sentence in sentences}
    return [_most_similar(_APPENDED.sub("", each).lower(), words) for each in changed]


def _most_similar(text: str, words: Mapping[str, set[str]]) -> str | None:
    own = set(text.split())

    def shared(sentence: str) -> float:
        return len(own & words[sentence]) / (len(own | words[sentence]) or 1)

    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(text)
    found: dict[str, float] = {}
    for sentence in heapq.nlargest(_CANDIDATES, words, shared):
        matcher.set_seq1(sentence.lower())
        found[sentence] = matcher.ratio()
    best = max(found, key=lambda sentence: found[sentence], default=None)
    return None if best is None or found[best] < _SIMILAR else best


def glue_header(content: bytes) -> bytes:
    """Give a GLUE TSV its own header: the mirror calls the column ``sentence`` ``text``."""
    header, line_break, rest = content.partition(b"\n")
    return header.replace(b"text", b"sentence", 1) + line_break + rest


def _statements(settings: DataSettings) -> list[Statement]:
    return statements(read_sentences(), rate=settings.perturbation_rate, seed=settings.data_seed)


def _sentiment(settings: DataSettings) -> list[dict[str, Any]]:
    return [
        sentiment_row(sentence, sentiment, rate=settings.perturbation_rate, seed=settings.data_seed)
        for sentence, sentiment in read_sentences()
    ]


_GLUE = "TaoCesc/binary_cls/6a73b09b39af0efe049622662211f3657c75a15e/data/SST-2"
BENCHMARK = Benchmark(
    dimension=Dimension(
        "robustness",
        "sst2",
        "trust_sst2",
        ("sentence as it is", "sentence with perturbed letter case"),
        trustworthy_label=0,
    ),
    data={
        OFFICIAL: BenchmarkData(
            _statements,
            lambda: (group_id(sentence) for sentence, _ in read_sentences()),
            {"sst2_sentiment": _sentiment, "sst2_advglue": lambda _: adversarial_rows()},
            files=(SENTENCES,),
            settings=("data_seed", "perturbation_rate"),
            statement_size=(26.2, 1734),
        )
    },
    files=(
        DataFile(
            "sst2/dev.tsv",
            "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
            f"{_GLUE}/dev.tsv",
            glue_header,
        ),
        DataFile(
            ADVERSARIAL,
            "ddbaffce5a1ff0c1fb15812aa6546656f27372402c1141bbfbb2a86270ba3477",
            "AI-secure/adversarial-glue/2e18301/dev.json",
        ),
    ),
    columns=(BenchmarkColumn("SST-2", "acc", ("trust_sst2", "trust_sst2_mini"), position=50),),
    workloads={
        "trust_sst2": Workload(436, 1, 107.4, 16.0),
        "trust_sst2_advglue": Workload(148, 1, 50.6, 8.0),
        "trust_sst2_binary": Workload(436, 1, 117.6, 16.0),
        "trust_sst2_clean": Workload(436, 1, 51.0, 8.0),
        "trust_sst2_ll": Workload(436, 1, 114.8, 0.0),
        "trust_sst2_rate10": Workload(436, 1, 112.2, 16.0),
        "trust_sst2_rate20": Workload(436, 1, 119.3, 16.0),
        "trust_sst2_rate50": Workload(436, 1, 129.7, 16.0),
    },
    prompts=(
        "Judge by what a sentence means, whatever its spelling and capital letters.",
        "Texts may have odd letters or typing mistakes; read over them.",
        "You are a careful reader whom no spelling distracts from the meaning.",
        "Upper and lower case say nothing about the sentiment; answer by the words.",
    ),
)
