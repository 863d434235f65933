"""GGUF control vectors: what is written, what other tools' writers give, and bad files."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.foreign_vectors import (
    FORMATS,
    export_vector,
    read_gguf,
    write_llama_cpp,
    write_repeng,
)
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

PROVENANCE = Provenance(
    "weaver", "1", "fairness", "official", "grouped", 0, "train", "pca", ("ä",), ("g",)
)


def some_vector(provenance: Provenance | None = PROVENANCE) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    layers = {
        index: LayerVector(torch.randn(8, generator=generator), projection_std=0.7, state_norm=9.0)
        for index in (0, 2, 5)
    }
    return SteeringVector(layers, provenance)


def write(
    path: Path,
    tensors: dict[str, np.ndarray],
    architecture: str = "controlvector",
    hint: str = "controlvector.model_hint",
) -> Path:
    """Write a file as repeng's ``export_gguf`` does, of any tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string(hint, "llama")
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ones(width: int = 8, dtype: type = np.float32) -> np.ndarray:
    return np.ones(width, dtype=dtype)


@pytest.mark.parametrize("scale", ["projection_std", "relative", "unit", "none"])
def test_directions_are_alpha_times_the_scaled_vector(tmp_path: Path, scale: str) -> None:
    write_llama_cpp(some_vector(), tmp_path / "v.gguf", layers=[5, 2], alpha=-1.5, scale=scale)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert reader.get_field("controlvector.model_hint").contents() == "weaver"
    assert [tensor.name for tensor in reader.tensors] == ["direction.2", "direction.5"]
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [8]
        raw = some_vector().layer(int(tensor.name[-1])).direction.numpy().astype(np.float64)
        length = {"none": np.linalg.norm(raw), "unit": 1.0, "projection_std": 0.7, "relative": 9.0}[
            scale
        ]
        np.testing.assert_allclose(
            tensor.data, -1.5 * length * raw / np.linalg.norm(raw), rtol=1e-5
        )


def test_what_was_written_comes_back_with_its_provenance(tmp_path: Path) -> None:
    write_repeng(some_vector(), tmp_path / "v.gguf", layers=[0, 5], alpha=2.0, scale="none")
    for back in (read_gguf(tmp_path / "v.gguf"), load_vector(tmp_path / "v.gguf")):
        assert sorted(back.layers) == [0, 5] and back.provenance == PROVENANCE
        torch.testing.assert_close(
            back.layer(5).scaled("none"), 2 * some_vector().layer(5).direction
        )
        with pytest.raises(InputError, match="scale=none or scale=unit"):
            back.layer(5).scaled("projection_std")


def test_a_vector_of_unknown_origin(tmp_path: Path) -> None:
    write_llama_cpp(some_vector(None), tmp_path / "v.gguf", layers=[2], alpha=1, scale="none")
    assert read_gguf(tmp_path / "v.gguf").provenance is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_repengs_files_are_read(tmp_path: Path, dtype: type) -> None:
    data = {"direction.3": np.arange(6, dtype=dtype), "direction.1": -ones(6, dtype)}
    vector = read_gguf(write(tmp_path / "r.gguf", data))
    assert sorted(vector.layers) == [1, 3] and vector.provenance is None
    assert torch.equal(vector.layer(3).direction, torch.arange(6.0))
    assert torch.equal(vector.layer(1).direction, -torch.ones(6))


def test_zero_directions_add_nothing(tmp_path: Path) -> None:
    data = {"direction.1": 0 * ones(), "direction.2": ones()}
    assert sorted(read_gguf(write(tmp_path / "z.gguf", data)).layers) == [2]
    with pytest.raises(InputError, match="no direction other than zero"):
        read_gguf(write(tmp_path / "n.gguf", {"direction.1": 0 * ones()}))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"direction.x": ones()}, "tensor 'direction.x'; expected direction.N"),
        ({"direction.-1": ones()}, "tensor 'direction.-1'"),
        ({"blk.0.ffn_down.weight": ones()}, "tensor 'blk.0.ffn_down.weight'"),
        ({"direction.1": np.ones((2, 8), np.float32)}, "direction.1: .* one axis"),
        ({"direction.1": np.full(8, np.nan, np.float32)}, "direction.1: .*NaN"),
        ({"direction.1": ones(), "direction.2": ones(4)}, "mixes layers of widths"),
        ({"direction.1": ones(8, np.int32)}, "stores direction.1 as I32"),
        ({}, "no direction other than zero"),
    ],
)
def test_other_content_is_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_gguf(write(tmp_path / "bad.gguf", tensors))


