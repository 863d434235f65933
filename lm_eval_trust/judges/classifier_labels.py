"""Which of a classifier's labels is the toxic one?"""

from __future__ import annotations

from collections.abc import Mapping

from lm_eval_trust.core.errors import InputError

#: Names that classifiers of toxicity and hate give to it, in folded case.
TOXIC_NAMES = ("toxic", "toxicity", "hate", "hateful", "hate speech", "hatespeech", "offensive")
#: A two-label classifier without names: 1 is toxic, as in ``tomh/toxigen_roberta``.
_UNNAMED = {0: "label_0", 1: "label_1"}


def toxic_label(labels: Mapping[int, str], asked: str = "") -> int:
    """Return the number of the toxic label.

    Args:
        labels: Number → name, as in the model's configuration.
        asked: A name or number that decides it; empty to go by the names.

    Raises:
        InputError: ``asked`` is no label, or the names do not tell.
    """
    folded = {number: name.casefold().replace("_", " ") for number, name in labels.items()}
    if asked:
        wanted = asked.casefold().replace("_", " ")
        found = [n for n, name in folded.items() if wanted in (name, str(n))]
    elif {n: name.casefold() for n, name in labels.items()} == _UNNAMED:
        found = [1]
    else:
        found = [n for n, name in folded.items() if name in TOXIC_NAMES]
        if len(labels) == 1:
            found = list(labels)
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{number} {name}" for number, name in sorted(labels.items()))
    what = f"{asked!r} names {len(found)} of them" if asked else f"{len(found)} read so"
    raise InputError(
        f"Which label is the toxic one? This classifier has {shown}; {what}. Say it with "
        f"judge_toxic_label=NAME or its number."
    )
