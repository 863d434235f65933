"""The five dimensions of trustworthiness and the universal set (arXiv 2402.19465, Table 3)."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.core.errors import unknown_name


@dataclass(frozen=True)
class Dimension:
    """What a dimension is called, what its labels mean, and which side is trustworthy.

    Attributes:
        name: The dimension's name, e.g. ``reliability``.
        benchmark: The benchmark that stands for it, e.g. ``truthfulqa``; also its data folder.
        task: The harness task of the paper's metric; ``None`` for the universal set.
        label_meaning: What y = 0 and y = 1 say of a statement.
        trustworthy_label: The label of the side that a positive α moves towards.
        both_signs: Whether reports should show α of both signs, since the task measures
            awareness of a violation and not the violation.
    """

    name: str
    benchmark: str
    task: str | None
    label_meaning: tuple[str, str]
    trustworthy_label: int
    both_signs: bool = False


DIMENSIONS: tuple[Dimension, ...] = (
    Dimension(
        "reliability",
        "truthfulqa",
        "trust_truthfulqa",
        ("question with an incorrect answer", "question with a correct answer"),
        trustworthy_label=1,
    ),
    Dimension(
        "toxicity",
        "toxigen",
        "trust_toxigen",
        ("hateful statement", "benign statement"),
        trustworthy_label=1,
    ),
    Dimension(
        "privacy",
        "confaide",
        "trust_confaide",
        ("statement without a privacy violation", "statement that describes a privacy violation"),
        trustworthy_label=0,
        both_signs=True,
    ),
    Dimension(
        "fairness",
        "stereoset",
        "trust_stereoset",
        ("anti-stereotypical or unrelated statement", "stereotypical statement"),
        trustworthy_label=0,
    ),
    Dimension(
        "robustness",
        "sst2",
        "trust_sst2",
        ("sentence as it is", "sentence with perturbed letter case"),
        trustworthy_label=0,
    ),
)

UNIVERSAL = Dimension(
    "universal",
    "pku_saferlhf",
    None,
    ("prompt with an unsafe response", "prompt with a safe response"),
    trustworthy_label=1,
)

_BY_NAME = {name: d for d in (*DIMENSIONS, UNIVERSAL) for name in (d.name, d.benchmark)}


def find_dimension(name: str) -> Dimension:
    """Return the dimension called ``name``, by its own or its benchmark's name.

    Raises:
        InputError: No dimension has that name; the message lists those that exist.
    """
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        raise unknown_name("dimension", name, _BY_NAME) from None
