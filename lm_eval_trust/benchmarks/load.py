"""The statements of a dimension, from the benchmark's own files or the paper's released ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.benchmarks import (
    confaide,
    pku_saferlhf,
    sst2,
    stereoset,
    toxigen,
    tracingllm,
    truthfulqa,
)
from lm_eval_trust.benchmarks.dimensions import Dimension, find_dimension
from lm_eval_trust.benchmarks.files import checksums
from lm_eval_trust.benchmarks.sampling import balanced as balance
from lm_eval_trust.benchmarks.sampling import consistent
from lm_eval_trust.benchmarks.settings import MINI, DataSettings
from lm_eval_trust.benchmarks.split_groups import universe
from lm_eval_trust.benchmarks.statements import Statement, Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini.benchmarks import BENCHMARKS, mini_statements
from lm_eval_trust.mini.world import world_seed


@dataclass(frozen=True)
class StatementSource:
    """How one set of statements is made.

    Attributes:
        build: Makes the statements.
        files: The catalogue's files that they come from.
        settings: Names of the settings that change them.
    """

    build: Callable[[DataSettings], list[Statement]]
    files: tuple[str, ...]
    settings: tuple[str, ...] = ()


def load_statements(
    dimension: str | Dimension,
    *,
    data_source: str = "official",
    data_seed: int = 0,
    perturbation_rate: float = 0.05,
    balanced: bool = True,
) -> Statements:
    """Return the statements of a dimension.

    Official sets are free of duplicates and of sentences that carry both labels, and balanced
    after the paper's Table 3: answers of each TruthfulQA question, one other candidate for each
    StereoSet stereotype, each SST-2 sentence as it is and perturbed, the rarer label elsewhere.
    Released sets (``tracingllm``) are as released, duplicates, balance and labels included; their
    ``dimension`` says what the labels really mean.

    Args:
        dimension: A dimension or its own or its benchmark's name; ``universal`` for PKU-SafeRLHF.
        data_source: ``official``, ``tracingllm``, or ``mini`` for the embedded world.
        data_seed: Seed of the choices.
        perturbation_rate: Share of letters whose case is flipped; robustness only.
        balanced: Cut official sets to as many statements of each label.

    Returns:
        The statements in the order of the files. ``settings`` hold the arguments that matter
        and the SHA-256 of each file, or the seed of the embedded world.

    Raises:
        InputError: Unknown dimension or source, a set that was not released, a bad rate, a file
            that fails its checksum, or nothing left.
        MissingDataError: A file is nowhere to be had.
    """
    found = find_dimension(dimension) if isinstance(dimension, str) else dimension
    settings = DataSettings(data_source, data_seed, perturbation_rate, balanced)
    source = find_source(found, data_source)
    items = tuple(source.build(settings))
    released = data_source == "tracingllm"
    return Statements(
        dimension=tracingllm.released_dimension(found) if released else found,
        data_source=data_source,
        items=items,
        settings=_record(source, settings),
        universe=universe(found.benchmark, (item.group for item in items), data_source=data_source),
    )


def find_source(dimension: Dimension, data_source: str) -> StatementSource:
    """Return how the statements of a dimension are made from a source.

    Raises:
        InputError: The release lacks them.
    """
    try:
        return SOURCES[data_source][dimension.benchmark]
    except KeyError:
        raise InputError(
            f"There are no {data_source} statements for {dimension.name}: the release's "
            f"pku-rlhf-10k.csv is not part of the known files. Use data_source=official."
        ) from None


def _record(source: StatementSource, settings: DataSettings) -> dict[str, Any]:
    chosen = {name: getattr(settings, name) for name in source.settings}
    if settings.data_source == MINI:
        return chosen | {"world": world_seed()}
    return chosen | {"files": checksums(source.files)}


def _truthfulqa(settings: DataSettings) -> list[Statement]:
    return truthfulqa.statements(
        truthfulqa.read_questions(), seed=settings.data_seed, balance=settings.balanced
    )


def _stereoset(settings: DataSettings) -> list[Statement]:
    items = stereoset.read_items()
    if settings.balanced:
        return stereoset.statements(stereoset.chosen_candidates(items, settings.data_seed))
    return stereoset.statements(stereoset.candidates(items))


def _sst2(settings: DataSettings) -> list[Statement]:
    return sst2.statements(
        sst2.read_sentences(), rate=settings.perturbation_rate, seed=settings.data_seed
    )


def _distinct(items: list[Statement], settings: DataSettings) -> list[Statement]:
    return balance(items, settings.data_seed) if settings.balanced else items


def _pku(settings: DataSettings) -> list[Statement]:
    return _distinct(pku_saferlhf.consistent_statements(), settings)


_OFFICIAL = {
    "truthfulqa": StatementSource(
        _truthfulqa, (truthfulqa.REFERENCES, truthfulqa.CHOICES), ("data_seed", "balanced")
    ),
    "toxigen": StatementSource(
        lambda s: _distinct(consistent(toxigen.statements(toxigen.read_sentences())), s),
        (toxigen.SENTENCES,),
        ("data_seed", "balanced"),
    ),
    "confaide": StatementSource(
        lambda s: _distinct(consistent(confaide.statements()), s),
        (confaide.STATEMENTS,),
        ("data_seed", "balanced"),
    ),
    "stereoset": StatementSource(_stereoset, (stereoset.ITEMS,), ("data_seed", "balanced")),
    "sst2": StatementSource(_sst2, (sst2.SENTENCES,), ("data_seed", "perturbation_rate")),
    "pku_saferlhf": StatementSource(_pku, (pku_saferlhf.PAIRS,), ("data_seed", "balanced")),
}

_TRACINGLLM = {
    "truthfulqa": StatementSource(
        lambda _: tracingllm.truthfulqa_statements(), (tracingllm.ANSWERS, truthfulqa.REFERENCES)
    ),
    "toxigen": StatementSource(
        lambda _: tracingllm.toxigen_statements(), (tracingllm.TOXIGEN, toxigen.SENTENCES)
    ),
    "confaide": StatementSource(lambda _: confaide.statements(), (confaide.STATEMENTS,)),
    "stereoset": StatementSource(
        lambda _: tracingllm.stereoset_statements(), (tracingllm.STEREOSET, stereoset.ITEMS)
    ),
    "sst2": StatementSource(lambda _: tracingllm.sst2_statements(), (tracingllm.SST2,)),
}


def _embedded(benchmark: str) -> StatementSource:
    settings = ("data_seed", "perturbation_rate") if benchmark == "sst2" else ("data_seed",)
    return StatementSource(lambda s: mini_statements(benchmark, s), (), settings)


SOURCES: dict[str, dict[str, StatementSource]] = {
    "official": _OFFICIAL,
    "tracingllm": _TRACINGLLM,
    MINI: {name: _embedded(name) for name in BENCHMARKS},
}
