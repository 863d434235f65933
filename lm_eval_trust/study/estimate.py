"""What a study will take: cells, bytes to download, disk and time, before it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lm_eval_trust.benchmarks.benchmark import Workload
from lm_eval_trust.benchmarks.load import data_of
from lm_eval_trust.benchmarks.registry import find_dimension, workload
from lm_eval_trust.checkpoints.store import CheckpointStore, MissingCheckpointError
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import made_model
from lm_eval_trust.steering.methods import METHODS
from lm_eval_trust.study.cells import (
    ActivationCell,
    AnalysisCell,
    Cell,
    EvaluationCell,
    TransferCell,
    VectorCell,
)
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.human_units import format_bytes, format_seconds
from lm_eval_trust.study.models import StudyModel
from lm_eval_trust.study.scheduler import Job, plan_jobs, stages
from lm_eval_trust.study.status import mean_seconds

_HUB_THREADS = 8
#: Of a weight, where only a checkpoint's size is known.
_BYTES_A_WEIGHT = 2


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        study: Its name.
        cells: Kind → unfinished cells.
        finished: Finished cells.
        jobs: Jobs of the two stages.
        checkpoints: Checkpoints to download, each time that one is needed.
        download_bytes: Their size.
        named_bytes: Bytes of other models, which the Hub's cache keeps.
        missing: Checkpoints that the Hub does not have.
        disk_bytes: That checkpoints take at any moment, at most.
        bandwidth: Assumed, bytes per second.
        compute_seconds: Computing seconds of one worker.
        workers: Number of workers.
        measured: Whether times are means of finished cells, for at least some kinds.
    """

    study: str
    cells: Mapping[str, int]
    finished: int
    jobs: tuple[int, int]
    checkpoints: int
    download_bytes: int
    named_bytes: int
    missing: tuple[str, ...]
    disk_bytes: int
    bandwidth: int
    compute_seconds: float
    workers: int
    measured: bool

    @property
    def download_seconds(self) -> float:
        """At the assumed bandwidth, shared by all workers."""
        return (self.download_bytes + self.named_bytes) / self.bandwidth

    @property
    def wall_seconds(self) -> float:
        """Downloads and computing overlap."""
        return max(self.download_seconds, self.compute_seconds / self.workers)


def estimate(study: Study, folder: StudyFolder) -> Estimate:
    """Return what is left to do for a study; downloads nothing, asks the Hub for sizes.

    Raises:
        InputError: A checkpoint is larger than a worker's share of the disk budget.
        ExternalError: The Hub cannot be reached.
    """
    spec = study.spec
    workers = spec.engine.workers or 1
    cells = study.grid().cells
    left = [cell for cell in cells if folder.record(cell) is None]
    jobs = [plan_jobs(stage, workers) for stage in stages(left)]
    every = [job for stage in jobs for job in stage]
    streamed = [job.model for job in every if job.needs_model and job.model.streamed]
    sizes, missing = _sizes({*streamed, *_named(every)}, folder)
    measured = mean_seconds(study, folder)
    return Estimate(
        study=spec.study,
        cells=Counter(cell.kind for cell in left),
        finished=len(cells) - len(left),
        jobs=(len(jobs[0]), len(jobs[1])),
        checkpoints=sum(sizes.get(model.spec, 0) > 0 for model in streamed),
        download_bytes=sum(sizes.get(model.spec, 0) for model in streamed),
        named_bytes=sum(sizes.get(model.spec, 0) for model in _named(every)),
        missing=tuple(sorted(missing)),
        disk_bytes=_disk(study, [sizes.get(model.spec, 0) for model in streamed], workers),
        bandwidth=spec.assume.bandwidth,
        compute_seconds=sum(_seconds(study, cell, measured, sizes) for cell in left),
        workers=workers,
        measured=bool(measured),
    )


def describe(found: Estimate) -> str:
    """Return an estimate as lines."""
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in found.cells.items()) or "none"
    number = sum(found.cells.values())
    basis = "means of finished cells" if found.measured else "assumed speed"
    workers = f"{found.workers} worker{'s' if found.workers > 1 else ''}"
    computing = format_seconds(found.compute_seconds / found.workers)
    lines = [
        f"study     {found.study}",
        f"cells     {number:,} to compute, {found.finished:,} finished: {kinds}",
        f"jobs      {found.jobs[0]:,}, then {found.jobs[1]:,} that need their results",
        f"download  {format_bytes(found.download_bytes)} in {found.checkpoints:,} checkpoints",
        f"named     {format_bytes(found.named_bytes)} of other models, into the Hub's cache",
        f"disk      at most {format_bytes(found.disk_bytes)} of checkpoints at a time",
        f"time      {format_seconds(found.wall_seconds)} with {workers}: downloads "
        f"{format_seconds(found.download_seconds)}, computing {computing} ({basis})",
    ]
    if found.missing:
        lines.append(f"missing   {', '.join(found.missing)}: the Hub lacks them; to be skipped")
    return "\n".join(lines)


