"""Which checkpoints a rule stands for."""

from __future__ import annotations

import pytest

from lm_eval_trust.checkpoints.families import Checkpoint, CheckpointFamily, FamilySettings
from lm_eval_trust.checkpoints.families import open_family as opened
from lm_eval_trust.core.errors import InputError

AMBER = opened(FamilySettings(name="amber"))
PYTHIA = opened(FamilySettings(name="pythia-70m"))


def steps(found: tuple[Checkpoint, ...]) -> list[int]:
    return [checkpoint.step for checkpoint in found]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("all", list(range(360))),
        ("ckpt_179", [179]),
        ("ckpt_358..ckpt_359", [358, 359]),
        ("every 100", [0, 100, 200, 300]),
        ("ckpt_100..ckpt_121 every 10", [100, 110, 120]),
        ("ckpt_200, ckpt_003,ckpt_200", [3, 200]),
        (["ckpt_200", "ckpt_000..ckpt_001", "every 200"], [0, 1, 200]),
        ("log 1", [359]),
        ("log 2", [0, 359]),
    ],
)
def test_rules(rule: str | list[str], expected: list[int]) -> None:
    assert steps(AMBER.choose(rule)) == expected


def test_powers_of_two_are_even_in_log_step() -> None:
    family = CheckpointFamily(
        "f", tuple(Checkpoint(f"s{n}", n, None, "a/b", "r") for n in range(128))
    )
    assert steps(family.choose("log 8")) == [2**i - 1 for i in range(8)]


def test_steps_in_log_are_about_as_many_as_asked_and_hold_both_ends() -> None:
    found = steps(PYTHIA.choose("log 12"))
    assert found[0] == 0 and found[-1] == 143_000
    assert 10 <= len(found) <= 12


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("ckpt_36O", "Unknown checkpoint.*ckpt_36"),
        ("ckpt_000..ckpt_999", "Unknown checkpoint 'ckpt_999'"),
        ("ckpt_200..ckpt_100", r"backwards; write it as ckpt_100\.\.ckpt_200"),
        ("every 0", "from 1 on"),
        ([], "No checkpoints are chosen"),
    ],
)
def test_rules_that_choose_nothing(rule: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AMBER.choose(rule)


def test_nearness_is_measured_in_log_step() -> None:
    """Of 4 and 15, 15 is nearer to 9 by its logarithm, and 4 by its distance."""
    family = CheckpointFamily(
        "f", tuple(Checkpoint(f"s{n}", n, None, "a/b", "r") for n in (0, 4, 15, 99))
    )
    assert steps(family.choose("log 3")) == [0, 15, 99]
