"""Tables of planted cells: what was planted comes out, in whatever order it was put there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lm_eval_trust.analysis.tables import Measurement
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.study.cells import AnalysisCell, Cell, EvaluationCell
from lm_eval_trust.study.export import export
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.runners import MEASUREMENTS

STUDY = """
study: planted
family: {{folder: {family}, pattern: "ckpt_(?P<step>[0-9]+)"}}
dimensions: [reliability]
data: {{source: mini}}
layers: 0+2
compute: [probes]
evaluations:
  - {{name: plain, models: [ckpt_000, ckpt_001, {chat}], tasks: [trust_truthfulqa_mini]}}
  - name: transfer
    models: [{chat}, ckpt_002]
    tasks: [trust_truthfulqa_mini, trust_world_text_mini]
    steering: {{sources: checkpoints, dimensions: [reliability], layers: [2], alphas: [0, 1, 2]}}
  - name: moved
    models: [ckpt_000, ckpt_001]
    tasks: [trust_truthfulqa_mini]
    proxy: {{expert: {chat}, antiexpert: ckpt_002, alpha: 1}}
"""


@pytest.fixture
def study(open_study: Callable[..., Study], family: Path, tiny_llama: Callable[..., Path]) -> Study:
    return open_study(STUDY.format(family=family, chat=tiny_llama(seed=50)))


def score(cell: EvaluationCell) -> float:
    """Planted: what steers by a later checkpoint, and more strongly, scores higher."""
    if cell.steering is None:
        return 0.7 if cell.proxy else 0.1
    return 0.2 + 0.1 * (cell.steering.vector.model.step or 0) + 0.05 * cell.steering.alpha


def result(cell: Cell, out: Path) -> Mapping[str, Any]:
    if isinstance(cell, AnalysisCell):
        step = cell.model.step or 0
        rows = [
            Measurement(cell.model.name, step, 0, "reliability", layer, name, value, 0.4, 0.9, 50)
            for layer in (0, 2)
            for name, value in (("probe_accuracy", 0.5 + 0.1 * step), ("cka_final", 1.0))
        ]
        (out / MEASUREMENTS).write_text(json.dumps([asdict(row) for row in rows]))
        return {}
    assert isinstance(cell, EvaluationCell)
    if "text" in cell.task:
        return {"scores": {cell.task: {"word_perplexity,none": 9.0}}, "items": {cell.task: 5}}
    found = {"trust_score,none": score(cell), "trust_score_stderr,none": 0.01, "alias": "x"}
    return {"scores": {cell.task: found}, "items": {cell.task: 5}}


def plant(study: Study, folder: StudyFolder, seed: int) -> None:
    cells = [c for c in study.grid().cells if isinstance(c, (AnalysisCell, EvaluationCell))]
    random.Random(seed).shuffle(cells)
    for cell in cells:
        folder.publish(cell, lambda out, cell=cell: result(cell, out))  # type: ignore[misc]


@pytest.mark.slow
def test_what_was_planted_comes_out(study: Study, folder: StudyFolder) -> None:
    plant(study, folder, 0)
    out = folder.path / "export"
    export(study, folder)
    table = pd.read_csv(out / "evaluations.csv")
    assert len(table) == 3 + 2 * 2 * (1 + 3 * 2) + 2
    assert set(table.loc[table["metric"] == "trust_score", "stderr"]) == {0.01}
    matrix = pd.read_csv(out / "transfer.csv").query("alpha == 2")
    assert list(matrix["source"]) == ["ckpt_000", "ckpt_001", "ckpt_002"]
    assert list(matrix["ckpt_002"]) == pytest.approx([0.3, 0.4, 0.5])
    points = pd.read_csv(out / "correlation-points.csv").query("steered and alpha == 1")
    assert (points["score"] - 0.25).to_numpy() == pytest.approx(points["probe"] - 0.5)
    # Each of two targets has a series of three sources, which is too short for a test.
    rows = pd.read_csv(out / "correlation.csv").query("steered and alpha == 1")
    assert list(rows["checkpoints"]) == [3, 3] and list(rows["pearson"]) == pytest.approx([1, 1])
    assert rows["p"].isna().all() and rows["note"].str.contains("at least 12").all()
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    assert {"scores-plain", "strength-transfer", "proxy-moved-trust_truthfulqa_mini"} <= figures
    assert "transfer-transfer-trust_truthfulqa_mini-reliability-L2-a1" in figures


@pytest.mark.slow
def test_the_order_of_the_work_changes_no_byte(
    open_study: Callable[..., Study],
    family: Path,
    tiny_llama: Callable[..., Path],
    folder: StudyFolder,
    tmp_path: Path,
) -> None:
    text = STUDY.format(family=family, chat=tiny_llama(seed=50)).partition("  - name: transfer")[0]
    study, other = open_study(text), StudyFolder(tmp_path / "other")
    for seed, place in enumerate((folder, other)):
        plant(study, place, seed)
        export(study, place)
    outs = [place.path / "export" for place in (folder, other)]
    files = [{p.name: p.read_bytes() for p in out.rglob("*.*")} for out in outs]
    assert files[0] == files[1] and {"evaluations.csv", "probing.pdf"} <= set(files[0])


def test_an_unfinished_study_exports_what_is_there(study: Study, folder: StudyFolder) -> None:
    assert export(study, folder) == []
    cell = study.grid().evaluations["plain"][0]
    folder.publish(cell, lambda out: result(cell, out))
    names = [path.name for path in export(study, folder)]
    assert names == ["evaluations.csv", "table-plain.csv"]
    assert not (folder.path / "export" / "transfer.csv").exists()


def test_damaged_measurements_are_named_and_computed_again(
    study: Study,
    folder: StudyFolder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = next(c for c in study.grid().cells if isinstance(c, AnalysisCell))
    folder.publish(cell, lambda out: result(cell, out))
    file = folder.cell(cell) / MEASUREMENTS
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert not any("analysis" in str(path) for path in export(study, folder))
    assert f"{file} was changed since it was computed" in caplog.text
    # A large file is not read whole before it is used.
    monkeypatch.setattr("lm_eval_trust.study.folder._SMALL", 0)
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ExternalError, match=r"measurements\.json was changed since"):
        export(study, folder)
    assert folder.record(cell) is None