def _named(jobs: Iterable[Job]) -> list[StudyModel]:
    """Return models that are no checkpoints of the family, experts included, each once."""
    found: dict[str, StudyModel] = {}
    for job in jobs:
        for cell in job.cells:
            models = [cell.model] if cell.needs_model else []
            if isinstance(cell, EvaluationCell) and cell.proxy is not None:
                models += [cell.proxy.expert, cell.proxy.antiexpert]
            found |= {model.spec: model for model in models}
    return [model for model in found.values() if not model.streamed]


def _sizes(models: Iterable[StudyModel], folder: StudyFolder) -> tuple[dict[str, int], list[str]]:
    """Return bytes to download of each model, and the names of those that are missing."""
    sizes: dict[str, int] = {}
    missing: list[str] = []
    with CheckpointStore(folder.path / "checkpoints") as store:

        def ask(model: StudyModel) -> tuple[StudyModel, int | None]:
            checkpoint = model.checkpoint()
            if checkpoint.revision is None and not _is_local(model):
                checkpoint = replace(checkpoint, revision="main")
            try:
                return model, store.size(checkpoint)
            except MissingCheckpointError:
                return model, None

        with ThreadPoolExecutor(_HUB_THREADS) as threads:
            for model, size in threads.map(ask, models):
                if size is None:
                    missing.append(model.name)
                else:
                    sizes[model.spec] = size
    return sizes, missing


def _is_local(model: StudyModel) -> bool:
    return made_model(model.location) is not None or Path(model.location).is_dir()


def _disk(study: Study, sizes: Sequence[int], workers: int) -> int:
    """Return the most that checkpoints take: two a worker, or what the budget allows."""
    budget, largest = study.spec.budget, max(sizes, default=0)
    with study.at("budget", "disk"):
        if budget.disk is not None and largest > budget.disk // workers:
            raise InputError(
                f"the largest checkpoint takes {format_bytes(largest)}, but each of {workers} "
                f"workers may use {format_bytes(budget.disk // workers)} of "
                f"{format_bytes(budget.disk)}."
            )
    if budget.disk is None and budget.checkpoints is None:
        return sum(sizes)
    held = min(2 * workers, len(sizes))
    if budget.checkpoints is not None:
        held = min(held, max(workers, budget.checkpoints))
    most = sum(sorted(sizes)[len(sizes) - held :])
    return most if budget.disk is None else min(most, budget.disk)


def _seconds(
    study: Study, cell: Cell, measured: Mapping[str, float], sizes: Mapping[str, int]
) -> float:
    if cell.kind in measured:
        return measured[cell.kind]
    assume = study.spec.assume
    size = sizes.get(cell.model.spec) or _size_here(Path(cell.model.location))
    parameters = assume.parameters or size / _BYTES_A_WEIGHT
    read, written = tokens_of(cell)
    tokens = read + assume.writing * written
    return 2 * parameters * tokens / assume.flops + analysis_seconds(cell)


def _size_here(folder: Path) -> int:
    """Return the bytes of the weights in a local folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


#: Of a task that nobody has counted.
UNKNOWN = Workload(1000, 1, 200.0, 16.0)
#: Seconds of probes and dependence with its null, one layer of 2,000 statements at width 4,096 on
#: two cores (docs/analysis.md).
ANALYSIS_SECONDS = 3.5
#: Likewise of fitting a probe, and of applying it to another set, which is mostly reading it.
PROBE_SECONDS, APPLY_SECONDS = 1.0, 0.2
#: Passes that a token of training takes, forwards and back.
_TRAINING = 3
#: Blocks of a model whose layers are not told.
USUAL_BLOCKS = 32


def tokens_of(cell: Cell) -> tuple[float, float]:
    """Return tokens that a cell makes a model read and write."""
    if isinstance(cell, ActivationCell):
        benchmark = find_dimension(cell.dimension).benchmark
        length, known = data_of(benchmark, cell.statements.source).statement_size
        return length * min(known, cell.statements.number or known), 0.0
    if isinstance(cell, VectorCell):
        benchmark = find_dimension(cell.activations.dimension).benchmark
        length, _ = data_of(benchmark, cell.activations.statements.source).statement_size
        layers = cell.activations.layers
        trained = len(layers) if layers is not None else USUAL_BLOCKS
        return _TRAINING * METHODS[cell.method].reads * trained * length, 0.0
    if isinstance(cell, EvaluationCell):
        load = workload(cell.task) or UNKNOWN
        items = min(load.items, cell.limit * load.tasks) if cell.limit else load.items
        models = 3 if cell.proxy is not None else 1
        return models * items * load.read, models * items * load.written
    return 0.0, 0.0


def analysis_seconds(cell: Cell) -> float:
    """Return what an analysis or a transfer takes; 0 for any other cell."""
    if isinstance(cell, TransferCell):
        layers, seconds = cell.layers, PROBE_SECONDS + APPLY_SECONDS * len(cell.targets)
    elif isinstance(cell, AnalysisCell):
        layers, seconds = cell.settings.layers, ANALYSIS_SECONDS
    else:
        return 0.0
    return seconds * (len(layers) if layers is not None else USUAL_BLOCKS)
