"""Tables and figures of what a study has computed; the same bytes for the same cells."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import (
    abilities_radar,
    correlation_scatter,
    probe_matrix_heatmap,
    proxy_bars,
    save_figure,
    strength_curves,
)
from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.core.run_log import log_scalars
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.study.analyse import write_analysis
from lm_eval_trust.study.cells import AnalysisCell, EvaluationCell
from lm_eval_trust.study.correlations import (
    SERIES,
    correlation_points,
    correlation_rows,
    probes_of,
    series_matrices,
)
from lm_eval_trust.study.erasure import erasure_figures, erasure_table
from lm_eval_trust.study.figures import score_curves, transfer_heatmap
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Grid, Study
from lm_eval_trust.study.models import StudyModel
from lm_eval_trust.study.readings import reading_table, warn_of_readings
from lm_eval_trust.study.runners import MEASUREMENTS
from lm_eval_trust.study.transfers import transfer_figures, transfer_table

#: Sources whose transfer a table shows as well as a figure.
_READ_AT_A_GLANCE = 2
#: Name of a figure, and the figure.
Figures = Iterator[tuple[str, Figure]]


def export(study: Study, folder: StudyFolder) -> list[Path]:
    """Write everything below ``export/``; return its tables.

    What is not computed yet is left out, so it can be called at any time.

    Raises:
        ExternalError: The disk refused to write.
    """
    grid, out = study.grid(folder.skipped()), folder.path / "export"
    # What an earlier form of the study exported would not be told from this one's.
    shutil.rmtree(out, ignore_errors=True)
    measured = _analyses(study, grid, folder, out)
    table = evaluation_table(grid, folder)
    tables = list(_of_activations(grid, folder, out))
    tables += [out / f"analysis-seed{seed}" / "measurements.csv" for seed in measured]
    if not table.empty:
        tables.append(_write(table, out / "evaluations.csv"))
        _report(table)
        tables += _tables(table, out)
        for name, figure in _figures(table):
            save_figure(figure, out / "figures", name)
        tables += _correlations(table, measured, out)
        tables += _erasures(table, out)
    return [file for file in tables if file.is_file()]


def _report(table: pd.DataFrame) -> None:
    """Report scores to the log of the run, if there is one; a step is a checkpoint's."""
    for row in table.itertuples():
        steered = (
            () if pd.isna(row.source) else (f"{row.source}, layer {row.layer}, α {row.alpha:g}",)
        )
        name = "/".join((row.evaluation, row.variant, *steered, row.task, row.metric))
        log_scalars({name: row.value}, 0 if pd.isna(row.step) else int(row.step))


def _of_activations(grid: Grid, folder: StudyFolder, out: Path) -> Iterator[Path]:
    """Write how checkpoints read the statements, and what was transferred between them."""
    readings = reading_table(grid.activations, folder)
    if not readings.empty:
        warn_of_readings(readings)
        yield _write(readings, out / "readings.csv")
    transfers = transfer_table(grid.transfers, folder)
    if not transfers.empty:
        for name, figure in transfer_figures(transfers):
            save_figure(figure, out / "figures", name)
        yield _write(transfers, out / "probe-transfer.csv")


def _analyses(
    study: Study, grid: Grid, folder: StudyFolder, out: Path
) -> dict[int, list[Measurement]]:
    """Write the analysis of each seed; return its measurements."""
    found: dict[int, list[Measurement]] = {}
    for cell in sorted(grid.analyses, key=_by_step):
        if folder.record(cell) is not None:
            file = folder.verify(cell) / MEASUREMENTS
            rows = json.loads(file.read_text(encoding="utf-8"))
            measured = found.setdefault(cell.activations.statements.seed, [])
            measured += [_placed(Measurement(**row), cell.model) for row in rows]
    for seed, rows in progress_bar(found.items(), "Exporting analyses", unit="seed"):
        write_analysis(rows, out / f"analysis-seed{seed}", study.settings(seed))
    return found


def _placed(row: Measurement, model: StudyModel) -> Measurement:
    """Return a measurement at the checkpoint's place in this family, whose stages may be others."""
    return replace(row, step=model.step, tokens=model.tokens, stage=model.stage)


