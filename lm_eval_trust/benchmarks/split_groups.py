"""The groups of a benchmark, over which everything made from it is split.

Statements may lack groups (balance leaves some out) and the released files hold some groups only;
splitting each set over its own groups would put a question on different sides. So all are split
over the official groups, and groups that only another file has form a stratum of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lm_eval_trust.benchmarks import confaide, pku_saferlhf, sst2, stereoset, toxigen, truthfulqa
from lm_eval_trust.benchmarks.settings import MINI
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.mini.benchmarks import mini_groups

_OFFICIAL_GROUPS: dict[str, Callable[[], Iterable[str]]] = {
    "truthfulqa": lambda: (question.group for question in truthfulqa.read_questions()),
    "toxigen": lambda: (group_id(row["text"]) for row in toxigen.read_sentences()),
    "confaide": lambda: (item.group for item in confaide.statements()),
    "stereoset": lambda: (group_id(item["context"]) for item in stereoset.read_items()),
    "sst2": lambda: (group_id(sentence) for sentence, _ in sst2.read_sentences()),
    "pku_saferlhf": lambda: (item.group for item in pku_saferlhf.statements()),
}


def universe(
    benchmark: str, groups: Iterable[str], *, data_source: str = "official"
) -> tuple[frozenset[str], ...]:
    """Return the strata to split ``groups`` over: the benchmark's own, then all others, if any.

    Args:
        benchmark: A benchmark's name, e.g. ``truthfulqa``.
        groups: Group ids of the items at hand.
        data_source: Where they come from; the embedded world has groups of its own.
    """
    if data_source == MINI:
        return (mini_groups(benchmark),)
    official = frozenset(_OFFICIAL_GROUPS[benchmark]())
    others = frozenset(groups) - official
    return (official, others) if others else (official,)
