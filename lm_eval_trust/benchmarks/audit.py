"""Counts, duplicates, contradictions and split leakage of a set of statements."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.partition import SPLITS, Partition
from lm_eval_trust.benchmarks.statements import Statements


@dataclass(frozen=True)
class SplitAudit:
    """How one split divides a set.

    Attributes:
        train: Statements in the training part.
        validation: Statements in the validation part.
        test: Statements in the test half.
        straddling_groups: Groups with statements in both the development and the test half.
        straddling_items: Test statements that belong to such a group.
    """

    train: int
    validation: int
    test: int
    straddling_groups: int
    straddling_items: int


@dataclass(frozen=True)
class AuditReport:
    """The findings on one set.

    Attributes:
        dimension: The dimension's name.
        data_source: ``official`` or ``tracingllm``.
        statements: Number of statements.
        labels: Number of statements with y = 0 and with y = 1.
        label_meaning: What y = 0 and y = 1 say.
        trustworthy_label: The label of the trustworthy side.
        groups: Number of questions, contexts or sentences.
        categories: Number of sub-categories; 0 where the benchmark has none.
        repeats: Statements whose exact text and label came before.
        contradictory_texts: Texts that carry both labels.
        splits: Split name → how it divides the set.
    """

    dimension: str
    data_source: str
    statements: int
    labels: tuple[int, int]
    label_meaning: tuple[str, str]
    trustworthy_label: int
    groups: int
    categories: int
    repeats: int
    contradictory_texts: int
    splits: dict[str, SplitAudit]


def audit(
    dimension: str,
    data_source: str = "official",
    *,
    split_seed: int = 0,
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
) -> AuditReport:
    """Audit the statements that :func:`lm_eval_trust.benchmarks.load.load_statements` returns.

    Raises:
        InputError: Unknown dimension or source, or a set that was not released.
        MissingDataError: A file is not available.
    """
    return audit_statements(
        load_statements(
            dimension,
            data_source=data_source,
            data_seed=data_seed,
            perturbation_rate=perturbation_rate,
        ),
        split_seed=split_seed,
    )


def audit_statements(statements: Statements, *, split_seed: int = 0) -> AuditReport:
    """Audit any statements, a user's own included."""
    items = statements.items
    ones = int(statements.labels.sum())
    labels_of: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        labels_of[item.text].add(item.label)
    return AuditReport(
        dimension=statements.dimension.name,
        data_source=statements.data_source,
        statements=len(items),
        labels=(len(items) - ones, ones),
        label_meaning=statements.dimension.label_meaning,
        trustworthy_label=statements.dimension.trustworthy_label,
        groups=len(set(statements.groups)),
        categories=len({item.category for item in items if item.category}),
        repeats=len(items) - len({item.id for item in items}),
        contradictory_texts=sum(len(labels) > 1 for labels in labels_of.values()),
        splits={
            split: _audit_split(statements, statements.partition(split=split, seed=split_seed))
            for split in SPLITS
        },
    )


def _audit_split(statements: Statements, parts: Partition) -> SplitAudit:
    groups = statements.groups
    test = [groups[i] for i in parts.test]
    straddling = {groups[i] for i in parts.development} & set(test)
    return SplitAudit(
        train=len(parts.train),
        validation=len(parts.validation),
        test=len(test),
        straddling_groups=len(straddling),
        straddling_items=sum(group in straddling for group in test),
    )
