"""``lm-eval-trust vector`` on invented statements and a tiny model, through the real parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from lm_eval_trust import cli
from lm_eval_trust.steering.conditions import When
from lm_eval_trust.steering.vectors import load_vector


@pytest.fixture
def statements(tmp_path: Path) -> Path:
    path = tmp_path / "towns.csv"
    lines = ["statement,label,group"]
    for town in range(12):
        lines += [f"Town {town} is in the hills.,0,{town}", f"Town {town} is by the sea.,1,{town}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def build(
    statements: Path, tiny_llama: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[int, Path]]:
    """Run ``vector build``; options replace the defaults."""

    def run(**options: str) -> tuple[int, Path]:
        out = tmp_path / "v.safetensors"
        defaults = {
            "model": str(tiny_llama()),
            "dimension": "reliability",
            "layers": "0-2",
            "source": str(statements),
            "device": "cpu",
            "out": str(out),
        }
        pairs = [(f"--{name}", value) for name, value in (defaults | options).items()]
        return cli.main(["vector", "build", *(word for pair in pairs for word in pair)]), out

    return run


def test_a_vector_is_built_from_a_users_own_statements(
    build: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = build(method="pca", part="development")
    assert code == 0
    vector = load_vector(out)
    assert sorted(vector.layers) == [0, 1, 2] and vector.provenance is not None
    assert (vector.provenance.method, vector.provenance.part) == ("pca", "development")
    assert len(vector.provenance.items) == 12
    assert "3 layers of width 32 from 12 statements" in capsys.readouterr().out


def test_show_prints_layers_and_provenance(
    build: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = build(layers="0+2")
    capsys.readouterr()
    assert cli.main(["vector", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[2:4]] == ["0", "2"]
    assert "method: mass_mean" in shown


def test_an_export_can_be_imported(build: Callable[..., tuple[int, Path]], tmp_path: Path) -> None:
    _, out = build()
    exported, imported = tmp_path / "s.pt", tmp_path / "back.safetensors"
    options = ["--layer", "1", "--alpha", "2", "--scale", "unit"]
    assert cli.main(["vector", "export", str(out), *options, "--out", str(exported)]) == 0
    assert cli.main(["vector", "import", str(exported), "--out", str(imported)]) == 0
    expected = 2 * load_vector(out).layer(1).unit
    torch.testing.assert_close(load_vector(imported).layer(1).direction, expected)


def test_a_control_vector_can_be_exported_and_imported(
    build: Callable[..., tuple[int, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = build()
    exported, imported = tmp_path / "c.gguf", tmp_path / "back.safetensors"
    options = ["--format", "gguf", "--layer", "1+2", "--alpha", "2", "--scale", "unit"]
    assert cli.main(["vector", "export", str(out), *options, "--out", str(exported)]) == 0
    assert f"--control-vector {exported}" in capsys.readouterr().out
    assert cli.main(["vector", "import", str(exported), "--out", str(imported)]) == 0
    back = load_vector(imported)
    torch.testing.assert_close(back.layer(2).direction, 2 * load_vector(out).layer(2).unit)
    assert back.provenance == load_vector(out).provenance
    wrong = ["--format", "ggfu", "--layer", "1", "--out", str(exported)]
    assert cli.main(["vector", "export", str(out), *wrong]) == 2
    assert "Did you mean 'gguf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": "relaibility"}, "Did you mean 'reliability'"),
        ({"layers": "2-1"}, "cannot be read"),
        ({"layers": "3"}, "Layer 3 is out of range"),
        ({"method": "pac"}, "Did you mean 'pca'"),
        ({"source": "nowhere.csv"}, "no file nowhere.csv"),
        ({"model": "./nowhere"}, "no model folder"),
        ({"part": "test"}, "part to build from 'test'"),
        ({"model": "./nowhere", "out": "v.pt"}, "v.pt ends in .pt"),
    ],
)
def test_wrong_input_is_explained(
    build: Callable[..., tuple[int, Path]],
    options: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out = build(**options)
    assert code == 2 and not out.exists()
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_vector_is_replaced_only_if_asked(
    build: Callable[..., tuple[int, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "v.safetensors"
    own.write_text("my notes", encoding="utf-8")
    assert build()[0] == 2
    assert f"{own} exists and is no steering vector" in capsys.readouterr().err
    assert own.read_text(encoding="utf-8") == "my notes"
    own.unlink()
    assert build()[0] == 0 and build(method="pca")[0] == 0
    other = tmp_path / "export.pt"
    other.write_text("my notes", encoding="utf-8")
    export = ["vector", "export", str(own), "--layer", "1", "--out", str(other)]
    assert cli.main(export) == 2
    assert cli.main([*export, "--overwrite"]) == 0 and cli.main(export) == 0
    assert cli.main(["vector", "import", str(other), "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_heads_are_chosen_and_named(
    build: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = build(heads="2")
    assert code == 0
    vector, printed = load_vector(out), capsys.readouterr().out
    assert vector.site == "heads" and vector.provenance is not None
    chosen = vector.provenance.settings["heads"]
    assert sum(map(len, chosen.values())) == 2 and vector.provenance.part == "development"
    assert f"steer with layer={'+'.join(chosen)}" in printed
    for layer, heads in chosen.items():
        assert f"layer {layer}: heads {', '.join(map(str, heads))}" in printed
        moved = vector.layer(int(layer)).direction.reshape(4, 8).any(dim=1)
        assert moved.nonzero()[:, 0].tolist() == heads


def test_options_that_do_not_go_with_heads_are_refused(
    build: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(heads="2", part="development")[0] != 0
    assert "part does not go with heads" in capsys.readouterr().err
    assert build(heads="99")[0] != 0
    assert "There are 12 heads in 3 layers" in capsys.readouterr().err


def test_a_threshold_is_suggested_as_a_steering_file_has_it(
    build: Callable[..., tuple[int, Path]],
    statements: Path,
    tiny_llama: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out = build()
    capsys.readouterr()
    asked = {"model": tiny_llama(), "vector": out, "layer": 1, "dimension": "reliability"}
    options = {**asked, "source": statements, "device": "cpu"}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    assert cli.main(["vector", "threshold", *words]) == 0
    first, second = capsys.readouterr().out.splitlines()
    when = When.parse(yaml.safe_load(first)["when"])
    assert (when.vector, when.layer) == (str(out), 1)
    assert second.startswith("F1 ") and "of the validation part" in second
