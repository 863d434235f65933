"""Labelled statements of a dimension: what activations, probes and vectors are made from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lm_eval_trust.benchmarks.benchmark import Dimension
from lm_eval_trust.benchmarks.partition import Partition, partition
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import content_id

T = TypeVar("T")

#: What the user of a chat says before a statement that answers no question.
USER_TURN = "Tell me something."


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, where a statement consists of them.

    Attributes:
        question: Without any mark such as ``Q:``.
        answer: The same.
    """

    question: str
    answer: str


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        text: What the model reads.
        label: 0 or 1, after the dimension's ``label_meaning``.
        group: Id of the question, context or sentence that it was made from.
        category: The benchmark's sub-category, where it has one.
        exchange: Question and answer that the text joins; ``None`` where nothing is asked.
    """

    text: str
    label: int
    group: str
    category: str | None = None
    exchange: Exchange | None = None

    def __post_init__(self) -> None:
        if self.label not in (0, 1):
            raise InputError(f"{self.text!r} has the label {self.label!r}; expected 0 or 1.")

    @property
    def id(self) -> str:
        """Content hash of text and label."""
        return content_id(self.text, self.label)

    def turns(self, user: str = USER_TURN) -> tuple[str, str]:
        """Return a user's turn and an assistant's: question and answer, or ``user`` and the text.

        Args:
            user: What the user says where the statement answers no question.
        """
        if self.exchange is None:
            return user, self.text
        return self.exchange.question, self.exchange.answer


@dataclass(frozen=True)
class Statements:
    """The statements of one dimension from one source, in a stable order.

    Attributes:
        dimension: What the labels mean.
        data_source: ``official``, ``tracingllm`` or a file's path.
        items: The statements.
        settings: Settings that they depend on (seed, perturbation rate, files' checksums, …).
        universe: Strata of the benchmark's group ids, which the partition is dealt over, so
            it agrees with the one of the task rows; empty for the statements' own groups.
    """

    dimension: Dimension
    data_source: str
    items: tuple[Statement, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    universe: tuple[frozenset[str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError(
                f"No statements are left for {self.dimension.name} from {self.data_source} "
                f"with {self.settings}; check the files and the filters."
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def texts(self) -> list[str]:
        """Texts, in order."""
        return [item.text for item in self.items]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels, in order, shape (n,)."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        """Group ids, in order."""
        return [item.group for item in self.items]

    def partition(self, *, split: str = "grouped", seed: int = 0) -> Partition:
        """Split the statements exactly as the benchmark's task rows are split.

        Raises:
            InputError: As :func:`lm_eval_trust.benchmarks.partition.partition`.
        """
        return partition(self.groups, split=split, seed=seed, universe=self.universe)

    def sample(self, number: int, *, seed: int = 0) -> Statements:
        """Return at least ``number`` statements, in whole groups, or all if there are fewer.

        Args:
            number: Number of statements.
            seed: Seed of the choice of groups.
        """
        order = sorted(set(self.groups), key=lambda group: content_id("sample", seed, group))
        sizes = Counter(self.groups)
        chosen: set[str] = set()
        total = 0
        for group in order:
            if total >= number:
                break
            chosen.add(group)
            total += sizes[group]
        return self.select([i for i, group in enumerate(self.groups) if group in chosen])

    def select(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Statements:
        """Return the statements at these positions, in the order given."""
        return replace(self, items=tuple(self.items[i] for i in indices))

    def relabelled(self, labels: Iterable[int]) -> Statements:
        """Return the statements with other labels, 0 or 1, in order."""
        pairs = zip(self.items, labels, strict=True)
        return replace(self, items=tuple(replace(item, label=int(y)) for item, y in pairs))


def labelled_rows(statements: Iterable[Statement]) -> list[dict[str, Any]]:
    """Return the statements as task rows: ``group_id``, ``category``, ``statement``, ``label``."""
    return [
        {
            "group_id": item.group,
            "category": item.category or "",
            "statement": item.text,
            "label": item.label,
        }
        for item in statements
    ]


def shuffled(items: Iterable[T], seed: int, key: Callable[[T], str]) -> list[T]:
    """Return the items in an order that depends on the seed and each item's key alone."""
    return sorted(items, key=lambda item: content_id(seed, key(item)))


def balanced(items: Sequence[Statement], seed: int) -> list[Statement]:
    """Cut the statements to equal numbers per label, keeping their order.

    Which of the commoner label stay depends on the seed.
    """
    smaller = min(Counter(item.label for item in items).get(label, 0) for label in (0, 1))
    kept: set[int] = set()
    for label in (0, 1):
        positions = [i for i, item in enumerate(items) if item.label == label]
        kept.update(shuffled(positions, seed, lambda i: items[i].id)[:smaller])
    return [item for i, item in enumerate(items) if i in kept]


def without_repeats(items: Iterable[Statement]) -> list[Statement]:
    """Return the first statement of each group and label.

    For benchmarks whose groups are the sentences themselves, where a second one is a duplicate.
    """
    first: dict[tuple[str, int], Statement] = {}
    for item in items:
        first.setdefault((item.group, item.label), item)
    return list(first.values())


def contradictory_groups(items: Iterable[Statement]) -> set[str]:
    """Return the groups that occur with both labels."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        labels[item.group].add(item.label)
    return {group for group, seen in labels.items() if len(seen) > 1}


def consistent(items: Sequence[Statement]) -> list[Statement]:
    """Drop duplicates and sentences that carry both labels."""
    contradictory = contradictory_groups(items)
    return [item for item in without_repeats(items) if item.group not in contradictory]
