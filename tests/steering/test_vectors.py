from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.vector_files import FORMAT
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

PROVENANCE = Provenance(
    model="weaver",
    revision="first",
    dimension="reliability",
    data_source="official",
    split="grouped",
    split_seed=3,
    part="train",
    method="mass_mean",
    items=("a", "b"),
    groups=("g",),
    settings={"dtype": "float32", "town": "Zürnvale"},
    versions={"torch": "2"},
)


def some_vector() -> SteeringVector:
    generator = torch.Generator().manual_seed(0)
    layers = {
        2: LayerVector(torch.randn(8, generator=generator), projection_std=0.1, target=-1 / 3),
        11: LayerVector(torch.randn(8, generator=generator)),
    }
    return SteeringVector(layers, PROVENANCE)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "v.safetensors"
    some_vector().save(path)
    return path


def test_a_vector_is_shown_in_a_line() -> None:
    shown = "<SteeringVector vector: layers [2, 11], width 8"
    assert repr(some_vector()) == f"{shown}, mass_mean of 2 statements from weaver>"
    assert repr(SteeringVector(some_vector().layers)) == f"{shown}>"


def test_what_is_saved_is_loaded(saved: Path) -> None:
    vector, expected = load_vector(saved), some_vector()
    assert vector.provenance == PROVENANCE
    assert vector.name == str(saved)
    assert list(vector.layers) == [2, 11]
    for index, layer in expected.layers.items():
        assert torch.equal(vector.layer(index).direction, layer.direction)
        assert vector.layer(index).projection_std == layer.projection_std
        assert vector.layer(index).target == layer.target


def test_the_provenance_can_be_read_without_this_package(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        record = json.loads(file.metadata()["provenance"])
        names = sorted(file.keys())
    assert record["model"] == "weaver" and record["settings"]["town"] == "Zürnvale"
    assert names == ["layers.11", "layers.2"]


def test_layers_may_share_one_tensor(tmp_path: Path) -> None:
    path, rows = tmp_path / "v.safetensors", torch.randn(2, 8)
    shared = LayerVector(rows[0])
    SteeringVector({1: shared, 2: shared, 3: LayerVector(rows[1])}).save(path)
    back = load_vector(path)
    for layer, row in ((1, 0), (2, 0), (3, 1)):
        assert torch.equal(back.layer(layer).direction, rows[row])


@pytest.mark.parametrize("ending", [".pt", ".pth", ".gguf"])
def test_endings_that_would_be_misread_are_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match=rf"v\{ending} ends in .* name it FILE\.safetensors"):
        some_vector().save(tmp_path / f"v{ending}")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no vector file .*missing\.safetensors"):
        load_vector(tmp_path / "missing.safetensors")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    path.write_text("layer,value\n1,2\n")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_vector(path)


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_a_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_vector(saved)


def test_a_loaded_vector_outlives_its_file(saved: Path) -> None:
    vector = load_vector(saved)
    os.truncate(saved, 0)
    assert torch.equal(vector.layer(11).direction, some_vector().layer(11).direction)


def test_every_flipped_byte_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        saved.write_bytes(damaged)
        with pytest.raises(InputError):
            load_vector(saved)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    save_file({"lora.weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"another layout \(tensors lora\.weight"):
        load_vector(path)


def test_our_format_without_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    save_file({"layers.1": torch.ones(2)}, path, metadata={"format": FORMAT, "layers": "{}"})
    with pytest.raises(InputError, match="checksum"):
        load_vector(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    direction = torch.tensor([1.0, value])
    with pytest.raises(InputError, match="1 NaN or infinite"):
        LayerVector(direction)
    for name in ("projection_std", "target", "state_norm"):
        with pytest.raises(InputError, match=f"{name} is {value}"):
            LayerVector(torch.ones(2), **{name: value})


def test_a_file_with_values_that_are_not_finite_is_refused(saved: Path) -> None:
    layer = LayerVector(torch.ones(8))
    layer.direction[3] = float("nan")
    SteeringVector({1: layer}).save(saved)
    with pytest.raises(InputError, match=r"v\.safetensors cannot be used: .*NaN"):
        load_vector(saved)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="has no layer 5; it holds 2, 11"):
        some_vector().layer(5)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_as_it_was(
    saved: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(ExternalError, match="No space left on device"):
        SteeringVector({1: LayerVector(torch.ones(4))}).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_description_tells_layers_and_origin() -> None:
    lines = some_vector().describe().splitlines()
    assert lines[0] == "vector: width 8"
    assert lines[2].split()[0] == "2" and lines[2].split()[2:] == ["0.1", "-", "-0.333333"]
    assert lines[3].split()[0] == "11" and lines[3].split()[2:] == ["-", "-", "-"]
    assert "  split_seed: 3" in lines and "  items: 2" in lines
    assert "unknown" in SteeringVector({1: LayerVector(torch.ones(2))}).describe()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(4, dtype=torch.int64), "this one is int64"),
        (torch.ones(4, dtype=torch.bool), "this one is bool"),
        (torch.ones(4).to(torch.float8_e4m3fn), "this one is float8_e4m3fn"),
        (torch.ones(4, dtype=torch.complex64), "this one is complex64"),
        (torch.ones(4, device="meta"), "this one is meta"),
        (torch.ones(4).to_sparse(), r"this one is float32 \(sparse_coo\)"),
        ([1.0, 2.0], "this is a list"),
        (torch.full((4,), 1e300, dtype=torch.float64), "4 NaN or infinite values as float32"),
        (torch.full((4,), 3e38), "length is infinite"),
    ],
)
def test_only_dense_real_numbers_of_a_finite_length_are_a_vector(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LayerVector(values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_real_types_become_float32(dtype: torch.dtype) -> None:
    assert LayerVector(torch.ones(4, dtype=dtype)).direction.dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, -0.5, 1e39, True, "0.5"])
def test_a_spread_that_is_none_is_refused(value: Any) -> None:
    for name in ("projection_std", "state_norm"):
        with pytest.raises(InputError, match=f"{name} is"):
            LayerVector(torch.ones(4), **{name: value})


def test_the_length_of_states_is_kept_in_the_file_and_scales(tmp_path: Path) -> None:
    direction = torch.tensor([3.0, 0.0, 4.0, 0.0])
    SteeringVector({2: LayerVector(direction, state_norm=20.0)}).save(tmp_path / "v.safetensors")
    read = load_vector(tmp_path / "v.safetensors").layer(2)
    torch.testing.assert_close(read.scaled("relative"), torch.tensor([12.0, 0.0, 16.0, 0.0]))
    with pytest.raises(InputError, match="does not carry the length of the hidden states"):
        LayerVector(direction).scaled("relative")
