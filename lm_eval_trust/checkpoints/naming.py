"""Steps and tokens, read from the names of revisions or folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.core.errors import InputError

#: What counts as a checkpoint's name in a folder: it ends in a number.
NUMBERED = r"(?:.*\D)?(?P<step>\d+)"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMBT]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Naming:
    """How a family names its checkpoints.

    Attributes:
        pattern: Regular expression of a whole name, with a group ``step`` and, where the name
            tells it, a group ``tokens``: a number, with ``K``, ``M``, ``B`` or ``T`` for
            thousands to trillions.
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
            InputError: The group ``step`` or ``tokens`` of a name is no number.
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
            read = _AMOUNT.fullmatch(amount)
            if not read:
                raise InputError(
                    f"The group 'tokens' takes {amount!r} from {name!r}; expected a number, with "
                    f"K, M, B or T."
                )
            return round(float(read[1]) * _UNITS[read[2].upper()])
        per_step = self.tokens_per_step
        return None if per_step is None else per_step * _number(match, name)


def _number(match: re.Match[str], name: str) -> int:
    text = match["step"]
    if text is None or not text.isdecimal():
        raise InputError(f"The group 'step' takes {text!r} from {name!r}; expected a number.")
    return int(text)
