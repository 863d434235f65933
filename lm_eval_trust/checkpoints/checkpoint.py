"""One checkpoint of a training run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lm_eval_trust.core.errors import InputError, unknown_name


@dataclass(frozen=True)
class Checkpoint:
    """Where one state of a model in training is found, and how far it had come.

    Attributes:
        name: Its name in tables and files, e.g. ``ckpt_179`` or ``step1000``.
        step: Its place in the order of the family: training step, or running number.
        tokens: Tokens that the model had seen, where that is known.
        location: Hub name, local folder, or ``mini@NAME`` of the embedded family.
        revision: Revision on the Hub; ``None`` for what is on this disk already.
        stage: Stage of training that it belongs to, e.g. ``sft``; empty if there is one only.
    """

    name: str
    step: int
    tokens: int | None
    location: str
    revision: str | None
    stage: str = ""


#: What counts as a checkpoint's name in a folder: it ends in a number.
NUMBERED = r"(?:.*\D)?(?P<step>\d+)"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMBT]?)", re.IGNORECASE)


def parse_amount(text: str | int) -> int:
    """Return a number that may be written with ``K``, ``M``, ``B`` or ``T``, e.g. ``4.2B``.

    Raises:
        InputError: It is not such a number.
    """
    read = _AMOUNT.fullmatch(str(text).strip())
    if not read:
        raise InputError(f"{text!r} is no amount; expected a number, with K, M, B or T.")
    return round(float(read[1]) * _UNITS[read[2].upper()])


@dataclass(frozen=True)
class Naming:
    """How a family names its checkpoints.

    Attributes:
        pattern: Regular expression of a whole name, with a group ``step`` and, if the name contains
            them, a group ``tokens``: a number, with ``K``, ``M``, ``B`` or ``T`` for thousands to
            trillions.
        tokens_per_step: Tokens of a batch, for names without ``tokens``; unknown if ``None``.
    """

    pattern: str
    tokens_per_step: int | None = None

    def __post_init__(self) -> None:
        """Check the pattern.

        Raises:
            InputError: It is no regular expression, or has no group ``step``.
        """
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise InputError(
                f"The pattern {self.pattern!r} is no regular expression: {error}."
            ) from error
        if "step" not in groups:
            raise InputError(
                f"The pattern {self.pattern!r} has no group for the step; write it as "
                f"'step(?P<step>[0-9]+)'."
            )

    def checkpoints(
        self, names: Iterable[str], place: Callable[[str], tuple[str, str | None]]
    ) -> tuple[Checkpoint, ...]:
        """Return the checkpoints among the names, ascending by step.

        Args:
            names: Names of revisions or folders.
            place: Location and revision of a name.

        Raises:
            InputError: The group ``step`` or ``tokens`` of a name is not a number.
        """
        matches = ((name, re.fullmatch(self.pattern, name)) for name in dict.fromkeys(names))
        found = [
            Checkpoint(name, _number(match, name), self._tokens(match, name), *place(name))
            for name, match in matches
            if match
        ]
        return tuple(sorted(found, key=lambda checkpoint: (checkpoint.step, checkpoint.name)))

    def _tokens(self, match: re.Match[str], name: str) -> int | None:
        if amount := match.groupdict().get("tokens"):
            try:
                return parse_amount(amount)
            except InputError as error:
                raise InputError(
                    f"The group 'tokens' takes {amount!r} from {name!r}; expected a number, with "
                    f"K, M, B or T."
                ) from error
        per_step = self.tokens_per_step
        return None if per_step is None else per_step * _number(match, name)


def _number(match: re.Match[str], name: str) -> int:
    text = match["step"]
    if text is None or not text.isdecimal():
        raise InputError(f"The group 'step' takes {text!r} from {name!r}; expected a number.")
    return int(text)


_RULE = re.compile(r"(?:(?P<span>\S+)\s+)?(?P<how>every|log)\s+(?P<number>\d+)")


def chosen(checkpoints: Sequence[Checkpoint], which: str | Sequence[str]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that ``which`` names, each once, in the family's order.

    Args:
        checkpoints: All, ascending by step.
        which: ``all``; a name; a stage; ``ckpt_100..ckpt_200`` (both ends included), also of
            stages; ``every 10`` (the first, and every tenth from there); ``log 12`` (about twelve,
            evenly spaced in log(1 + step), the first and last included; fewer where two fall on
            one checkpoint; of one stage, by the steps of that stage); a range or stage followed by
            ``every`` or ``log``, e.g. ``ckpt_100..ckpt_200 every 10`` or ``pretraining log 6``;
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
    if thinned["how"] == "every":
        return span[::number]
    return _evenly_in_log_step(span, number, _step_before(checkpoints, span[0].stage, span[-1]))


def _step_before(checkpoints: Sequence[Checkpoint], stage: str, last: Checkpoint) -> int:
    """Return where a span's stage begins: after the last step before it, if it is one stage's."""
    if last.stage != stage:
        return 0
    first = next(i for i, checkpoint in enumerate(checkpoints) if checkpoint.stage == stage)
    return checkpoints[first - 1].step if first else 0


def _span(checkpoints: Sequence[Checkpoint], text: str) -> Sequence[Checkpoint]:
    if text == "all":
        return checkpoints
    first, dots, last = text.partition("..")
    begin, end = _places(checkpoints, first)
    if dots:
        end = _places(checkpoints, last)[1]
    if begin > end:
        raise InputError(f"The range {text!r} runs backwards; write it as {last}..{first}.")
    return checkpoints[begin : end + 1]


def _places(checkpoints: Sequence[Checkpoint], name: str) -> tuple[int, int]:
    """Return the first and last position of a checkpoint's name, or of a stage."""
    names = [checkpoint.name for checkpoint in checkpoints]
    if name in names:
        return names.index(name), names.index(name)
    of_stage = [i for i, checkpoint in enumerate(checkpoints) if name and checkpoint.stage == name]
    if not of_stage:
        stages = dict.fromkeys(c.stage for c in checkpoints if c.stage)
        raise unknown_name("checkpoint", name, [*names, *stages])
    return of_stage[0], of_stage[-1]


def _evenly_in_log_step(
    checkpoints: Sequence[Checkpoint], number: int, start: int
) -> Sequence[Checkpoint]:
    low, high = (math.log1p(checkpoints[end].step - start) for end in (0, -1))
    if number == 1:
        return checkpoints[-1:]
    targets = [low + (high - low) * i / (number - 1) for i in range(number)]
    return [min(checkpoints, key=lambda c: abs(math.log1p(c.step - start) - t)) for t in targets]
