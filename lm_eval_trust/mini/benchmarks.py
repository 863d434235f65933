"""The world in the shape of the benchmarks: statements and task rows under their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.benchmarks import sst2, stereoset
from lm_eval_trust.benchmarks.statements import balanced
from lm_eval_trust.benchmarks.settings import MINI, DataSettings
from lm_eval_trust.benchmarks.statements import Statement, labelled_rows
from lm_eval_trust.mini import fairness, privacy, reliability, robustness, toxicity, universal
from lm_eval_trust.mini.world import World, build_world, world_seed

Row = dict[str, Any]
Rows = Callable[[World, DataSettings], list[Row]]


@dataclass(frozen=True)
class MiniBenchmark:
    """One benchmark of the world.

    Attributes:
        statements: All labelled statements; balanced, since every set of the world is.
        forms: Form of :data:`~lm_eval_trust.benchmarks.registry.FORMS` → its rows, without
            ``item_id``.
    """

    statements: Callable[[World, DataSettings], list[Statement]]
    forms: dict[str, Rows]


def mini_statements(benchmark: str, settings: DataSettings) -> list[Statement]:
    """Return the statements of a benchmark in the current world."""
    return BENCHMARKS[benchmark].statements(build_world(world_seed()), settings)


def mini_rows(benchmark: str, form: str, settings: DataSettings) -> list[Row]:
    """Return the rows of a form in the current world, without ``item_id``."""
    return BENCHMARKS[benchmark].forms[form](build_world(world_seed()), settings)


def mini_groups(benchmark: str) -> frozenset[str]:
    """Return all group ids of a benchmark in the current world."""
    return groups_of(benchmark, build_world(world_seed()))


@functools.lru_cache(maxsize=64)
def groups_of(benchmark: str, world: World) -> frozenset[str]:
    """Return all group ids of a benchmark in a world."""
    found, settings = BENCHMARKS[benchmark], DataSettings(MINI)
    groups = {item.group for item in found.statements(world, settings)}
    for rows in found.forms.values():
        groups |= {str(row["group_id"]) for row in rows(world, settings)}
    return frozenset(groups)


def _toxicity(world: World, settings: DataSettings) -> list[Statement]:
    return balanced(toxicity.statements(world), settings.data_seed)


def _privacy(world: World, settings: DataSettings) -> list[Statement]:
    return balanced(privacy.statements(world), settings.data_seed)


def _candidates(world: World, settings: DataSettings) -> list[stereoset.Candidate]:
    return stereoset.chosen_candidates(fairness.items(world), settings.data_seed)


def _recognition(world: World, settings: DataSettings) -> list[Row]:
    return [stereoset.recognition_row(candidate) for candidate in _candidates(world, settings)]


def _perturbed(world: World, settings: DataSettings) -> list[Statement]:
    return sst2.statements(
        robustness.sentences(world), rate=settings.perturbation_rate, seed=settings.data_seed
    )


def _sentiment(world: World, settings: DataSettings) -> list[Row]:
    return [
        sst2.sentiment_row(
            sentence, sentiment, rate=settings.perturbation_rate, seed=settings.data_seed
        )
        for sentence, sentiment in robustness.sentences(world)
    ]


BENCHMARKS: dict[str, MiniBenchmark] = {
    "truthfulqa": MiniBenchmark(
        lambda world, _: reliability.statements(world),
        {
            "truthfulqa_generation": lambda world, _: reliability.generation_rows(world),
            "truthfulqa_mc": lambda world, _: reliability.choice_rows(world),
            "truthfulqa_classify": lambda world, _: labelled_rows(reliability.statements(world)),
        },
    ),
    "toxigen": MiniBenchmark(
        _toxicity, {"toxigen_generation": lambda world, _: toxicity.generation_rows(world)}
    ),
    "confaide": MiniBenchmark(
        _privacy,
        {
            "confaide_binary": lambda world, settings: labelled_rows(_privacy(world, settings)),
            "confaide_tier2": lambda world, _: privacy.agreement_rows(world),
        },
    ),
    "stereoset": MiniBenchmark(
        lambda world, settings: stereoset.statements(_candidates(world, settings)),
        {
            "stereoset_recognition": _recognition,
            "stereoset_icat": lambda world, settings: [
                stereoset.icat_row(item, settings.data_seed) for item in fairness.items(world)
            ],
        },
    ),
    "sst2": MiniBenchmark(_perturbed, {"sst2_sentiment": _sentiment}),
    "pku_saferlhf": MiniBenchmark(lambda world, _: universal.statements(world), {}),
}
