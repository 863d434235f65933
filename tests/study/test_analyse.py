"""From activation sets to tables: planted signals, resuming, sets that do not fit together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.planted_sets import SETTINGS, STEPS, change_a_byte, write

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.partition import Partition, partition
from lm_eval_trust.cli import main
from lm_eval_trust.cli.analyze import last_probes
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.models.untrained import UNTRAINED
from lm_eval_trust.study import analyse as module
from lm_eval_trust.study.activation_sets import find_sets, read_set
from lm_eval_trust.study.analyse import analyse
from lm_eval_trust.study.measure import AnalysisSettings, sampled_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(len(STEPS)):
        write(tmp_path / "sets", number)
    return tmp_path / "sets"


def values(table: pd.DataFrame, estimator: str, layer: int) -> list[float]:
    chosen = table[(table["estimator"] == estimator) & (table["layer"] == layer)]
    return list(chosen.sort_values("step")["value"])


@pytest.mark.slow
def test_a_changed_cell_is_measured_again(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = analyse(folder, tmp_path / "out", SETTINGS).table
    file = tmp_path / "out" / "cells" / "ckpt_003" / "privacy.json"
    file.write_text(file.read_text().replace('"value": 0.', '"value": 0.9'))
    again = analyse(folder, tmp_path / "out", SETTINGS).table
    pd.testing.assert_frame_equal(first, again)
    assert f"{file} was changed" in caplog.text


def test_a_planted_signal_shows_where_it_was_planted(folder: Path, tmp_path: Path) -> None:
    analysis = analyse(folder, tmp_path / "out", SETTINGS)
    told = values(analysis.table, "probe_accuracy", 2)
    assert told[-1] > 0.95 and told[0] < 0.8
    assert max(values(analysis.table, "probe_accuracy", 0)) < 0.85
    labels = values(analysis.table, "nhsic_ty", 2)
    assert labels[-1] > 1.5 * labels[0]
    assert values(analysis.table, "cka_final", 2)[-1] == pytest.approx(1.0)
    assert set(analysis.phases["layer"]) == {2}
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert {"measurements.parquet", "measurements.csv", "phases.csv"} <= files
    assert {"figures/probing.png", "figures/nhsic.svg", "figures/nhsic-plane.pdf"} <= files


def test_probes_stand_beside_their_controls(tmp_path: Path) -> None:
    for number in (0, 6):
        write(tmp_path / "sets", number, matched=True)
    write(tmp_path / "sets", 0, untrained=True, strength=2.0)
    analysis = analyse(tmp_path / "sets", tmp_path / "out", SETTINGS)
    first, last = analysis.probes.to_dict("records")
    assert (last["checkpoint"], last["layer"]) == ("ckpt_006", 2)
    assert last["accuracy"] > 0.95 and last["selectivity"] > 0.3
    assert last["words"] == first["words"] and 0.55 < last["words"] < 0.95
    assert last["over_words"] == pytest.approx(last["accuracy"] - last["words"])
    assert last["over_words_low"] > 0 > first["over_words_low"]
    assert last["untrained_model"] == UNTRAINED and 0.5 < last["untrained"] < 1.0
    assert last["matched"] == last["accuracy"]
    # These statements have no capitals, so they are the matched ones.
    assert last["matched_words"] == last["words"]
    assert last["matched_over_words"] == pytest.approx(last["matched"] - last["matched_words"])
    assert last["matched_over_words_low"] > 0 > first["matched_over_words_low"]
    # The untrained model is no checkpoint: it is measured by probes alone.
    beside = analysis.table[analysis.table["checkpoint"] == UNTRAINED]
    endings = set(beside["estimator"].str.removeprefix("probe_untrained"))
    assert endings == {"", "_validation", "_validation_auroc"}
    assert (tmp_path / "out" / "probes.csv").is_file()


def test_models_without_steps_are_analysed_side_by_side(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.planted_sets.STEPS", (0,) * 3)
    for number in range(3):
        write(tmp_path / "sets", number, n=24)
    analysis = analyse(tmp_path / "sets", tmp_path / "out", SETTINGS)
    assert "privacy: 3 checkpoints have 1 different training step" in caplog.text
    assert analysis.phases.empty and len(analysis.probes) == 3
    assert analysis.probes["untrained"].isna().all()
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert {"measurements.csv", "probes.csv", "figures/probing.svg"} <= files


def test_one_model_has_no_order_to_ask_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.planted_sets.STEPS", (None,))
    write(tmp_path / "sets", 0, n=24)
    assert analyse(tmp_path / "sets", tmp_path / "out", SETTINGS).phases.empty
    assert "training step" not in caplog.text


def test_tables_are_there_if_what_follows_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise InputError("no phases")

    monkeypatch.setattr(module, "_phases", broken)
    with pytest.raises(InputError, match="no phases"):
        analyse(folder, tmp_path / "out", SETTINGS)
    assert (tmp_path / "out" / "measurements.csv").is_file()
    assert (tmp_path / "out" / "probes.csv").is_file()


@pytest.mark.slow
def test_corrected_p_grows_with_layers_checkpoints_and_dimensions(
    folder: Path, tmp_path: Path
) -> None:
    table = analyse(folder, tmp_path / "out", SETTINGS).table
    told = table[table["estimator"] == "nhsic_ty"]
    assert (told["p_layers"] <= told["p_corrected"] + 1e-9).all()
    assert (told["p_smallest"] == 1 / 21).all()
    planted = told[told["layer"] == 2].sort_values("step")
    assert planted["p_corrected"].iloc[-1] <= 0.1 < planted["p_corrected"].iloc[0]
    assert table.loc[table["estimator"] == "probe_accuracy", "p"].isna().all()
    written = pd.read_csv(tmp_path / "out" / "measurements.csv")
    assert written["p_corrected"].dropna().tolist() == pytest.approx(
        table["p_corrected"].dropna().tolist()
    )


def test_designs_that_can_find_nothing_do_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (0, 6):
        write(tmp_path / "sets", number)
    settings = replace(SETTINGS, measures=("information",))
    whole = analyse(tmp_path / "sets", tmp_path / "out", settings).table
    assert "is no evidence" not in caplog.text
    told = whole[(whole["estimator"] == "nhsic_ty") & (whole["checkpoint"] == "ckpt_006")]
    assert told["p_alone"].tolist() == pytest.approx([2 / 21] * 2)
    # One group for each label: nothing but the labels' names can change places.
    for number in (0, 6):
        write(tmp_path / "sets", number, dimension="toxicity", by_label=True)
    found = analyse(tmp_path / "sets", tmp_path / "out", settings).table
    assert "toxicity: no p of nhsic_ty can be below 1" in caplog.text
    unable = found[found["dimension"] == "toxicity"]
    assert unable["p_corrected"].isna().all()
    columns = ["checkpoint", "layer", "estimator", "p_corrected", "p_alone"]
    pd.testing.assert_frame_equal(
        found.loc[found["dimension"] == "privacy", columns].reset_index(drop=True),
        whole[columns].reset_index(drop=True),
    )


def test_a_finding_that_no_correction_can_leave_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--controls", "0", "--permutations", "30"]
    assert main(["analyze", str(folder), "--out", str(tmp_path / "out"), *options]) == 0
    printed = capsys.readouterr().out
    # Seven families at 1/31, of which one alone reaches 7/31.
    assert "alone has p ≥ 0.226; a smaller p needs --permutations 140 or more" in printed


def test_dependence_is_measured_on_whole_groups(tmp_path: Path) -> None:
    found = read_set(write(tmp_path, 1))
    rows = sampled_rows(found, 21, seed=3)
    assert len(rows) == 20 and list(rows) == sorted(rows)
    assert np.isin(found.groups, found.groups[rows]).sum() == len(rows)
    assert list(sampled_rows(found, 60, seed=0)) == list(range(60))


@pytest.mark.slow
def test_a_set_without_statements_is_analysed_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "sets", 6)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["texts"]
    save_file(tensors, path, metadata)
    found = analyse(tmp_path / "sets", tmp_path / "out", SETTINGS)
    assert "earlier version hold no statements" in caplog.text
    assert found.probes["words"].isna().all() and found.probes["accuracy"].notna().all()


@pytest.mark.parametrize(("n", "few"), [(20, "with 5 groups of items"), (60, "")])
def test_intervals_of_probes_over_few_groups_come_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, n: int, few: str
) -> None:
    write(tmp_path / "sets", 6, n=n)
    analyse(tmp_path / "sets", tmp_path / "out", replace(SETTINGS, measures=("probes",)))
    warned = [text for text in caplog.messages if text.startswith("Probes of privacy")]
    assert [few in text for text in warned] == ([True] if few else [])


@pytest.mark.slow
def test_finished_cells_are_not_computed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = analyse(folder, tmp_path / "whole", SETTINGS).table
    measure, seen = module.measure_set, []

    def broken(found: object, *rest: object) -> object:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(found)
        return measure(found, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "measure_set", broken)
        analyse(folder, tmp_path / "out", SETTINGS)
    count: list[object] = []
    monkeypatch.setattr(
        module,
        "measure_set",
        lambda *a: count.append(a) or measure(*a),  # type: ignore[func-returns-value]
    )
    pd.testing.assert_frame_equal(analyse(folder, tmp_path / "out", SETTINGS).table, whole)
    assert len(count) == len(STEPS) - 3
    count.clear()
    analyse(folder, tmp_path / "out", SETTINGS)
    assert not count
    other = AnalysisSettings(ProbeSettings(controls=1), InformationSettings(permutations=20))
    analyse(folder, tmp_path / "out", other)
    assert len(count) == len(STEPS)


def test_unequal_n_is_refused(folder: Path, tmp_path: Path) -> None:
    write(folder, 4, n=58)
    with pytest.raises(InputError, match=r"60 statements and .*ckpt_004.* 58.*equal n"):
        analyse(folder, tmp_path / "out", SETTINGS)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"wording": "a {} mill"}, "statements"),
        ({"flipped": True}, "labels"),
        ({"source": "tracingllm"}, "data source"),
        ({"split": "random"}, "parts"),
        ({"split": "random", "untrained": True}, "parts"),
    ],
)
def test_sets_of_other_statements_are_refused(
    folder: Path, tmp_path: Path, other: dict[str, Any], named: str
) -> None:
    path = write(folder, 4, **other)
    with pytest.raises(InputError, match=rf"{path.parent.name}/.* differ in .*{named}"):
        analyse(folder, tmp_path / "out", SETTINGS)


def test_a_copied_set_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "ckpt_003", folder / "ckpt_003_old")
    with pytest.raises(InputError, match=r"ckpt_003/.* and .*ckpt_003_old/.* both of ckpt_003"):
        analyse(folder, tmp_path / "out", SETTINGS)


def test_the_input_has_a_value_but_is_not_tested_against_itself(
    folder: Path, tmp_path: Path
) -> None:
    analysis = analyse(folder, tmp_path / "out", replace(SETTINGS, measures=("information",)))
    of_input = analysis.table[analysis.table["estimator"] == "nhsic_tx"].set_index("layer")
    assert of_input["value"].notna().all()
    for column in ("p", "p_smallest", "p_layers", "p_corrected"):
        assert of_input.loc[0, column].isna().all() and of_input.loc[2, column].notna().all()
    assert set(analysis.phases["layer"]) == {2}


def test_without_block_0_there_is_no_dependence_on_the_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(len(STEPS)):
        write(tmp_path / "sets", number, n=24, layers=(5, 6))
    analysis = analyse(
        tmp_path / "sets", tmp_path / "out", replace(SETTINGS, measures=("information",))
    )
    assert set(analysis.table["estimator"]) == {"nhsic_ty"} and analysis.phases.empty
    assert "holds blocks 5, 6, and X is the output of block 0" in caplog.text
    assert "--layers 0,5,6" in caplog.text
    drawn = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert drawn == {"nhsic"}


@pytest.mark.parametrize(
    ("part", "regularisations", "said"),
    [
        ("validation", (1.0,), "no layer can be chosen"),
        ("validation", (0.1, 1.0), "no probes are fitted: the validation part"),
        ("test", (1.0,), "no probes are fitted: the test part has no statements"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_part_without_statements_is_told_and_the_rest_is_measured(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    regularisations: tuple[float, ...],
    said: str,
) -> None:
    whole = partition

    def without(groups: list[str]) -> Partition:
        return replace(whole(groups), **{part: np.empty(0, dtype=np.int64)})

    write(tmp_path / "sets", 6)
    probes = ProbeSettings(regularisations, controls=1)
    analyse(tmp_path / "sets", tmp_path / "out", replace(SETTINGS, probes=probes))
    assert (tmp_path / "out" / "probes.csv").is_file()
    monkeypatch.setattr("support.planted_sets.partition", without)
    write(tmp_path / "sets", 6)
    found = analyse(tmp_path / "sets", tmp_path / "out", replace(SETTINGS, probes=probes))
    assert said in caplog.text and "--samples" in caplog.text
    measured = set(found.table["estimator"])
    assert {"nhsic_tx", "nhsic_ty"} <= measured
    assert ("probe_accuracy" in measured) == (said == "no layer can be chosen")
    # What an earlier analysis wrote is gone.
    assert found.probes.empty and not (tmp_path / "out" / "probes.csv").exists()
    drawn = (tmp_path / "out" / "figures" / "probing.png").exists()
    assert drawn == ("probe_accuracy" in measured)


def test_phases_of_an_earlier_analysis_do_not_stay(folder: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, measures=("information",))
    analyse(folder, tmp_path / "out", settings)
    assert (tmp_path / "out" / "phases.csv").is_file()
    for number in (5, 6):
        shutil.rmtree(folder / f"ckpt_{number:03d}")
    assert analyse(folder, tmp_path / "out", settings).phases.empty
    assert not (tmp_path / "out" / "phases.csv").exists()


def test_a_constant_block_is_aligned_to_nothing(tmp_path: Path) -> None:
    write(tmp_path / "sets", 6, constant=1)
    table = analyse(tmp_path / "sets", tmp_path / "out", SETTINGS).table
    cka = values(table, "cka_final", 0) + values(table, "cka_final", 2)
    assert cka[0] == pytest.approx(1.0) and np.isnan(cka[1])


def test_values_that_are_not_finite_are_told_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path / "sets", 6, strength=float("inf"))
    with pytest.raises(InputError, match=f"{path}, block 2: activations are not finite"):
        analyse(tmp_path / "sets", tmp_path / "out", SETTINGS)


def test_each_dimensions_last_probe_is_printed() -> None:
    rows = pd.DataFrame(
        {
            "dimension": ["a", "a", "b", "b", "c", "c"],
            "checkpoint": ["0", "1", "0", "1", "0", "1"],
            "step": pd.array([0, 20, 0, 10, None, None], dtype="Int64"),
        }
    )
    assert last_probes(rows).index.tolist() == [1, 3, 4, 5]


def test_the_first_checkpoint_is_untrained_only_if_it_has_seen_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = replace(SETTINGS, measures=("probes",))
    for number in (0, 6):
        path = write(tmp_path / "sets", number, n=24)
    found = analyse(tmp_path / "sets", tmp_path / "out", probes).probes
    assert set(found["untrained_model"]) == {"ckpt_000"}
    # Sets of an earlier format have 0 tokens where they are unknown.
    for path in (tmp_path / "sets").glob("*/*"):
        with safe_open(path, framework="np") as file:
            record = json.loads(file.metadata()["lm_eval_trust"])
        del record["format"]
        save_file(load_file(path), path, {"lm_eval_trust": json.dumps(record)})
    found = analyse(tmp_path / "sets", tmp_path / "out", probes).probes
    assert set(found["untrained_model"]) == {"first checkpoint ckpt_000"}
    monkeypatch.setattr("support.planted_sets.STEPS", (None, 1))
    for number in (0, 1):
        write(tmp_path / "unset", number, n=24)
    found = analyse(tmp_path / "unset", tmp_path / "out", probes).probes
    assert found["untrained"].isna().all() and found["step"].tolist() == [pd.NA, 1]


def test_damaged_and_missing_sets_are_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "ckpt_002" / "privacy.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="no whole activation set"):
        find_sets(folder)
    with pytest.raises(MissingDataError, match="holds no activation sets"):
        analyse(tmp_path / "empty", tmp_path / "out")


@pytest.mark.slow
def test_the_commands_store_and_analyse(
    tiny_llama: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sets, out = str(tmp_path / "sets"), str(tmp_path / "out")
    store = ["activations", "--out", sets, "--source", "mini", "--layers", "0,2"]
    store += ["--dimensions", "privacy,robustness"]
    for seed in (0, 1):
        model = str(tiny_llama(seed=seed))
        chosen = ["--model", model, "--checkpoint", f"ckpt_00{seed}", "--step", str(seed)]
        assert main([*store, *chosen]) == 0
        assert main([*store, *chosen]) == 0
    model = ["--model", str(tiny_llama(seed=1))]
    assert main([*store, *model, "--untrained"]) == 0
    assert main([*store, *model, "--checkpoint", "untrained"]) == 2
    assert "is the name of the control" in capfd.readouterr().err
    assert len(find_sets(Path(sets))) == 6
    assert read_set(Path(sets) / "ckpt_001" / "robustness.safetensors").controls == ("matched",)
    damaged = Path(sets) / "ckpt_001" / "privacy.safetensors"
    whole = load_file(damaged)
    change_a_byte(damaged, -1)
    assert main([*store, *chosen]) == 0
    assert all(np.array_equal(values, whole[n]) for n, values in load_file(damaged).items())
    assert main([*store, *chosen, "--split", "random", "--split-seed", "7"]) == 2
    assert "has other parts" in capfd.readouterr().err
    other = str(tiny_llama(seed=2))
    assert main([*store, "--model", other, "--checkpoint", "ckpt_001", "--step", "1"]) == 2
    assert "Choose another folder" in capfd.readouterr().err
    for name in ("../../esc", "a/b", ".hidden", ""):
        named = ["--model", other, "--checkpoint", name, "--step", "1"]
        assert main([*store, *named]) == (2 if name else 0)
    assert "without slashes" in capfd.readouterr().err
    assert not list(tmp_path.parent.rglob("esc*"))
    options = ["--controls", "1", "--permutations", "10", "--samples", "80", "--c", "0.1,1"]
    assert main(["analyze", sets, "--out", out, *options]) == 0
    printed = capfd.readouterr().out
    assert "privacy: probe accuracy" in printed and "of ckpt_001, chosen on" in printed
    assert "; n-grams 0." in printed and "; untrained 0." in printed
    assert "capitals matched 0." in next(x for x in printed.split("\n") if "robustness" in x)
    assert "the smallest p that can be reached is 0.0909" in printed
    assert "more cannot reach p ≤ 0.05 and do not count" in printed
    assert main(["analyze", sets, "--out", out, "--sigma", "median,50,400", *options]) == 0
    table = pd.read_parquet(Path(out) / "measurements.parquet")
    widths = table[table["estimator"] == "nhsic_ty"].groupby("settings").size()
    assert len(widths) == 3 and widths.nunique() == 1
    assert main(["analyze", sets, "--out", out, "--c", "much"]) == 2
    assert "--c much is not a number" in capfd.readouterr().err
    assert main(["analyze", sets, "--out", out, "--estimator", "mi"]) == 2
