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


def compare_items(
    before: Sequence[Item],
    after: Sequence[Item],
    metric: str,
    *,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two models' values of a metric over the same items.

    See :func:`lm_eval_trust.analysis.comparison.compare`.

    Raises:
        InputError: The two hold different items, or one has no such value of some item.
    """
    if [(i["id"], i["group"]) for i in before] != [(i["id"], i["group"]) for i in after]:
        raise InputError("The two evaluations hold different items; evaluate both on the same.")
    missing = [item["id"] for item in (*before, *after) if metric not in item]
    if missing:
        raise InputError(f"Item {missing[0]} has no value of {metric}, so nothing can be compared.")
    return compare(
        [item[metric] for item in before],
        [item[metric] for item in after],
        [item["group"] for item in before],
        confidence=confidence,
    )


def group_of(document: object) -> str | None:
    """Return the group that a document is of; ``None`` if it is its own group."""
    given = document.get("group_id") if isinstance(document, Mapping) else None
    return None if given in (None, "") else str(given)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
