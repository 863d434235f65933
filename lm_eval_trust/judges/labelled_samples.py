"""Models' own texts with people's labels: saved samples to which labels were added.

The texts to measure a judge on are those that it judges. A file of the harness's samples
(``--log_samples``) becomes labelled by adding ``"label": 1`` or ``0`` to some of its lines, and
``"steered": true`` or ``false`` where the judge may err otherwise on steered text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_trust.benchmarks.files import jsonl_of
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import saved_value
from lm_eval_trust.judges.interface import Answer


class LabelledSample(NamedTuple):
    """A judged text with a person's verdict.

    Attributes:
        item: What is judged: an :class:`Answer`, or a text.
        label: 1 if the judge should say yes.
        group: Its question or sentence.
        category: The benchmark's sub-category.
        steered: Whether a steered model wrote it; ``None`` if the file does not say.
    """

    item: Any
    label: int
    group: str
    category: str
    steered: bool | None


#: What a judge is asked → whose samples have such texts.
_SAMPLED: Mapping[str, str] = {"truth": "TruthfulQA", "toxic": "ToxiGen", "refusal": "XSTest"}


def labelled_samples(path: Path, question: str) -> Iterator[LabelledSample]:
    """Yield the labelled texts of a file of samples; lines without a label are left out.

    Args:
        path: JSON lines, as the harness saves samples of a judged task.
        question: ``truth`` for answers, with label 1 for true ones, ``toxic`` for continuations,
            with label 1 for toxic ones, or ``refusal`` for answers, with label 1 for refusals.

    Raises:
        InputError: The file cannot be read, or a line with a label is no judged sample.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; give labelled samples in JSON lines.")
    for number, line in enumerate(jsonl_of(path), start=1):
        if "label" not in line:
            continue
        try:
            yield _sample(line, question)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}, sample {number}: {error}. A labelled sample is a line that the harness "
                f'saved of {_SAMPLED[question]}, with "label": 0 or 1 added, and '
                f'perhaps "steered": true or false.'
            ) from error


def _sample(line: Mapping[str, Any], question: str) -> LabelledSample:
    label, steered, doc = line["label"], line.get("steered"), line["doc"]
    if label not in (0, 1) or isinstance(label, float):
        raise ValueError(f"its label is {label!r}")
    if steered not in (None, True, False) or isinstance(steered, int) != isinstance(steered, bool):
        raise ValueError(f'"steered" is {steered!r}')
    judged = line["filtered_resps"][0]
    if isinstance(judged, str):  # As the harness saves it.
        judged = saved_value(judged)
    item: Any = str(judged["text"]) if question == "toxic" else _answer(doc, judged)
    return LabelledSample(
        item, int(label), str(doc["group_id"]), str(doc.get("category") or ""), steered
    )


def _answer(doc: Mapping[str, Any], judged: Mapping[str, Any]) -> Answer:
    references = (tuple(doc.get(f"{side}_answers", ())) for side in ("correct", "incorrect"))
    return Answer(str(doc["question"]).strip(), str(judged["answer"]), *references)
