"""The chain: checkpoints → activations → probes → vectors → the suite → perplexity against α."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.figures import (
    correlation_scatter,
    probe_matrix_heatmap,
    save_figure,
    strength_curves,
)
from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.benchmarks.registry import DIMENSIONS, find_dimension
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.saved_runs import find_runs
from lm_eval_trust.core.storage import folder_lock, read_kept, require_empty, write_kept
from lm_eval_trust.demo.cells import (
    CORRELATED,
    PERPLEXITY_LIMIT,
    STRENGTHS,
    SWEPT,
    SWEPT_ALPHAS,
    TEXT,
    TUNED,
    Cell,
    CellEvaluator,
    VectorPlan,
    classification_cell,
    late_checkpoints,
    proxy_checkpoints,
    steered_cell,
    sweep_cell,
    table_vectors,
    text_cell,
    transfer_cell,
    tuned_cell,
    unsteered_cells,
    unsteered_text_cell,
)
from lm_eval_trust.demo.report import (
    checkpoint_summary,
    classification_bars,
    classification_row,
    correlation_summary,
    metric,
    phase_summary,
    suite_radar,
    suite_row,
    write_csv,
)
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.paired_items import compare_items
from lm_eval_trust.leaderboard.build import BoardSettings, build_boards
from lm_eval_trust.leaderboard.page import write_page
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.mini.family import MiniFamily
from lm_eval_trust.mini.world import BASE, CHAT, MIDDLE_LAYER, SAFE
from lm_eval_trust.models.sources import find_source, load_source
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.study.activation_sets import CheckpointInfo, collect
from lm_eval_trust.study.analyse import Analysis, analyse
from lm_eval_trust.study.correlations import correlation_rows, matrix_rows
from lm_eval_trust.study.measure import AnalysisSettings
from lm_eval_trust.training.conversations import trustworthy_conversations
from lm_eval_trust.training.finetune import Finetuning
from lm_eval_trust.training.finetune_config import preset_config

#: Marks the folder of a demo.
_MARK = "demo.json"
Table = Sequence[Mapping[str, Any]]
#: Title of a table over checkpoints → the estimator that it shows.
_SUMMARIES = {
    "Probe accuracy of the middle blocks, test half": "probe_accuracy",
    "I(T,X), nHSIC of the middle blocks with the first": "nhsic_tx",
    "I(T,Y), nHSIC of the middle blocks with the label": "nhsic_ty",
}
PAGE_TITLE = "Trustworthiness of the MiniAmber family"
#: Statements of each set that dependence is measured on, so that a laptop takes a minute.
_SAMPLES = 300
SETTINGS = AnalysisSettings(
    probes=ProbeSettings(controls=5), information=InformationSettings(), samples=_SAMPLES
)


@contextmanager
def demo_folder(folder: Path) -> Iterator[None]:
    """Hold a demo's folder for one process.

    Raises:
        InputError: It holds other things, or another demo is at work there.
        ExternalError: The operating system refused to write.
    """
    mark = folder / _MARK
    if read_kept(mark) is None:
        require_empty(folder, "a demo's")
    with folder_lock(folder, f"Another demo is at work in {folder}; choose another folder."):
        write_kept(mark, {"format": 1})
        yield


class Demo:
    """The whole chain in one folder; what is there already is not done again.

    Args:
        family: The models.
        middle: The checkpoint that vectors come from, as a model's name.
        folder: Where everything goes: ``vectors/``, ``evaluations/`` and CSV tables.
    """

    def __init__(self, family: MiniFamily, middle: str, folder: Path) -> None:
        self._family, self._middle, self._folder = family, middle, folder
        self._vectors = folder / "vectors"
        self._vectors.mkdir(parents=True, exist_ok=True)
        self._analysis: Analysis
        self._titles: dict[str, str] = {}
        self._evaluator = CellEvaluator(folder / "evaluations", folder / "harness.log")

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Run the whole chain; yield the title and the rows of each table when it is done."""
        self.train()
        analysis = self.analyse()
        for title, estimator in _SUMMARIES.items():
            yield title, checkpoint_summary(analysis.table, estimator)
        if not analysis.phases.empty:
            title = "Phases: slopes before and after the turn of I(T,X), per e-fold of steps"
            yield title, phase_summary(analysis.phases)
        yield (
            f"trust_suite_mini and trust_general_mini; steered at block {MIDDLE_LAYER}, the "
            f"largest α with at most {PERPLEXITY_LIMIT:g} times the perplexity",
            self.compare(),
        )
        yield (
            "Strength of steering: change against α = 0 with its 95 % interval, and perplexity",
            self.sweep(),
        )
        yield (
            "Probe accuracy of checkpoints against the trust score of mini-chat steered by them, "
            "α = 1, without the trends of both, and less the other dimensions' probes",
            self.correlate(),
        )
        yield (
            "Is a statement true? Checkpoints as they are, and proxy-tuned by mini-chat less mini",
            self.proxy(),
        )

    def train(self) -> None:
        """Train the family, where it is not there."""
        self._family.checkpoint()
        self._family.safe()

    def analyse(self) -> Analysis:
        """Probe every checkpoint and measure its mutual information, with tables and figures."""
        out = self._folder / "analysis"
        self._analysis = _analyse_checkpoints(self._family, self._folder / "activations", out)
        return self._analysis

    def correlate(self) -> Table:
        """Correlate probes of checkpoints with Chat steered by their vectors (paper, Figure 5).

        The probes of the other dimensions are controls: a benchmark that follows them as well
        follows the training.
        """
        points = [point for name in CORRELATED for point in self._steered_by_checkpoints(name)]
        write_csv(self._folder / "correlation-points.csv", points)
        rows = correlation_rows(pd.DataFrame(points), ["dimension"])
        scores = {
            name: [p["score"] for p in points if p["dimension"] == name] for name in CORRELATED
        }
        accuracies = {dimension.name: self._late_probes(dimension.name) for dimension in DIMENSIONS}
        probes = {name: list(series.values()) for name, series in accuracies.items()}
        steps = [self._family.checkpoints[name] for name in self._late]
        matrix = matrix_rows(steps, probes, scores)
        own = {row["probe"]: row for row in matrix if row["probe"] == row["benchmark"]}
        for row in rows:
            control = own.get(row["dimension"], {})
            row |= {name: control.get(name, math.nan) for name in ("contrast", "tetrad_p")}
        write_csv(self._folder / "correlation.csv", rows)
        figure = correlation_scatter(points, x="probe", y="score")
        save_figure(figure, self._folder / "figures", "correlation")
        if matrix:
            write_csv(self._folder / "correlation-matrix.csv", matrix)
            figure = probe_matrix_heatmap(matrix)
            save_figure(figure, self._folder / "figures", "correlation-matrix")
        return correlation_summary(rows)

    @property
    def _late(self) -> list[str]:
        return late_checkpoints(self._family.checkpoints)

    def _late_probes(self, name: str) -> dict[str, float]:
        """Return a dimension's probe accuracy at each evenly spaced checkpoint."""
        table = self._analysis.table
        accuracy = table[
            (table["estimator"] == "probe_accuracy")
            & (table["dimension"] == name)
            & (table["layer"] == MIDDLE_LAYER)
        ].set_index("checkpoint")["value"]
        return {checkpoint: float(accuracy[checkpoint]) for checkpoint in self._late}

    def _steered_by_checkpoints(self, name: str) -> Table:
        """Return probe accuracy and steered trust score for each evenly spaced checkpoint."""
        dimension, accuracies = find_dimension(name), self._late_probes(name)
        points = []
        steps = progress_bar(
            accuracies.items(), f"Steering by checkpoints, {name}", unit="checkpoint"
        )
        for checkpoint, probe in steps:
            vector = VectorPlan(dimension, f"{BASE}@{checkpoint}")
            self._build(vector)
            scores = self._evaluator.run(transfer_cell(vector, self._vectors)).scores
            score = metric(scores, f"{dimension.task}_mini", "trust_score")
            described = {"checkpoint": checkpoint, "step": self._family.checkpoints[checkpoint]}
            points.append({"dimension": name, **described, "probe": probe, "score": score})
        return points

    def compare(self) -> Table:
        """Evaluate the models as they are, and Chat steered as strongly as its text allows."""
        cells = progress_bar(unsteered_cells().items(), "Evaluating models", unit="model")
        table = [self._table_row(title, 0.0, cell) for title, cell in cells]
        for vector in progress_bar(
            table_vectors(self._middle), "Evaluating steered models", unit="model"
        ):
            self._build(vector)
            alpha = self._strength(vector)
            source = vector.source.removeprefix(f"{BASE}@")
            title = f"{CHAT} + v({vector.dimension.name}, {source})"
            table.append(self._table_row(title, alpha, steered_cell(vector, alpha, self._vectors)))
        for method in TUNED:
            cell = tuned_cell(method, self._finetune(method))
            table.append(self._table_row(f"{CHAT}, {method} fine-tuning", 0.0, cell))
        write_csv(self._folder / "suite.csv", table)
        save_figure(suite_radar(table), self._folder / "figures", "abilities")
        return table

    def proxy(self) -> Table:
        """Classify statements by checkpoints as they are and proxy-tuned (paper, Figure 18)."""
        names = proxy_checkpoints(self._family.checkpoints)
        table = []
        for name in progress_bar(names, "Proxy-tuning checkpoints", unit="checkpoint"):
            cells = [classification_cell(f"{BASE}@{name}", moved=moved) for moved in (False, True)]
            table.append(classification_row(name, *(self._evaluator.run(c).scores for c in cells)))
        for name in (CHAT, SAFE):
            outcome = self._evaluator.run(classification_cell(name, moved=False))
            table.append(classification_row(name, outcome.scores))
        write_csv(self._folder / "proxy.csv", table)
        save_figure(classification_bars(table), self._folder / "figures", "proxy-tuning")
        return table

    def sweep(self) -> Table:
        """Evaluate the checkpoint's vectors at every α, against α = 0."""
        table = [row for name in SWEPT for row in self._sweep(name)]
        write_csv(self._folder / "sweep.csv", table)
        save_figure(strength_curves(table), self._folder / "figures", "strength")
        return table

    def _sweep(self, name: str) -> Table:
        vector, of_task = VectorPlan(find_dimension(name), self._middle), SWEPT[name]
        self._build(vector)
        cells = [sweep_cell(vector, alpha, self._vectors) for alpha in SWEPT_ALPHAS]
        outcomes = self._evaluate(cells, f"Sweeping α, {name}")
        unsteered = outcomes[SWEPT_ALPHAS.index(0.0)]
        task = f"{vector.dimension.task}_mini"
        rows = []
        for alpha, outcome in zip(SWEPT_ALPHAS, outcomes, strict=True):
            compared = compare_items(unsteered.items[task], outcome.items[task], of_task)
            assert compared is not None  # The metrics of SWEPT have a value of every item.
            change = compared.difference
            rows.append(
                {
                    "vector": name,
                    "alpha": alpha,
                    "metric": of_task,
                    "value": metric(outcome.scores, task, of_task),
                    "change": change.mean,
                    "low": change.low,
                    "high": change.high,
                    "perplexity": _perplexity(outcome),
                    "times": _perplexity(outcome) / _perplexity(unsteered),
                }
            )
        return rows

    def page(self) -> Path:
        """Write the page: the table's rows with their samples, α curves, and checkpoints.

        After :meth:`compare`, :meth:`sweep` and :meth:`analyse`.
        """
        folders = {self._evaluator.folder(name): title for name, title in self._titles.items()}
        names = {str(folder): title for folder, title in folders.items()}
        boards = build_boards(find_runs(folders), settings=BoardSettings(names=names))
        path = self._folder / "index.html"
        analyses = [self._folder / "analysis"]
        write_page(path, boards, sweeps=[self._folder], analyses=analyses, title=PAGE_TITLE)
        return path

    def _table_row(self, title: str, alpha: float, cell: Cell) -> dict[str, Any]:
        self._titles[cell.name] = title
        return suite_row(title, alpha, self._evaluator.run(cell).scores)

    def _strength(self, vector: VectorPlan) -> float:
        """Return the largest strength before the perplexity of held-out text leaves its limit."""
        allowed = PERPLEXITY_LIMIT * _perplexity(self._evaluator.run(unsteered_text_cell()))
        chosen = STRENGTHS[0]
        for alpha in STRENGTHS:
            if _perplexity(self._evaluator.run(text_cell(vector, alpha, self._vectors))) > allowed:
                break
            chosen = alpha
        return chosen

    def _evaluate(self, cells: Sequence[Cell], title: str) -> list[Outcome]:
        return [self._evaluator.run(cell) for cell in progress_bar(cells, title, unit="strength")]

    def _finetune(self, method: str) -> Path:
        """Fine-tune the chat model on right answers; return the folder of what came of it."""
        out = self._folder / "models" / f"reliability-{method}"
        statements = load_statements("reliability", data_source=MINI)
        run = Finetuning(
            find_source(CHAT),
            trustworthy_conversations(statements),
            preset_config("mini", method, seed=self._family.seed),
            device="cpu",
        )
        run.run(out)
        return out

    def _build(self, plan: VectorPlan) -> None:
        """Build a vector; its activations are kept, so this is quick when repeated."""
        model, tokenizer, identity = load_source(plan.source, dtype="float32", device="cpu")
        vector = build_vector(
            model,
            tokenizer,
            load_statements(plan.dimension, data_source=MINI),
            layers=range(self._family.recipe.shape.layers),
            identity=identity,
            progress=False,
        )
        vector.save(plan.file(self._vectors))


def _perplexity(outcome: Outcome) -> float:
    return metric(outcome.scores, TEXT, "word_perplexity")


def _analyse_checkpoints(family: MiniFamily, sets: Path, out: Path) -> Analysis:
    """Store every checkpoint's activations of every dimension, and analyse them.

    Args:
        family: Whose checkpoints.
        sets: Folder of the activation sets.
        out: Folder of tables and figures.
    """
    statements = [load_statements(dimension, data_source=MINI) for dimension in DIMENSIONS]
    layers = range(family.recipe.shape.layers)
    checkpoints = progress_bar(family.checkpoints.items(), "Reading statements", unit="checkpoint")
    for name, step in checkpoints:
        model, tokenizer, identity = load_source(f"{BASE}@{name}", dtype="float32", device="cpu")
        info = CheckpointInfo(name, step, family.tokens_seen(step))
        collect(sets, info, model, tokenizer, identity, statements, layers=layers, progress=False)
    return analyse(sets, out, SETTINGS)