def _by_step(cell: AnalysisCell) -> tuple[int, str]:
    return -1 if cell.model.step is None else cell.model.step, cell.name


def _tables(table: pd.DataFrame, out: Path) -> Iterator[Path]:
    """Write a wide table of each entry, and the transfer matrices."""
    for entry, rows in table.groupby("evaluation"):
        wide = rows.assign(column=rows["task"] + ":" + rows["metric"])
        index = ["variant", "layer", "alpha", "seed"]
        wide[index] = wide[index].astype(object).where(wide[index].notna(), "")
        order = wide.drop_duplicates(index)[index]
        pivot = wide.pivot_table(index=index, columns="column", values="value", sort=True)
        yield _write(order.merge(pivot.reset_index(), on=index), out / f"table-{entry}.csv")
    matrices = [(keys, matrix) for keys, matrix in _transfers(table)]
    if matrices:
        parts = [matrix.reset_index().assign(**keys) for keys, matrix in matrices]
        yield _write(pd.concat(parts, ignore_index=True), out / "transfer.csv")


def _transfers(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield source × target matrices of each task, dimension, blocks and strength."""
    steered = table[table["source"].notna()]
    keys = ["evaluation", "task", "dimension", "layer", "alpha"]
    for values, rows in steered.groupby(keys):
        metric = main_metric(table, str(values[1]))
        chosen = rows[rows["metric"] == metric]
        if chosen.empty or ((chosen["source"] == chosen["model"]).all() and len(chosen) > 1):
            continue  # Each model by its own vector only is no matrix.
        sources, targets = (list(dict.fromkeys(chosen[c])) for c in ("source", "model"))
        matrix = chosen.pivot_table(index="source", columns="model", values="value")
        described = dict(zip(keys, values, strict=True)) | {"metric": metric}
        yield described, matrix.loc[sources, targets]


def _figures(table: pd.DataFrame) -> Figures:
    for build in (_heatmaps, _curves, _strengths, _bars, _radars):
        yield from build(table)


def _heatmaps(table: pd.DataFrame) -> Figures:
    for keys, matrix in _transfers(table):
        if len(matrix.index) > _READ_AT_A_GLANCE:
            name = "transfer-{evaluation}-{task}-{dimension}-L{layer}-a{alpha:g}".format(**keys)
            label = f"{keys['task']} {keys['metric']}"
            of_model = table.drop_duplicates("model").set_index("model")["stage"].fillna("")
            stages = of_model[list(matrix.columns)] if matrix.columns.equals(matrix.index) else ()
            yield _safe(name), transfer_heatmap(matrix, label=label, stages=list(stages))


def _curves(table: pd.DataFrame) -> Figures:
    """Scores of checkpoints as they are."""
    plain = table[table["step"].notna() & table["source"].isna() & table["proxy"].isna()]
    for entry, rows in plain.groupby("evaluation"):
        chosen = _of_main_metrics(rows)
        if chosen["step"].nunique() > 1:
            yield f"scores-{entry}", score_curves(chosen)


def _strengths(table: pd.DataFrame) -> Figures:
    """Score and perplexity against the strength (Figure 4)."""
    for entry, rows in table.groupby("evaluation"):
        perplexity = perplexity_of(rows)
        steered = rows[rows["source"].notna()]
        if perplexity is None or steered["alpha"].nunique() < 2:
            continue
        points = [
            point
            for task in sorted(set(steered["task"]) - {perplexity[0]})
            for point in _strength_points(rows, str(task), perplexity)
        ]
        if points:
            yield f"strength-{entry}", strength_curves(points)


def _strength_points(
    rows: pd.DataFrame, task: str, perplexity: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    metric = main_metric(rows, task)
    scores = rows[(rows["task"] == task) & (rows["metric"] == metric)]
    costs = rows[(rows["task"] == perplexity[0]) & (rows["metric"] == perplexity[1])]
    keys = ["model", "source", "dimension", "layer"]
    for values, steered in scores[scores["source"].notna()].groupby(keys):
        same = scores["model"] == values[0]
        series = pd.concat([scores[same & scores["source"].isna()], steered])
        joined = series.merge(costs, on=["variant", "layer", "alpha", "seed"], suffixes=("", "_p"))
        for alpha, found in joined.groupby("alpha"):
            yield {
                "vector": f"{values[2]}, {values[1]}, block {values[3]}: {task}",
                "alpha": alpha,
                "metric": metric,
                "value": found["value"].mean(),
                "perplexity": found["value_p"].mean(),
            }


def _bars(table: pd.DataFrame) -> Figures:
    """Checkpoints as they are and proxy-tuned, other models as lines (Figure 18)."""
    for (entry, task), moved in table[table["proxy"].notna()].groupby(["evaluation", "task"]):
        metric = main_metric(moved, str(task))
        plain = table[(table["task"] == task) & table["proxy"].isna() & table["source"].isna()]
        tuned, original = (_means(rows, metric) for rows in (moved, plain))
        both = {name: original[name] for name in tuned if name in original}
        if both:
            lines = {
                str(name): value
                for name, value in _means(plain[plain["step"].isna()], metric).items()
            }
            bars = {name: tuned[name] for name in both}
            yield _safe(f"proxy-{entry}-{task}"), proxy_bars(both, bars, lines)


def _means(rows: pd.DataFrame, metric: str | None) -> dict[str, float]:
    chosen = rows[rows["metric"] == metric]
    return {
        str(n): float(v) for n, v in chosen.groupby("model", sort=False)["value"].mean().items()
    }


def _radars(table: pd.DataFrame) -> Figures:
    """Abilities of the variants of an entry (Figure 6)."""
    for entry, rows in table.groupby("evaluation"):
        chosen = _of_main_metrics(rows)
        wide = chosen.assign(
            row=chosen["variant"] + chosen["alpha"].map(lambda a: f" α={a:g}" if a else "")
        ).pivot_table(index="row", columns="task", values="value", sort=False)
        wide = wide.dropna(axis=1)
        if len(wide.columns) >= 3 and 2 <= len(wide.index) <= 6:
            values = {str(n): {str(k): float(v) for k, v in r.items()} for n, r in wide.iterrows()}
            yield f"abilities-{entry}", abilities_radar(values)


def _of_main_metrics(rows: pd.DataFrame) -> pd.DataFrame:
    mains = {task: main_metric(rows, str(task)) for task in rows["task"].unique()}
    return rows[rows["metric"] == rows["task"].map(mains)]


def _correlations(
    table: pd.DataFrame, measured: dict[int, list[Measurement]], out: Path
) -> Iterator[Path]:
    """Hold probes of sources against scores steered by them (Figure 5), and against their own."""
    probes = probes_of(measured)
    points = pd.DataFrame(correlation_points(_of_main_metrics(table), probes))
    if points.empty:
        return
    yield _write(points, out / "correlation-points.csv")
    keys = ["evaluation", "task", "dimension", *SERIES]
    yield _write(pd.DataFrame(correlation_rows(points, keys)), out / "correlation.csv")
    matrices = []
    for values, rows in series_matrices(points, probes):
        matrices.append(pd.DataFrame(rows).assign(**values))
        kind = "steered" if values["steered"] else "plain"
        name = _safe(f"correlation-matrix-{kind}-{{evaluation}}-{_SERIES_NAME}".format(**values))
        save_figure(probe_matrix_heatmap(rows), out / "figures", name)
    for values, chosen in points[points["steered"]].groupby(keys):
        if chosen["step"].nunique() > 1:
            described = dict(zip(keys, values, strict=True))
            figure = correlation_scatter(chosen.to_dict("records"), x="probe", y="score")
            name = f"correlation-{{evaluation}}-{{task}}-{{dimension}}-{_SERIES_NAME}"
            save_figure(figure, out / "figures", _safe(name.format(**described)))
    if matrices:
        yield _write(pd.concat(matrices, ignore_index=True), out / "correlation-matrix.csv")


_SERIES_NAME = "{target}-L{layer}-a{alpha:g}-seed{seed}"


def _erasures(table: pd.DataFrame, out: Path) -> Iterator[Path]:
    """Write how far scores fall where models lose a direction of their own."""
    fallen = erasure_table(_of_main_metrics(table))
    if not fallen.empty:
        for name, figure in erasure_figures(fallen):
            save_figure(figure, out / "figures", _safe(name))
        yield _write(fallen, out / "erasure.csv")


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name)


def _write(table: pd.DataFrame, path: Path) -> Path:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return path


COLUMNS = {
    "evaluation": "string",
    "variant": "string",
    "model": "string",
    "stage": "string",
    "step": "Int64",
    "tokens": "Int64",
    "source": "string",
    "source_stage": "string",
    "source_step": "Int64",
    "dimension": "string",
    "layer": "string",
    "alpha": "float64",
    "action": "string",
    "proxy": "string",
    "adapter": "string",
    "task": "string",
    "metric": "string",
    "value": "float64",
    "stderr": "float64",
    "n": "Int64",
    "nonfinite": "Int64",
    "seed": "int64",
    "cell": "string",
}
#: Of these the first that a task has is the one that figures show.
MAIN_METRICS = ("trust_score", "f1", "acc", "exact_match", "acc_norm")
PERPLEXITIES = ("word_perplexity", "perplexity")


def evaluation_table(grid: Grid, folder: StudyFolder) -> pd.DataFrame:
    """Return a row for each finished evaluation, task and metric, in a stable order.

    Args:
        grid: The study's cells; a cell that two entries share has rows for both.
        folder: Where they are.
    """
    rows = [row for name, cells in grid.evaluations.items() for row in _entry(name, cells, folder)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = ["evaluation", "seed", "step", "model", "source_step", "source", "dimension"]
    order += ["layer", "alpha", "task", "metric", "cell"]
    return table.sort_values(order, ignore_index=True, kind="stable")


def main_metric(table: pd.DataFrame, task: str) -> str | None:
    """Return the metric of a task that figures show; ``None`` for perplexities and others."""
    known = set(table.loc[table["task"] == task, "metric"])
    return next((metric for metric in MAIN_METRICS if metric in known), None)


def perplexity_of(table: pd.DataFrame) -> tuple[str, str] | None:
    """Return task and metric of a perplexity in the table, if there is one."""
    found = table[table["metric"].isin(PERPLEXITIES)]
    return None if found.empty else (str(found["task"].iloc[0]), str(found["metric"].iloc[0]))


def _entry(
    name: str, cells: tuple[EvaluationCell, ...], folder: StudyFolder
) -> Iterator[dict[str, Any]]:
    for cell in dict.fromkeys(cells):
        record = folder.record(cell)
        if record is None:
            continue
        described = {"evaluation": name, **_described(cell)}
        items, broken = record["result"]["items"], record["result"].get("nonfinite", {})
        for task, scores in record["result"]["scores"].items():
            for metric, value, error in _metrics(scores):
                yield {
                    **described,
                    "task": task,
                    "metric": metric,
                    "value": value,
                    "stderr": error,
                    "n": items.get(task),
                    "nonfinite": broken.get(task),
                }


def _described(cell: EvaluationCell) -> dict[str, Any]:
    point = cell.steering
    source = point.vector.activations if point else None
    return {
        "variant": cell.variant,
        "model": cell.model.name,
        "stage": cell.model.stage,
        "step": cell.model.step,
        "tokens": cell.model.tokens,
        "source": source.model.name if source else None,
        "source_stage": source.model.stage if source else None,
        "source_step": source.model.step if source else None,
        "dimension": source.dimension if source else None,
        "layer": point.layer_text if point else None,
        "alpha": point.alpha if point else 0.0,
        "action": point.steering.action if point else None,
        "proxy": cell.proxy.expert.name if cell.proxy else None,
        "adapter": cell.adapter.identity if cell.adapter else None,
        "seed": cell.statements.seed,
        "cell": cell.name,
    }


def _metrics(scores: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Yield metric, value and standard error; the harness writes ``METRIC,FILTER``."""
    for key, value in scores.items():
        metric, comma, of_filter = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, float):
            continue
        error = scores.get(f"{metric}_stderr,{of_filter}")
        name = metric if of_filter == "none" else f"{metric},{of_filter}"
        yield name, value, error if isinstance(error, float) else float("nan")
