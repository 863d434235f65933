"""Which rows a task evaluates: its YAML's ``dataset_kwargs`` over ``--metadata`` over defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lm_eval_trust.benchmarks.benchmark import OFFICIAL
from lm_eval_trust.benchmarks.registry import DATA_SOURCES
from lm_eval_trust.core.errors import InputError


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
    """

    form: str
    data_source: str = "official"
    split: str = "grouped"
    split_seed: int = 0
    part: str = "test"
    data_seed: int = 0
    perturbation_rate: float = 0.05

    def __post_init__(self) -> None:
        for name in ("data_source", "split", "part"):
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
            InputError: A value is not allowed.
        """
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
        """Return the settings beside ``form``, as ``load_rows`` takes them."""
        return {name: value for name, value in asdict(self).items() if name != "form"}


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
