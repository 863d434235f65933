"""What a benchmark is: its dimension, its data from each source, and how it is shown.

A benchmark is one :class:`Benchmark`, which carries everything that the package asks about it.
Ours are in one module each; another package adds one by an entry point of the group
``lm_eval_trust.benchmarks`` (see :mod:`lm_eval_trust.benchmarks.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_trust.benchmarks.perturbation import check_rate

if TYPE_CHECKING:
    from lm_eval_trust.benchmarks.statements import Statement

Row = dict[str, Any]


@dataclass(frozen=True)
class Dimension:
    """What a dimension is called, what its labels mean, and which side is trustworthy.

    Attributes:
        name: The dimension's name, e.g. ``reliability``.
        benchmark: The benchmark that stands for it, e.g. ``truthfulqa``; also its data folder.
        task: The harness task of the paper's metric; ``None`` for the universal set.
        label_meaning: What y = 0 and y = 1 mean for a statement.
        trustworthy_label: The label of the side that a positive α moves towards.
    """

    name: str
    benchmark: str
    task: str | None
    label_meaning: tuple[str, str]
    trustworthy_label: int


@dataclass(frozen=True)
class DataFile:
    """One file of a benchmark.

    Attributes:
        path: Its place in the data folder, e.g. ``toxigen/toxiGen.json``.
        sha256: SHA-256 of its bytes (after ``convert``); ``None`` where users bring their own
            conversion, so no bytes can be demanded.
        address: ``owner/repository/commit/path`` on GitHub, or ``None``. Where a mirror is named,
            the benchmark's own repository holds the same file; the checksum decides.
        convert: Turns the downloaded bytes into the file's.
        fetch: Writes the file to a path, where it comes from elsewhere than GitHub.
        built_in: The harness's own task on the same data, where it has one.
        hub: The data set of the Hub that it is made from, where it comes from there.
    """

    path: str
    sha256: str | None
    address: str | None = None
    convert: Callable[[bytes], bytes] | None = None
    fetch: Callable[[Path], None] | None = None
    built_in: str | None = None
    hub: str | None = None

    @property
    def benchmark(self) -> str:
        """The folder that the file is in."""
        return self.path.split("/")[0]


@dataclass(frozen=True)
class BenchmarkData:
    """What one data source has of a benchmark.

    Attributes:
        statements: Makes the labelled statements; ``None`` if there are none.
        groups: Returns the ids of all groups, over which everything made from it is split; by
            default those of the official data.
        forms: Name of a form of task rows → makes all of its rows, without ``item_id`` and in a
            stable order. A row has ``group_id`` and ``category``.
        files: Paths of the files that the statements come from, for the record.
        settings: Names of the settings that change the statements.
        missing: Why a form or ``statements`` is not there, by name.
        statement_size: Mean tokens of a statement and number of statements, for estimates.
        dealt_by: The rows' field with the group that is dealt to a half as a whole, where that is
            more than the group of items that are resampled together.
        training: Whether the development half has a training part; without, all of it is for
            validation.
    """

    statements: Callable[[DataSettings], list[Statement]] | None
    groups: Callable[[], Iterable[str]] | None = None
    forms: Mapping[str, Callable[[DataSettings], list[Row]]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    statement_size: tuple[float, int] = (25.0, 2000)
    dealt_by: str = "group_id"
    training: bool = True


@dataclass(frozen=True)
class BenchmarkColumn:
    """A column of the leaderboard.

    Attributes:
        title: What it is called.
        metric: Which metric it shows.
        tasks: Tasks that fill it, the paper's own first.
        higher_is_better: Whether more is better; ``None`` where 0 is best.
        headline: Whether it stands for the benchmark in the trust score's columns.
        reported: Whether the paper's tables have it.
        position: Where it stands; columns are sorted by this.
        dimension: What it measures, such as ``safety``; by default the benchmark's dimension, or
            general ability where it has none.
    """

    title: str
    metric: str
    tasks: tuple[str, ...]
    higher_is_better: bool | None = True
    headline: bool = True
    reported: bool = True
    position: float = 1000.0
    dimension: str = ""


@dataclass(frozen=True)
class Workload:
    """What a task asks of a model, for estimates.

    Attributes:
        items: Items of the whole task or group.
        tasks: Tasks in the group, each of which a limit cuts.
        read: Tokens read for an item, all its requests together.
        written: Tokens written for an item, at most.
    """

    items: int
    tasks: int
    read: float
    written: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with everything the package needs to know about it.

    Attributes:
        dimension: What its labels mean; ``None`` for a set that has none, such as MMLU.
        data: Data source → what it has of the benchmark; sources of other packages keep their own.
        files: Its own files, for ``data fetch`` and checksums.
        columns: Its columns on the leaderboard; by default a task's first metric is shown.
        tasks: Name of a harness task → its YAML, for tasks that are not among ours.
        workloads: Task → what it asks of a model.
        prompts: Instructions that ask a model for what the benchmark measures: the control prompt
            that a steering is compared with, and rewordings of it.
    """

    dimension: Dimension | None = None
    data: Mapping[str, BenchmarkData] = field(default_factory=dict)
    files: tuple[DataFile, ...] = ()
    columns: tuple[BenchmarkColumn, ...] = ()
    tasks: Mapping[str, str] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSource:
    """Where statements and rows come from.

    Attributes:
        summary: One line for help pages.
        find: Benchmark's name and entry → what the source has of it, or ``None``.
        record: Returns what the source's data depend on besides files and settings.
        meaning: The dimension with the meaning that the source's labels have.
        own_groups: Whether its groups are its own; otherwise the official ones are split, and
            further ones form their own stratum.
        tasks_of_its_own: Whether it is evaluated by its own tasks only.
    """

    summary: str
    find: Callable[[str, Benchmark], BenchmarkData | None]
    record: Callable[[], dict[str, Any]] = dict
    meaning: Callable[[Dimension], Dimension] = lambda dimension: dimension
    own_groups: bool = False
    tasks_of_its_own: bool = False


OFFICIAL = "official"
#: The revision of TruthfulQA that is used unless another is asked for.
TRUTHFULQA_LATER = "later"


@dataclass(frozen=True)
class DataSettings:
    """Settings that statements and task rows are built with.

    Attributes:
        data_source: A name of :data:`lm_eval_trust.benchmarks.registry.DATA_SOURCES`.
        data_seed: Seed of every choice: balance, candidates, perturbed letters.
        perturbation_rate: Share of the letters whose case is flipped, 0 to 1.
        balanced: Whether statements are cut to as many of each label.
        truthfulqa_revision: Revision of TruthfulQA's questions that task rows are made of.
    """

    data_source: str = OFFICIAL
    data_seed: int = 0
    perturbation_rate: float = 0.05
    balanced: bool = True
    truthfulqa_revision: str = TRUTHFULQA_LATER

    def __post_init__(self) -> None:
        check_rate(self.perturbation_rate)
