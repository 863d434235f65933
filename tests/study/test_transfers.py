"""Probes and vectors of each checkpoint at all others, in a flow of three stages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.study.cells import ActivationCell
from lm_eval_trust.study.export import export
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.readings import reading_table, warn_of_readings
from lm_eval_trust.study.run import run_study

STUDY = """
study: flow
family: {{file: {file}}}
dimensions: [fairness, reliability]
data: {{source: mini, statements: 60}}
layers: 0+2
compute: [probes, transfer]
rewordings: ["somebody said: {{statement}}"]
probes: {{controls: 2}}
engine: {{name: inline, threads: 1}}
"""
FAMILY = """
family: three
stages:
  - {{stage: pretraining, folder: {family}, pattern: "ckpt_(?P<step>[0-9]+)", until: 1}}
  - {{stage: sft, model: {chat}}}
"""
Open = Callable[..., Study]


@pytest.fixture
def text(family: Path, tiny_llama: Callable[..., Path], tmp_path: Path) -> str:
    """A study of a family of one's own."""
    file = tmp_path / "family.yaml"
    file.write_text(FAMILY.format(family=family, chat=tiny_llama(seed=50)), encoding="utf-8")
    return STUDY.format(file=file)


@pytest.mark.slow
def test_each_source_is_applied_to_all_checkpoints(
    text: str, open_study: Open, folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    study = open_study(text)
    assert [(m.name, m.stage, m.step) for m in study.checkpoints] == [
        ("ckpt_000", "pretraining", 0),
        ("ckpt_001", "pretraining", 1),
        ("sft", "sft", 2),
    ]
    assert len(study.grid().transfers) == 3 * 2
    assert run_study(study, folder).failed == {}
    export(study, folder)
    out = folder.path / "export"
    table = pd.read_csv(out / "probe-transfer.csv")
    # To three checkpoints, to the other dimension of one's own, and reworded, at two blocks.
    assert len(table) == 3 * 2 * (3 + 1 + 1) * 2
    same = table["dimension"] == table["target_dimension"]
    reworded = table[same & table["wording"].notna()]
    assert set(reworded["wording"]) == {"somebody said: {statement}"} and len(reworded) == 12
    assert (reworded["source"] == reworded["target"]).all()
    assert (reworded["cosine"] < 0.999).all() and reworded["noise_chance"].isna().all()
    within = table[same & table["wording"].isna()]
    assert set(zip(within["source_stage"], within["target_stage"], strict=True)) == {
        (a, b) for a in ("pretraining", "sft") for b in ("pretraining", "sft")
    }
    assert within["same_reading"].all()

    own = within[within["source"] == within["target"]].set_index(["dimension", "source", "layer"])
    assert (own["cosine"] - 1).abs().max() < 1e-9 and own["noise_chance"].notna().all()
    measured = pd.read_csv(out / "analysis-seed0" / "measurements.csv")
    probes = measured[measured["estimator"] == "probe_accuracy"]
    expected = probes.set_index(["dimension", "checkpoint", "layer"])["value"]
    for place, accuracy in own["accuracy"].items():
        assert accuracy == pytest.approx(expected[place], abs=1e-12)
    assert list(probes.drop_duplicates("step")["stage"]) == ["pretraining", "pretraining", "sft"]
    others = within[within["source"] != within["target"]]
    assert others["noise_chance"].isna().all() and (others["cosine"] < 0.999).all()

    figures = {path.stem for path in (out / "figures").glob("*.png")}
    assert "transfer-accuracy-fairness-L2" in figures and "fragility" in figures
    assert "different tokens" not in caplog.text


def test_a_rewording_holds_the_statement(text: str, open_study: Open) -> None:
    with pytest.raises(InputError, match=r"rewordings.*'somebody said' is no rewording"):
        open_study(text.replace("somebody said: {statement}", "somebody said"))
    plain = open_study(text.replace('rewordings: ["somebody said: {statement}"]', ""))
    names = {cell.name for cell in plain.grid().cells}
    more = {cell.name for cell in open_study(text).grid().cells} - names
    assert {name.split("/")[0] for name in more} == {"activations", "transfer"}
    assert all("-reworded-" in name for name in more if name.startswith("activations"))


def test_a_further_checkpoint_touches_what_is_applied_to_it(text: str, open_study: Open) -> None:
    names = {cell.name for cell in open_study(text).grid().cells}
    fewer = {cell.name for cell in open_study(text + "checkpoints: ckpt_000, sft\n").grid().cells}
    assert {name.split("/")[0] for name in fewer - names} == {"transfer"}
    other = {
        cell.name for cell in open_study(text.replace("controls: 2", "controls: 3")).grid().cells
    }
    assert {name.split("/")[0] for name in other - names} == {"analysis", "transfer"}


def test_a_tokenizer_that_changes_is_said(
    text: str, open_study: Open, folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    cells = open_study(text).grid().activations

    def plant(cell: ActivationCell) -> None:
        tuned = cell.model.stage == "sft"
        reading = {
            "ids": "b" if tuned else "a",
            "tokens": 9,
            "last": 1.0 if tuned else 0.5,
            "last_token": "</s>" if tuned else ".",
            "chat_template": "c" if tuned else "",
        }
        folder.publish(cell, lambda out: {"reading": reading})

    for cell in cells:
        plant(cell)
    table = reading_table(cells, folder)
    assert list(table["stage"]) == ["pretraining", "pretraining", "sft"] * 2
    with caplog.at_level(logging.WARNING):
        warn_of_readings(table)
    assert "statements of fairness as different tokens (ckpt_001 to sft)" in caplog.text
    assert "end every statement of reliability in one token (ckpt_001 to sft)" in caplog.text
    assert caplog.text.count("The chat template changes (ckpt_001 to sft)") == 1
