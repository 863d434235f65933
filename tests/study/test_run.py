"""A whole study: the harness's own answers, nothing computed twice, failures told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lm_eval.models.huggingface import HFLM
from support.harness import evaluate

from lm_eval_trust.cli import main
from lm_eval_trust.model_wrappers.amber import SteeredAmber
from lm_eval_trust.steering.build import build_vector
from lm_eval_trust.steering.vectors import load_vector
from lm_eval_trust.study.cells import EvaluationCell
from lm_eval_trust.study.folder import RECORD, StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.run import run_study
from lm_eval_trust.study.runners import VECTOR, activation_set

Open = Callable[..., Study]


def records(study: Study, folder: StudyFolder) -> dict[str, int]:
    """The inode of each finished cell's record: another one was computed anew."""
    cells = study.grid().cells
    return {c.name: (folder.cell(c) / RECORD).stat().st_ino for c in cells if folder.record(c)}


def exported(folder: StudyFolder) -> dict[str, bytes]:
    out = folder.path / "export"
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.*"))}


@pytest.fixture(scope="module")
def finished(text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyFolder]:
    """The small study, run by its command; its file and its folder."""
    place = tmp_path_factory.mktemp("finished")
    file = place / "study.yaml"
    file.write_text(text)
    assert main(["study", str(file), "--out", str(place / "out")]) == 0
    return file, StudyFolder(place / "out")


def evaluation(study: Study, *, steered: bool) -> EvaluationCell:
    cells = study.grid().evaluations["transfer"]
    return next(c for c in cells if bool(c.steering) == steered and "stereoset" in c.task)


def answers(samples: list[Mapping[str, Any]]) -> list[Any]:
    found = [(s["doc_id"], s["resps"], s["filtered_resps"]) for s in samples]
    return list(json.loads(json.dumps(found)))


@pytest.mark.slow
def test_a_steered_cell_is_what_the_harness_gives(
    finished: tuple[Path, StudyFolder], open_study: Open, text: str, family: Path
) -> None:
    folder = finished[1]
    cell = evaluation(open_study(text), steered=True)
    assert cell.steering is not None
    vector = folder.cell(cell.steering.vector) / VECTOR
    model = SteeredAmber(
        pretrained=cell.model.location,
        vector=str(vector),
        layer=1,
        alpha=4,
        dtype="float32",
        device="cpu",
        batch_size=8,
    )
    plain = evaluate(model, [cell.task], limit=2)
    record = folder.record(cell)
    assert record is not None
    scores = record["result"]["scores"][cell.task]
    for key, value in plain["results"][cell.task].items():
        if key.startswith(("acc", "trust_score")):
            # What is undefined is NaN in results, and null in a record.
            assert scores[key] == value or (scores[key] is None and value != value)
    (file,) = folder.cell(cell).rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    assert answers(samples) == answers(plain["samples"][cell.task])


def test_an_unsteered_cell_is_what_hf_gives(
    finished: tuple[Path, StudyFolder], open_study: Open, text: str
) -> None:
    folder = finished[1]
    cell = evaluation(open_study(text), steered=False)
    plain = evaluate(
        HFLM(cell.model.location, dtype="float32", device="cpu", batch_size=1), [cell.task], limit=2
    )
    (file,) = folder.cell(cell).rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    assert answers(samples) == answers(plain["samples"][cell.task])


