"""Effects item by item, from two measurements of the same task."""

from __future__ import annotations

from lm_eval_trust.analysis.effects import Effects, effects_of
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.measurement import Measurement, Value

#: Aggregations of log-likelihoods: their metric falls when the values rise.
_OF_LOGARITHMS = ("perplexity", "weighted_perplexity", "bits_per_byte")


def item_effects(
    before: Measurement, after: Measurement, metric: str, *, confidence: float = 0.95
) -> list[Effects]:
    """Return how the items of a metric moved: all of them first, then each category, by name.

    Items without a value of the metric under either model are left out. Texts with a log-likelihood
    have that of a word (byte, token) as their value.

    Args:
        before: The first model's.
        after: The second's, on the same items.
        metric: Full name of the metric.
        confidence: Confidence of the intervals.

    Raises:
        InputError: No item has a value of the metric from both.
    """
    known = {i: _number(v) for i, v in zip(before.ids, before.values[metric], strict=True)}
    rows = []
    for at, identity in enumerate(after.ids):
        first, second = known.get(identity), _number(after.values[metric][at])
        if first is not None and second is not None:
            categories = after.categories[at] if after.categories else []
            rows.append((first, second, after.groups[at], categories))
    if not rows:
        raise InputError(f"No item of {after.task} has a value of {metric} from both models.")
    higher = (
        after.aggregations[metric] in _OF_LOGARITHMS
        or after.higher_is_better.get(metric) is not False
    )
    found = []
    names = sorted({category for *_, categories in rows for category in categories})
    for category in ["", *(names if len(names) > 1 else [])]:
        chosen = [row for row in rows if not category or category in row[3]]
        first_values, second_values, groups, _ = zip(*chosen, strict=True)
        found.append(
            effects_of(
                first_values,
                second_values,
                groups,
                higher_is_better=higher,
                category=category,
                confidence=confidence,
            )
        )
    return found


def _number(value: Value) -> float | None:
    """Return an item's value as one number, ``None`` if there is none."""
    if isinstance(value, list):
        value = value[0] / value[1] if value[1] else None
    return value if value is not None and value == value else None
