"""Case perturbation: a share of a text's letters change case, and nothing else changes.

The perturbation of the robustness dimension (arXiv 2402.19465, section 2: letters of SST-2
sentences "at random in upper or lower case").
"""

from __future__ import annotations

import math

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import content_id


def has_two_cases(character: str) -> bool:
    """Tell whether the character is a letter whose other case is one character, and back again.

    ``ß`` (upper case ``SS``), ``µ`` (whose capital has another small letter) and digits have not.
    """
    other = character.swapcase()
    return (
        character.isalpha()
        and other != character
        and len(other) == 1
        and other.swapcase() == character
    )


def letters_to_flip(letters: int, rate: float) -> int:
    """Return how many of ``letters`` a rate means: rounded to the nearest, halves up."""
    return math.floor(rate * letters + 0.5)


def perturb_case(text: str, *, rate: float, seed: int) -> str:
    """Flip the case of exactly ``letters_to_flip(cased letters of text, rate)`` letters.

    Which letters depends on the seed and the text alone, so a sentence is perturbed alike in
    every process and in any order. A short text may come back unchanged (at 5 %, one of fewer
    than 10 letters).

    Args:
        text: Any text; characters without two cases stay as they are.
        rate: Share of the cased letters, 0 to 1.
        seed: Seed of the choice.

    Raises:
        InputError: The rate is not between 0 and 1.
    """
    check_rate(rate)
    positions = [i for i, character in enumerate(text) if has_two_cases(character)]
    order = sorted(positions, key=lambda position: content_id(seed, position, text))
    characters = list(text)
    for position in order[: letters_to_flip(len(positions), rate)]:
        characters[position] = characters[position].swapcase()
    return "".join(characters)


def check_rate(rate: float) -> None:
    """Refuse a perturbation rate outside 0 to 1.

    Raises:
        InputError: Also for NaN.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"perturbation_rate={rate} is not a share; give a number from 0 to 1.")


def count_flipped(original: str, perturbed: str) -> tuple[int, int]:
    """Return how many letters differ in case, and how many letters there are.

    Raises:
        InputError: The texts differ in more than the case of letters.
    """
    pairs = list(zip(original, perturbed, strict=False))
    flipped = sum(a != b for a, b in pairs)
    if len(original) != len(perturbed) or any(
        a != b and not (has_two_cases(a) and a.swapcase() == b) for a, b in pairs
    ):
        raise InputError(
            f"{original!r} and {perturbed!r} differ in more than letter case; expected one to be "
            f"the case perturbation of the other."
        )
    return flipped, sum(has_two_cases(a) for a in original)


def share_flipped(original: str, perturbed: str) -> float:
    """Return the share of the original's cased letters that changed case; 0.0 without letters.

    Raises:
        InputError: The texts differ in more than the case of letters.
    """
    flipped, letters = count_flipped(original, perturbed)
    return flipped / letters if letters else 0.0
