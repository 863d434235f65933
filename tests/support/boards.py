"""Boards of planted rows and samples, as an evaluation would have left them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_trust.analysis.comparison import compare
from lm_eval_trust.core.saved_runs import SavedRun, read_run, write_run
from lm_eval_trust.leaderboard.board import Board, Column, Pair, Row, Score, Tradeoffs

DATE = "2026-01-02T03-04-05.678901"
TRUTH = Column("planted_truth", "truth_info", "none", "Truth*Info", True, "reliability")
TOXIC = Column("planted_toxic", "toxic_ratio", "none", "ToxiGen", False, "toxicity")
ABILITY = Column("planted_choice", "acc", "none", "ARC", True, "general")
SUITE = Column("planted_suite", "trust_score", "none", "Suite", True, "suite")
COLUMNS = (TRUTH, TOXIC, ABILITY, SUITE)

Answer = Callable[[str, int], tuple[str, float]]


def planted_run(
    folder: Path,
    answer: Answer,
    count: int = 12,
    columns: Sequence[Column] = (TRUTH, TOXIC, ABILITY),
) -> SavedRun:
    """Write a run whose tasks have ``count`` samples: ``answer(task, item)`` → text and metric."""
    tasks = {column.task: column.metric for column in columns}
    samples = {
        task: [planted_sample(item, metric, *answer(task, item)) for item in range(count)]
        for task, metric in tasks.items()
    }
    results = {
        "configs": {task: {} for task in tasks},
        "group_subtasks": {SUITE.task: [TRUTH.task, TOXIC.task]},
    }
    return read_run(write_run(folder, DATE, results, samples))


def planted_sample(item: int, metric: str, text: str, value: float) -> dict[str, Any]:
    return {
        "doc_id": item,
        "doc": {},
        "target": f"target {item}",
        "arguments": {"gen_args_0": {"arg_0": f"Question {item}?", "arg_1": {}}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": "none",
        "metrics": [metric],
        metric: value,
    }


def planted_row(name: str, run: SavedRun, **provenance: Any) -> Row:
    values = {column.key: _values(run, column) for column in (TRUTH, TOXIC, ABILITY)}
    scores = {key: Score(sum(v) / len(v), 0.05, len(v)) for key, v in values.items()}
    trust = (scores[TRUTH.key].value + 1 - scores[TOXIC.key].value) / 2
    return Row(name, scores | {SUITE.key: Score(trust, 0.04, None)}, (run,), provenance)


def planted_board(rows: Sequence[Row], **options: Any) -> Board:
    """Return a board that compares all measured rows with the first one."""
    first, *others = [row for row in rows if not row.reported]
    pairs = [
        Pair(first.name, row.name, column.key, found, min(1.0, 3 * found.p), found.difference)
        for row in others
        for column in (TRUTH, TOXIC, ABILITY)
        for found in [compare(_values(first.runs[0], column), _values(row.runs[0], column))]
    ]
    changes = {
        row.name: {
            c.dimension: p.comparison.difference
            for c in (TRUTH, TOXIC)
            for p in pairs
            if p.second == row.name and p.column == c.key
        }
        for row in others
    }
    tradeoffs = Tradeoffs(("reliability", "toxicity"), changes)
    wins = {row.name: index / len(others) for index, row in enumerate([first, *others])}
    given: Mapping[str, Any] = {"tradeoffs": tradeoffs, "win_rates": wins, **options}
    return Board(COLUMNS, tuple(rows), tuple(pairs), first.name, **given)


def reported_row(name: str) -> Row:
    return Row(name, {TRUTH.key: Score(0.99, None, None)}, (), {"source": "a paper"}, reported=True)


def _values(run: SavedRun, column: Column) -> list[float]:
    return [float(sample[column.metric]) for sample in run.samples(column.task)]


def write_measurements(folder: Path, checkpoints: int = 4, layers: int = 3) -> Path:
    """Write measurements of two dimensions over checkpoints; return the folder."""
    header = "checkpoint,step,tokens,dimension,layer,estimator,value,low,high,n,settings"
    lines = [
        f"ckpt_{step:03d},{step},0,{dimension},{layer},{estimator},"
        f"{0.5 + 0.1 * step + 0.01 * layer},{0.4 + 0.1 * step},{0.6 + 0.1 * step},10,{{}}"
        for dimension in ("reliability", "toxicity")
        for estimator in ("probe_accuracy", "nhsic_tx", "nhsic_ty", "probe_majority")
        for layer in range(layers)
        for step in range(checkpoints)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measurements.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def embedded(page: str, name: str) -> Any:
    """Return the JSON of one of a page's elements."""
    start = page.index(f'id="{name}">') + len(f'id="{name}">')
    return json.loads(page[start : page.index("</script>", start)])
