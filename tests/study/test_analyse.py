"""From activation sets to tables: planted signals, resuming, sets that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from lm_eval_trust.analysis.information import InformationSettings
from lm_eval_trust.analysis.probing import ProbeSettings
from lm_eval_trust.benchmarks.partition import partition
from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError, MissingDataError
from lm_eval_trust.study import analyse as module
from lm_eval_trust.study.activation_sets import SetInfo, find_sets, read_set, save_set
from lm_eval_trust.study.analyse import analyse
from lm_eval_trust.study.measure import AnalysisSettings

SETTINGS = AnalysisSettings(ProbeSettings(controls=2), InformationSettings(permutations=20))
STEPS = (0, 1, 4, 16, 64, 256, 1024)


def write(folder: Path, number: int, *, n: int = 60, strength: float | None = None) -> Path:
    """A set whose layer 2 tells the label the better, the later the checkpoint."""
    random = np.random.default_rng(number)
    labels = np.arange(n) % 2
    activations = random.normal(size=(n, 2, 5)).astype(np.float32)
    activations[:, 1, 0] += (number if strength is None else strength) * (labels - 0.5)
    groups = [f"g{i // 2}" for i in range(n)]
    info = SetInfo(f"ckpt_{number:03d}", STEPS[number], 512 * STEPS[number], "privacy", "mini", "m")
    return save_set(
        folder,
        info,
        activations,
        layers=(0, 2),
        labels=labels,
        groups=groups,
        parts=partition(groups),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(len(STEPS)):
        write(tmp_path / "sets", number)
    return tmp_path / "sets"


def values(table: pd.DataFrame, estimator: str, layer: int) -> list[float]:
    chosen = table[(table["estimator"] == estimator) & (table["layer"] == layer)]
    return list(chosen.sort_values("step")["value"])


def test_a_set_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    found = read_set(path)
    assert (found.info.checkpoint, found.info.step, found.layers) == ("ckpt_003", 16, (0, 2))
    parts = partition([f"g{i // 2}" for i in range(60)])
    assert np.array_equal(found.parts.train, parts.train)
    assert np.array_equal(found.parts.test, parts.test)
    assert found.layer(2).shape == (60, 5)
    with pytest.raises(InputError, match="no layer 1"):
        found.layer(1)


def change_a_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("position", [-1, -700])
def test_a_changed_byte_is_refused(folder: Path, tmp_path: Path, position: int) -> None:
    path = read_set(next(folder.glob("ckpt_003/*"))).path
    change_a_byte(path, position)
    with pytest.raises(InputError, match=f"{path} was changed since it was made"):
        analyse(folder, tmp_path / "out", SETTINGS)


def test_a_changed_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ckpt_003", b"ckpt_004"))
    with pytest.raises(InputError, match="was changed since it was made"):
        read_set(path)


def test_a_set_of_a_release_without_checksums_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    with safe_open(path, framework="np") as file:
        record = json.loads(file.metadata()["lm_eval_trust"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del record["checksums"]
    save_file(tensors, path, {"lm_eval_trust": json.dumps(record)})
    assert read_set(path).layer(2).shape == (60, 5)


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
    assert set(analysis.phases["layer"]) == {0, 2}
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert {"measurements.parquet", "measurements.csv", "phases.csv"} <= files
    assert {"figures/probing.png", "figures/nhsic.svg", "figures/nhsic-plane.pdf"} <= files


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
    assert len(find_sets(Path(sets))) == 4
    damaged = Path(sets) / "ckpt_001" / "privacy.safetensors"
    whole = damaged.read_bytes()
    change_a_byte(damaged, -1)
    assert main([*store, *chosen]) == 0 and damaged.read_bytes() == whole
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
    assert "privacy: probe accuracy" in printed and "of ckpt_001" in printed
    assert main(["analyze", sets, "--out", out, "--sigma", "median,50,400", *options]) == 0
    table = pd.read_parquet(Path(out) / "measurements.parquet")
    widths = table[table["estimator"] == "nhsic_ty"].groupby("settings").size()
    assert len(widths) == 3 and widths.nunique() == 1
    assert main(["analyze", sets, "--out", out, "--c", "much"]) == 2
    assert "--c much is not a number" in capfd.readouterr().err
    assert main(["analyze", sets, "--out", out, "--estimator", "mi"]) == 2
