"""Settings of the tasks' rows, as ``--metadata`` gives them, checked without any data."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from lm_eval_trust.benchmarks.benchmark import OFFICIAL, TRUTHFULQA_LATER
from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.judges.registry import CHOICES
from lm_eval_trust.judges.settings import PREFIX, JudgeSettings

#: Key of the most tokens of a generated answer; by default the task's own number.
ANSWER_TOKENS = "answer_tokens"


@dataclass(frozen=True)
class RowSettings:
    """Everything that decides which rows a task has, as :func:`load_rows` takes it.

    Attributes:
        form: Form of the rows, e.g. ``truthfulqa_generation``.
        data_source: ``official`` or ``tracingllm``; ``mini`` only where the task fixes it.
        split: ``grouped`` or ``random`` for the test half, ``full`` for all rows.
        split_seed: Seed of the partition.
        part: ``test``, or ``validation`` for choosing what is then reported on the test half.
        data_seed: Seed of what is drawn while making rows (candidates, perturbed letters).
        perturbation_rate: Share of letters whose case is flipped, 0 to 1.
        truthfulqa_revision: ``later``, or ``v1`` for that of the harness's own tasks.
    """

    form: str
    data_source: str = "official"
    split: str = "grouped"
    split_seed: int = 0
    part: str = "test"
    data_seed: int = 0
    perturbation_rate: float = 0.05
    truthfulqa_revision: str = TRUTHFULQA_LATER

    def __post_init__(self) -> None:
        for name in ("data_source", "split", "part", "truthfulqa_revision"):
            _check_text(name, getattr(self, name))
        for name in ("split_seed", "data_seed"):
            _check_seed(name, getattr(self, name))
        _check_rate(self.perturbation_rate)

    @classmethod
    def from_task(cls, of_task: Mapping[str, Any], metadata: Mapping[str, Any]) -> RowSettings:
        """Combine what the task fixes with what the user asked for.

        Args:
            of_task: The task's ``dataset_kwargs``; what it names cannot be changed from outside.
            metadata: The task's metadata, into which the harness has merged ``--metadata``.

        Raises:
            InputError: A value is not allowed, or the user asked for a key that there is not.
        """
        _refuse_unknown_keys(metadata)
        names = [field.name for field in fields(cls)]
        source = metadata.get("data_source", OFFICIAL)
        known = isinstance(source, str) and source in DATA_SOURCES
        if "data_source" not in of_task and known and DATA_SOURCES[source].tasks_of_its_own:
            raise InputError(
                f"data_source={source} is {DATA_SOURCES[source].summary}, which has tasks of its "
                f"own: run trust_suite_{source} instead."
            )
        asked = {**metadata, **of_task}
        return cls(**{name: asked[name] for name in names if name in asked})

    def load_arguments(self) -> dict[str, Any]:
        """Return the settings other than ``form``, as arguments of ``load_rows``."""
        return {name: value for name, value in asdict(self).items() if name != "form"}


def metadata_keys() -> tuple[str, ...]:
    """Return the keys of ``--metadata`` that our tasks know, without the judges' settings."""
    of_rows = (field.name for field in fields(RowSettings) if field.name != "form")
    return (*of_rows, ANSWER_TOKENS, *CHOICES)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise unless tasks could take these settings, as far as that is known without their data.

    Args:
        metadata: What the user asks of our tasks, and nothing else.

    Raises:
        InputError: An unknown key, or a value that is not allowed.
    """
    for key in metadata:
        # Judges name the unknown ones of their own settings, keys and tokens among them.
        if key not in metadata_keys() and not key.startswith(PREFIX):
            raise unknown_name("key of the tasks' metadata", key, metadata_keys())
    rows = {field.name for field in fields(RowSettings)}
    RowSettings(form="", **{name: value for name, value in metadata.items() if name in rows})
    answer_tokens(metadata)
    JudgeSettings.from_sources(metadata)


def answer_tokens(metadata: Mapping[str, Any]) -> int | None:
    """Return the most tokens of a generated answer that are asked for, if any.

    Raises:
        InputError: It is no whole number of at least 1.
    """
    value = metadata.get(ANSWER_TOKENS)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{ANSWER_TOKENS} is {value!r}, but a whole number of at least 1 is needed; give it as "
            f"--metadata {ANSWER_TOKENS}=64."
        )
    return value


def _refuse_unknown_keys(metadata: Mapping[str, Any]) -> None:
    """Raise for a key that the user can only have meant for our tasks, and that they do not know.

    The harness mixes ``--metadata`` with the model's arguments and the task's own metadata, so
    those are refused that stand on the command line, or look like one of ours.
    """
    known = metadata_keys()
    rows = [*(field.name for field in fields(RowSettings)), ANSWER_TOKENS]
    asked = _metadata_on_command_line()
    for key in metadata:
        unknown = key not in known and not key.startswith((PREFIX, *CHOICES))
        if unknown and (key in asked or difflib.get_close_matches(key, rows, n=1, cutoff=0.85)):
            raise unknown_name("key of the tasks' metadata", key, known)


def _metadata_on_command_line() -> set[str]:
    """Return the keys after the harness's ``--metadata``."""
    found: set[str] = set()
    taking = False
    for word in sys.argv[1:]:
        option, _, value = word.partition("=")
        if word.startswith("-"):
            taking = option == "--metadata"
            word = value
        if taking and word.startswith("{"):
            with suppress(ValueError):
                found |= set(json.loads(word))
        elif taking:
            found |= {pair.partition("=")[0] for pair in word.split(",") if "=" in pair}
    return found


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InputError(
            f"{name} is {value!r}, but a name is needed; give it as --metadata {name}=NAME."
        )


def _check_seed(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(
            f"{name} is {value!r}, but a whole number of at least 0 is needed; "
            f"give it as --metadata {name}=1."
        )


def _check_rate(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(
            f"perturbation_rate is {value!r}, but a share from 0 to 1 is needed; "
            f"give it as --metadata perturbation_rate=0.1."
        )
