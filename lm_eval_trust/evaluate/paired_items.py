"""Items of an evaluation: what each one scored, and two models compared on the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lm_eval_trust.analysis.comparison import Comparison, compare
from lm_eval_trust.core.errors import InputError

#: ``id``, ``group``, and each numeric metric of one item.
Item = dict[str, Any]


def items_of(samples: Iterable[Mapping[str, Any]], *, filter_name: str | None = None) -> list[Item]:
    """Return a task's items in the order of their ids, from the harness's samples.

    Args:
        samples: In memory, or as saved by ``--log_samples``.
        filter_name: Name of the filter, for tasks with several.
    """
    chosen = [s for s in samples if filter_name is None or s.get("filter") == filter_name]
    ordered = sorted(chosen, key=lambda sample: int(sample["doc_id"]))
    return [
        {"id": int(sample["doc_id"]), "group": group_of(sample.get("doc")) or str(sample["doc_id"])}
        | {name: sample[name] for name in sample["metrics"] if _is_number(sample.get(name))}
        for sample in ordered
    ]


def values_of(items: Iterable[Item], metric: str) -> dict[int, float]:
    """Return each item's value of a metric by its id; items without one are left out."""
    return {item["id"]: float(item[metric]) for item in items if metric in item}


def common_items(
    before: Sequence[Item], after: Sequence[Item], metric: str
) -> tuple[list[Item], list[Item]]:
    """Return the items that have a value of a metric under both models, in the same order.

    Raises:
        InputError: The two hold different items.
    """
    if [(i["id"], i["group"]) for i in before] != [(i["id"], i["group"]) for i in after]:
        raise InputError("The two evaluations hold different items; evaluate both on the same.")
    both = [pair for pair in zip(before, after, strict=True) if all(metric in i for i in pair)]
    return [first for first, _ in both], [second for _, second in both]


def compare_items(
    before: Sequence[Item],
    after: Sequence[Item],
    metric: str,
    *,
    confidence: float = 0.95,
) -> Comparison | None:
    """Compare two models on the items that have a value of a metric under both.

    See :func:`lm_eval_trust.analysis.comparison.compare`.

    Returns:
        ``None`` if there is no such item.

    Raises:
        InputError: The two hold different items, or a value is not finite.
    """
    first, second = common_items(before, after, metric)
    if not first:
        return None
    return compare(
        [item[metric] for item in first],
        [item[metric] for item in second],
        [item["group"] for item in first],
        confidence=confidence,
    )


def group_of(document: object) -> str | None:
    """Return the group that a document is of; ``None`` if it is its own group."""
    given = document.get("group_id") if isinstance(document, Mapping) else None
    return None if given in (None, "") else str(given)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