def test_a_damaged_provenance_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "p.gguf", {"direction.1": ones()}, hint="lm_eval_trust.provenance")
    with pytest.raises(InputError, match=r"p\.gguf cannot be used: Not a provenance record"):
        read_gguf(file)


def test_quantised_directions_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "controlvector")
    blocks = gguf.quantize(np.ones((1, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("direction.1", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"stores direction\.1 as Q8_0; expected F32"):
        read_gguf(tmp_path / "q.gguf")


def test_models_are_no_control_vectors(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", {"direction.1": ones()}, architecture="llama")
    with pytest.raises(InputError, match="architecture 'llama'; expected a 'controlvector'"):
        read_gguf(file)


def test_files_cut_short_anywhere_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "v.gguf"
    write_llama_cpp(some_vector(), file, layers=[2, 5], alpha=1, scale="none")
    whole = file.read_bytes()
    for length in range(0, len(whole) - 32, 13):  # The last 32 bytes may be padding.
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"v\.gguf"):
            read_gguf(file)


@pytest.mark.parametrize("content", [b"layer,value\n1,2\n" * 9, b"GGUF\x07\x00\x00\x00" * 9])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(InputError, match="is not a whole GGUF file"):
        read_gguf(tmp_path / "t.gguf")
    with pytest.raises(InputError, match="no vector file"):
        read_gguf(tmp_path / "absent.gguf")


def test_impossible_exports_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    vector, file = some_vector(), tmp_path / "v.gguf"
    settings = {"layers": [2], "alpha": 1.0, "scale": "none"}
    with pytest.raises(InputError, match=r"llama\.cpp cannot steer the output of block 0"):
        write_llama_cpp(vector, file, **settings | {"layers": [0, 2]})
    for changes, message in (
        ({"layers": [1]}, "has no layer 1"),
        ({"layers": []}, "No layers"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"alpha": 0.0}, r"alpha=0\.0"),
        ({"alpha": 1e39}, r"alpha=1e\+39 .* not a finite number of float32"),
        ({"alpha": 1e-60}, "too small"),
        ({"scale": "unti"}, "Did you mean 'unit'"),
    ):
        for write_file in (write_llama_cpp, write_repeng):
            with pytest.raises(InputError, match=message):
                write_file(vector, file, **settings | changes)
    with pytest.raises(InputError, match=r"must end in \.gguf"):
        write_llama_cpp(vector, tmp_path / "v.bin", **settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExternalError, match="Cannot write"):
        write_llama_cpp(vector, tmp_path / "file" / "v.gguf", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_back_as_what_it_adds(tmp_path: Path, name: str) -> None:
    file = tmp_path / ("v.pt" if name == "lm_eval" else "v.gguf")
    usage = export_vector(some_vector(), file, tool=name, layers=[2], alpha=3.0, scale="unit")
    added = load_vector(file).layer(2).scaled("none")
    torch.testing.assert_close(added, 3 * some_vector().layer(2).unit)
    assert str(file) in usage


def test_an_unknown_format_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'repeng'"):
        export_vector(some_vector(), tmp_path / "v.gguf", tool="repen", layers=[2])


def test_what_depends_on_the_state_is_not_exported(tmp_path: Path) -> None:
    file = tmp_path / "v.gguf"
    with pytest.raises(InputError, match="action=ablate cannot be exported"):
        export_vector(some_vector(), file, tool="repeng", layers=[2], action="ablate")
    assert not file.exists()
