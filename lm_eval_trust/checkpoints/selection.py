"""Which checkpoints of a family: all, some by name, a range, every n-th, or evenly in log step."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.core.errors import InputError, unknown_name

_RULE = re.compile(r"(?:(?P<span>\S+)\s+)?(?P<how>every|log)\s+(?P<number>\d+)")


def chosen(checkpoints: Sequence[Checkpoint], which: str | Sequence[str]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that ``which`` names, each once, in the family's order.

    Args:
        checkpoints: All, ascending by step.
        which: ``all``; a name; ``ckpt_100..ckpt_200`` (both ends included); ``every 10`` (the
            first, and every tenth from there); ``log 12`` (about twelve, evenly spaced in
            log(1 + step), the first and last included; fewer where two fall on one checkpoint);
            a range followed by ``every`` or ``log``, e.g. ``ckpt_100..ckpt_200 every 10``;
            several of these, as a list or with commas.

    Raises:
        InputError: There is no such checkpoint, or nothing is asked for.
    """
    rules = which.split(",") if isinstance(which, str) else which
    wanted = {c.name for rule in rules for c in _by_rule(checkpoints, rule.strip())}
    if not wanted:
        raise InputError(
            "No checkpoints are chosen; expected 'all', names, 'FIRST..LAST', 'every 10' or "
            "'log 12'."
        )
    return tuple(c for c in checkpoints if c.name in wanted)


def _by_rule(checkpoints: Sequence[Checkpoint], rule: str) -> Sequence[Checkpoint]:
    thinned = _RULE.fullmatch(rule)
    if not thinned:
        return _span(checkpoints, rule)
    span = _span(checkpoints, thinned["span"] or "all")
    number = int(thinned["number"])
    if number < 1:
        raise InputError(f"{rule!r} chooses nothing; expected a number from 1 on.")
    return span[::number] if thinned["how"] == "every" else _evenly_in_log_step(span, number)


def _span(checkpoints: Sequence[Checkpoint], text: str) -> Sequence[Checkpoint]:
    names = [checkpoint.name for checkpoint in checkpoints]
    if text in names:
        return [checkpoints[names.index(text)]]
    if text == "all":
        return checkpoints
    first, dots, last = text.partition("..")
    ends = [_position(names, end) for end in ((first, last) if dots else (text,))]
    if ends[0] > ends[-1]:
        raise InputError(f"The range {text!r} runs backwards; write it as {last}..{first}.")
    return checkpoints[ends[0] : ends[-1] + 1]


def _position(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise unknown_name("checkpoint", name, names)
    return names.index(name)


def _evenly_in_log_step(checkpoints: Sequence[Checkpoint], number: int) -> Sequence[Checkpoint]:
    low, high = (math.log1p(checkpoints[end].step) for end in (0, -1))
    if number == 1:
        return checkpoints[-1:]
    targets = [low + (high - low) * i / (number - 1) for i in range(number)]
    return [min(checkpoints, key=lambda c: abs(math.log1p(c.step) - t)) for t in targets]