def test_a_study_s_vector_is_the_builder_s(
    finished: tuple[Path, StudyFolder], open_study: Open, text: str
) -> None:
    from lm_eval_trust.models.sources import find_source, load_source

    folder = finished[1]
    cell = open_study(text).grid().vectors[0]
    model, tokenizer, _ = load_source(cell.model.location, dtype="float32", device="cpu")
    built = build_vector(
        model,
        tokenizer,
        cell.activations.statements.load("fairness"),
        layers=(0, 1, 2),
        identity=find_source(cell.model.location).identity,
        progress=False,
    )
    found = load_vector(folder.cell(cell) / VECTOR)
    for layer in (0, 1, 2):
        assert found.layer(layer).direction.allclose(built.layer(layer).direction, atol=1e-5)
        assert found.layer(layer).projection_std == pytest.approx(
            built.layer(layer).projection_std, rel=1e-4
        )
    assert found.provenance is not None and built.provenance is not None
    assert found.provenance.fingerprint == built.provenance.fingerprint
    assert activation_set(cell.activations, folder).info.step == 0


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_exports_the_same(
    finished: tuple[Path, StudyFolder],
    open_study: Open,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, folder = finished
    study = open_study(text)
    before, tables = records(study, folder), exported(folder)
    assert len(before) == len(study.grid().cells)
    assert main(["study", str(file), "--out", str(folder.path)]) == 0
    assert "0 cells computed, 19 were there" in capsys.readouterr().out
    assert records(study, folder) == before and exported(folder) == tables
    assert {"evaluations.csv", "transfer.csv", "correlation-points.csv"} <= set(tables)
    assert {"figures/scores-plain.png", "analysis-seed0/figures/probing.png"} <= set(tables)


def test_tables_hold_what_cells_hold(
    finished: tuple[Path, StudyFolder], open_study: Open, text: str
) -> None:
    folder = finished[1]
    table = pd.read_csv(folder.path / "export" / "evaluations.csv")
    cell = evaluation(open_study(text), steered=True)
    assert cell.steering is not None
    record = folder.record(cell)
    assert record is not None
    row = table[(table["cell"] == cell.name) & (table["metric"] == "trust_score")].iloc[0]
    assert row["value"] == record["result"]["scores"][cell.task]["trust_score,none"]
    assert (row["source"], row["dimension"], row["layer"], row["alpha"], row["n"]) == (
        cell.steering.vector.model.name,
        "fairness",
        1,
        4.0,
        2,
    )
    matrix = pd.read_csv(folder.path / "export" / "transfer.csv")
    assert list(matrix["source"]) == 2 * ["ckpt_000", "ckpt_001", "ckpt_002"]
    assert matrix.iloc[0][cell.model.name] == row["value"]


def test_status_and_dry_run_tell_and_do_nothing(
    finished: tuple[Path, StudyFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, folder = finished
    assert main(["study", str(file), "--out", str(folder.path), "--status"]) == 0
    printed = capsys.readouterr().out
    assert "evaluations        10        0        0" in printed
    new = tmp_path / "new"
    assert main(["study", str(file), "--out", str(new), "--dry-run"]) == 0
    estimated = capsys.readouterr().out
    assert "19 to compute, 0 finished: 3 activations, 3 vectors, 10 evaluations, 3 analysis" in (
        estimated
    )
    assert not new.exists()
    assert main(["study", str(file), "--dry-run"]) == 0
    assert capsys.readouterr().out == estimated
    assert main(["study", str(file), "--status"]) == 2
    assert "needs --out FOLDER" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cell_that_fails_is_told_and_the_rest_goes_on(
    open_study: Open, text: str, folder: StudyFolder
) -> None:
    deep = text.replace("layers: [1, 2]", "layers: [9]").replace("[probes, vectors]", "[]")
    study = open_study(deep)
    outcome = run_study(study, folder)
    # Activations, vectors and what is steered by them; not the models as they are.
    assert outcome.computed == 4 and len(outcome.failed) == 9
    assert outcome.exit_code == 3
    assert any("Layer 9" in message for message in outcome.failed.values())
    failed = [cell for cell in study.grid().cells if folder.failure(cell)]
    assert {cell.name for cell in failed} == set(outcome.failed)
    again = run_study(study, folder)
    assert (again.computed, again.found, len(again.failed)) == (0, 4, 9)


def test_a_model_that_cannot_be_loaded_fails_its_own_cells(
    open_study: Open,
    text: str,
    folder: StudyFolder,
    tiny_llama: Callable[..., Path],
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_llama(seed=0).iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"nothing")
    few = text.split("compute:")[0] + (
        f"evaluations: [{{name: e, models: [{broken}, ckpt_000], tasks: [trust_sst2_mini], "
        "limit: 1}]\nengine: {name: inline, threads: 1}\n"
    )
    outcome = run_study(open_study(few), folder)
    assert outcome.computed == 1 and outcome.exit_code == 2
    assert "Cannot load" in next(iter(outcome.failed.values()))
