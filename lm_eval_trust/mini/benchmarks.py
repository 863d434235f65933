"""The world in the shape of the benchmarks: statements and task rows under their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.benchmarks import sst2, stereoset
from lm_eval_trust.benchmarks.benchmark import BenchmarkData, DataSettings
from lm_eval_trust.benchmarks.statements import Statement, balanced, labelled_rows
from lm_eval_trust.mini import (
    fairness,
    privacy,
    reliability,
    robustness,
    safety,
    toxicity,
    universal,
)
from lm_eval_trust.mini.world import World, build_world, world_seed

#: Name of the world as a data source.
MINI = "mini"
Row = dict[str, Any]
Rows = Callable[[World, DataSettings], list[Row]]


@dataclass(frozen=True)
class MiniBenchmark:
    """One benchmark of the world; every set of statements is balanced, whatever ``balanced`` says.

    Attributes:
        statements: All labelled statements; ``None`` where nothing is trained on the benchmark.
        forms: Form → its rows, without ``item_id``.
        size: Mean tokens of a statement and number of statements.
        settings: Names of the settings that change the statements.
    """

    statements: Callable[[World, DataSettings], list[Statement]] | None
    forms: dict[str, Rows]
    size: tuple[float, int] = (0.0, 0)
    settings: tuple[str, ...] = ("data_seed",)


def mini_data(benchmark: str) -> BenchmarkData | None:
    """Return the current world's data for a benchmark, or ``None``."""
    found = BENCHMARKS.get(benchmark)
    if found is None:
        return None

    def now(make: Callable[[World, DataSettings], Any]) -> Callable[[DataSettings], Any]:
        return lambda chosen: make(build_world(world_seed()), chosen)

    return BenchmarkData(
        now(found.statements) if found.statements else None,
        lambda: groups_of(benchmark, build_world(world_seed())),
        {form: now(rows) for form, rows in found.forms.items()},
        settings=found.settings,
        statement_size=found.size,
    )


@functools.lru_cache(maxsize=64)
def groups_of(benchmark: str, world: World) -> frozenset[str]:
    """Return all group ids of a benchmark in a world."""
    found, settings = BENCHMARKS[benchmark], DataSettings(MINI)
    items = found.statements(world, settings) if found.statements else []
    groups = {item.group for item in items}
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
            "truthfulqa_references": lambda world, _: reliability.reference_rows(world),
        },
        (14.4, 300),
    ),
    "toxigen": MiniBenchmark(
        _toxicity,
        {"toxigen_generation": lambda world, _: toxicity.generation_rows(world)},
        (8.8, 288),
    ),
    "confaide": MiniBenchmark(
        _privacy,
        {
            "confaide_binary": lambda world, settings: labelled_rows(_privacy(world, settings)),
            "confaide_tier2": lambda world, _: privacy.agreement_rows(world),
        },
        (12.2, 432),
    ),
    "stereoset": MiniBenchmark(
        lambda world, settings: stereoset.statements(_candidates(world, settings)),
        {
            "stereoset_recognition": _recognition,
            "stereoset_icat": lambda world, settings: [
                stereoset.icat_row(item, settings.data_seed) for item in fairness.items(world)
            ],
        },
        (9.0, 270),
    ),
    "sst2": MiniBenchmark(
        _perturbed, {"sst2_sentiment": _sentiment}, (11.9, 800), ("data_seed", "perturbation_rate")
    ),
    "pku_saferlhf": MiniBenchmark(lambda world, _: universal.statements(world), {}, (20.4, 672)),
    "xstest": MiniBenchmark(
        None,
        {
            "xstest_prompts": lambda world, _: safety.prompt_rows(world),
            "xstest_completions": lambda world, _: safety.completion_rows(world),
        },
    ),
    "bbq": MiniBenchmark(None, {"bbq_questions": lambda world, _: safety.guild_rows(world)}),
}
