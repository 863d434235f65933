"""The demo's tables: what the suite says of each model, probes over checkpoints, α against cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_trust.demo.cells import Scores
from lm_eval_trust.demo.plan import CLASSIFICATION
from lm_eval_trust.demo.probes import ProbeRow
from lm_eval_trust.dimensions import DIMENSIONS
from lm_eval_trust.storage import atomic_path

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


def probe_summary(rows: Sequence[ProbeRow]) -> list[dict[str, Any]]:
    """Return a row for each checkpoint: the accuracy of its middle blocks, by dimension."""
    layers = sorted({row["layer"] for row in rows})
    middle = layers[len(layers) // 4 : len(layers) - len(layers) // 4]
    summary = []
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        found = [row for row in rows if row["checkpoint"] == name and row["layer"] in middle]
        accuracies = {
            d.name: _mean([row["accuracy"] for row in found if row["dimension"] == d.name])
            for d in DIMENSIONS
        }
        summary.append({"checkpoint": name, "step": found[0]["step"], **accuracies})
    return summary


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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
