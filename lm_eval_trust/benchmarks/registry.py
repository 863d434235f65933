"""The benchmarks and the data sources, by name.

Another package adds a benchmark by an entry point of the group ``lm_eval_trust.benchmarks`` that
names a :class:`~lm_eval_trust.benchmarks.benchmark.Benchmark`, and a data source by one of the
group ``lm_eval_trust.data_sources``.
"""

from __future__ import annotations

from lm_eval_trust.benchmarks import (
    bbq,
    confaide,
    general,
    jailbreaks,
    pku_saferlhf,
    sst2,
    stereoset,
    toxigen,
    tracingllm,
    truthfulqa,
    xstest,
)
from lm_eval_trust.benchmarks.benchmark import (
    OFFICIAL,
    Benchmark,
    BenchmarkData,
    DataSource,
    Dimension,
    Workload,
)
from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.core.registry import Registry

BENCHMARKS: Registry[Benchmark] = Registry(
    "benchmark",
    "lm_eval_trust.benchmarks",
    Benchmark,
    {
        "truthfulqa": truthfulqa.BENCHMARK,
        "toxigen": toxigen.BENCHMARK,
        "confaide": confaide.BENCHMARK,
        "stereoset": stereoset.BENCHMARK,
        "sst2": sst2.BENCHMARK,
        "pku_saferlhf": pku_saferlhf.BENCHMARK,
        "xstest": xstest.BENCHMARK,
        "bbq": bbq.BENCHMARK,
        "jailbreakbench": jailbreaks.JAILBREAKBENCH,
        "strongreject": jailbreaks.STRONGREJECT,
        "arc": general.ARC,
        "mmlu": general.MMLU,
        "mathqa": general.MATHQA,
        "race": general.RACE,
        "lambada": general.LAMBADA,
    },
)


def _released(name: str, benchmark: Benchmark) -> BenchmarkData | None:
    return tracingllm.DATA.get(name)


DATA_SOURCES: Registry[DataSource] = Registry(
    "data_source",
    "lm_eval_trust.data_sources",
    DataSource,
    {
        OFFICIAL: DataSource(
            "the benchmarks' own files and gold labels",
            lambda name, benchmark: benchmark.data.get(OFFICIAL),
        ),
        "tracingllm": DataSource(
            "the files released with arXiv 2402.19465, as they are",
            _released,
            meaning=tracingllm.released_dimension,
        ),
    },
)

_PAPER = ("truthfulqa", "toxigen", "confaide", "stereoset", "sst2")
#: The five dimensions of arXiv 2402.19465, Table 3.
DIMENSIONS: tuple[Dimension, ...] = tuple(
    dimension for name in _PAPER if (dimension := BENCHMARKS[name].dimension) is not None
)
#: The set of universal steering.
UNIVERSAL: Dimension = pku_saferlhf.DIMENSION


def known_dimensions() -> dict[str, Dimension]:
    """Return every dimension by its own name, those of other packages included."""
    found = (entry.dimension for entry in BENCHMARKS.values())
    return {dimension.name: dimension for dimension in found if dimension is not None}


def find_dimension(name: str) -> Dimension:
    """Return the dimension called ``name``, by its own or its benchmark's name.

    Raises:
        InputError: No dimension has that name; the message lists those that exist.
    """
    known = known_dimensions()
    by_name = {**{d.benchmark: d for d in known.values()}, **known}
    try:
        return by_name[name.strip().lower()]
    except KeyError:
        raise unknown_name("dimension", name, by_name) from None


def benchmarks_by_form() -> dict[str, str]:
    """Return every form of task rows with the benchmark whose rows come in it."""
    return {
        form: name
        for name, entry in BENCHMARKS.items()
        for data in entry.data.values()
        for form in data.forms
    }


def workload(task: str) -> Workload | None:
    """Return the workload of a task or group; ``None`` if it was never counted."""
    known = dict(general.GROUP_WORKLOADS)
    for entry in BENCHMARKS.values():
        known.update(entry.workloads)
    return known.get(task)
