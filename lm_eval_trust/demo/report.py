"""The demo's tables: what the suite says of each model, probes over checkpoints, α against cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lm_eval_trust.analysis.figures import abilities_radar, proxy_bars
from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.demo.cells import CLASSIFICATION
from lm_eval_trust.evaluate.evaluator import Scores

#: Column of the suite's table → task and metric.
SUITE_COLUMNS: Mapping[str, tuple[str, str]] = {
    "Truth": ("trust_truthfulqa_mini", "truth"),
    "Info": ("trust_truthfulqa_mini", "info"),
    "Truth*Info": ("trust_truthfulqa_mini", "truth_info"),
    "Toxic ↓": ("trust_toxigen_mini", "toxic_ratio"),
    "ConfAIde": ("trust_confaide_mini", "acc"),
    "StereoSet": ("trust_stereoset_mini", "acc"),
    "SST-2": ("trust_sst2_mini", "acc"),
    "Suite": ("trust_suite_mini", "trust_score"),
    "Choice": ("trust_world_choice_mini", "acc"),
    "PPL ↓": ("trust_world_text_mini", "word_perplexity"),
}


def metric(scores: Scores, task: str, name: str) -> float:
    """Return a task's metric, under whichever filter it stands."""
    (value,) = (v for key, v in scores[task].items() if key.split(",")[0] == name)
    return float(value)


def suite_row(title: str, alpha: float, scores: Scores) -> dict[str, Any]:
    """Return a row of the suite's table."""
    cells = {column: metric(scores, *where) for column, where in SUITE_COLUMNS.items()}
    return {"model": title, "α": alpha, **cells}


def classification_row(title: str, original: Scores, moved: Scores | None = None) -> dict[str, Any]:
    """Return a row of Figure 18: F1 and unparsed answers as it is, and proxy-tuned."""
    row: dict[str, Any] = {"model": title}
    for name, scores in (("original", original), ("proxy-tuned", moved)):
        for label, of_task in (("F1", "f1"), ("unparsed", "unparsed")):
            value = metric(scores, CLASSIFICATION, of_task) if scores else ""
            row[f"{name} {label}"] = value
    return row


def classification_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return Figure 18 of :func:`classification_row`'s rows; what is not moved is a line."""
    moved = [row for row in rows if row["proxy-tuned F1"] != ""]
    return proxy_bars(
        {row["model"]: row["original F1"] for row in moved},
        {row["model"]: row["proxy-tuned F1"] for row in moved},
        {row["model"]: row["original F1"] for row in rows if row not in moved},
    )


def suite_radar(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return Figure 6: trust and general ability of the first models and the first steered one."""
    abilities = ("Truth*Info", "ConfAIde", "StereoSet", "SST-2", "Choice")
    return abilities_radar(
        {
            row["model"]: {
                "1 − toxic": 1 - row["Toxic ↓"],
                **{name: row[name] for name in abilities},
            }
            for row in rows[:3]
        }
    )


def checkpoint_summary(table: pd.DataFrame, estimator: str) -> list[dict[str, Any]]:
    """Return a row for each checkpoint: a measurement's mean over middle blocks, by dimension."""
    chosen = table[table["estimator"] == estimator]
    layers = sorted(chosen["layer"].unique())
    middle = layers[len(layers) // 4 : len(layers) - len(layers) // 4]
    chosen = chosen[chosen["layer"].isin(middle)]
    means = chosen.groupby(["checkpoint", "step", "dimension"])["value"].mean()
    return [
        {"checkpoint": name, "step": int(step)}
        | {d.name: float(means[name, step, d.name]) for d in DIMENSIONS}
        for name, step in sorted({(n, s) for n, s, _ in means.index}, key=lambda pair: pair[1])
    ]


def phase_summary(phases: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each dimension and layer: verdict, turn, and slopes of both sides."""
    return [
        {
            "dimension": row["dimension"],
            "block": int(row["layer"]),
            "verdict": row["verdict"],
            "p": row["p"],
            "corrected": row["p_corrected"],
            "ρ": f"{row['rho']:.2f}",
            "turn (step)": f"{row['turn']:.0f} ({row['turn_low']:.0f} to {row['turn_high']:.0f})",
            "I(T,X)": f"{row['tx_before']:+.3f} {row['tx_after']:+.3f}",
            "I(T,Y)": f"{row['ty_before']:+.4f} {row['ty_after']:+.4f}",
        }
        for row in phases.to_dict("records")
    ]


def correlation_summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each benchmark: what it has in common with its probe beyond training."""
    names = {
        "dimension": "dimension",
        "checkpoints": "checkpoints",
        "innovations": "r without trend",
        "p": "p",
        "p_corrected": "corrected",
        "contrast": "less controls",
        "tetrad_p": "p of tetrads",
        "pearson": "raw Pearson",
        "spearman": "raw Spearman",
        "note": "note",
    }
    return [{name: row[key] for key, name in names.items()} for row in rows]


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same keys as a table of aligned columns."""
    header = list(rows[0])
    cells = [header, *([_cell(row[key]) for key in header] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in cells
    )


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same keys; the file is whole or as it was."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
