from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.hf_steered import SteeredModel
from transformers import AutoModelForCausalLM

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.steering.foreign_vectors import read_pt, write_lm_eval
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

PROVENANCE = Provenance(
    "weaver", "1", "fairness", "official", "grouped", 0, "train", "pca", ("a",), ("g",)
)


def some_vector(width: int = 32) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    layers = {
        index: LayerVector(torch.randn(width, generator=generator), projection_std=0.7, target=0.2)
        for index in (0, 2)
    }
    return SteeringVector(layers, PROVENANCE)


class RunsCode:
    """What an attacker pickles: on loading, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("scale", ["projection_std", "unit", "none"])
def test_lm_eval_gives_the_logits_that_we_give(
    tiny_llama: Callable[..., Path], tmp_path: Path, scale: str
) -> None:
    folder, file = tiny_llama(), tmp_path / "s.pt"
    write_lm_eval(some_vector(), file, layers=[0, 2], alpha=-1.5, scale=scale)
    theirs = SteeredModel(
        pretrained=str(folder), steer_path=str(file), device="cpu", dtype="float32"
    )
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    plan = SteeringPlan.from_vector(some_vector(), [0, 2], alpha=-1.5, positions="all", scale=scale)
    tokens = torch.arange(3, 43).reshape(2, 20)
    with torch.no_grad():
        plain = ours(tokens).logits
        with Steerer(ours, plan).apply(0):
            steered = ours(tokens).logits
    assert torch.equal(theirs._model_call(tokens), steered)
    assert (steered - plain).abs().max() > 0.1


def test_an_export_comes_back_as_what_it_adds(tmp_path: Path) -> None:
    file = tmp_path / "s.pt"
    write_lm_eval(some_vector(), file, layers=[2], alpha=3.0, scale="unit")
    back = load_vector(file)
    assert list(back.layers) == [2]
    torch.testing.assert_close(back.layer(2).scaled("none"), 3.0 * some_vector().layer(2).unit)
    assert back.provenance == PROVENANCE
    with pytest.raises(InputError, match="scale=none or scale=unit"):
        back.layer(2).scaled("projection_std")


def test_a_clamp_becomes_a_target(tmp_path: Path) -> None:
    file = tmp_path / "s.pt"
    entry = {"steering_vector": torch.ones(4), "steering_coefficient": 2.5, "action": "clamp"}
    torch.save({"model.layers.3": entry}, file)
    assert read_pt(file).layer(3).target == 2.5
    assert torch.equal(read_pt(file).layer(3).direction, torch.ones(4))


def test_half_precision_is_multiplied_in_float32(tmp_path: Path) -> None:
    file, vector = tmp_path / "s.pt", torch.tensor([300.0, -1.0]).half()
    torch.save({"layers.1": entry(steering_vector=vector, steering_coefficient=300.1)}, file)
    expected = torch.tensor([300.1 * 300, -300.1])
    torch.testing.assert_close(read_pt(file).layer(1).direction, expected)


def test_a_file_of_several_origins_is_refused(tmp_path: Path) -> None:
    file, joined = tmp_path / "s.pt", {}
    for layer, dimension in ((0, "fairness"), (2, "toxicity")):
        origin = dataclasses.replace(PROVENANCE, dimension=dimension)
        vector = SteeringVector(some_vector().layers, origin)
        write_lm_eval(vector, file, layers=[layer], alpha=1, scale="none")
        joined |= torch.load(file, weights_only=True)
    torch.save(joined, file)
    with pytest.raises(InputError, match=r"s\.pt joins vectors of 2 origins"):
        read_pt(file)


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_a_bare_tensor_belongs_to_the_layer_of_its_name(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = tmp_path / "ckpt_179_layer18.pt"
    torch.save(torch.arange(6.0).reshape(shape).half(), file)
    vector = read_pt(file)
    assert torch.equal(vector.layer(18).direction, torch.arange(6.0))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("multilayer2_layer15", 15),
        ("MultiLayer2-Layer-15", 15),
        ("player3_layer_15", 15),
        ("layer015", 15),
        ("layer15_of_32", 15),
        ("layer15_copy_of_layer15", 15),
        ("ckpt_179_layer15.v2", 15),
    ],
)
def test_the_layer_is_the_number_behind_the_word(tmp_path: Path, name: str, layer: int) -> None:
    torch.save(torch.ones(6), tmp_path / f"{name}.pt")
    assert list(read_pt(tmp_path / f"{name}.pt").layers) == [layer]


@pytest.mark.parametrize(
    "name",
    [
        "v",
        "layers12",
        "multilayer2",
        "layer2_layer15",
        "layer12-15",
        "layer1.5",
        "layer",
        "player7",
    ],
)
def test_a_name_that_tells_no_layer_or_several_is_refused(tmp_path: Path, name: str) -> None:
    torch.save(torch.ones(6), tmp_path / f"{name}.pt")
    with pytest.raises(InputError, match="its name must tell the layer"):
        read_pt(tmp_path / f"{name}.pt")


def test_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    file, trap = tmp_path / "layer1.pt", tmp_path / "trap"
    torch.save({"layers.1": RunsCode(trap)}, file)
    for read in (read_pt, load_vector):
        with pytest.raises(InputError, match=r"refused.*would run code"):
            read(file)
    assert not trap.exists()
    torch.load(file, weights_only=False)
    assert trap.exists(), "the trap would have worked"


def test_a_pickle_that_ends_before_its_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "layer1.pt"
    torch.save(torch.ones(6), file)
    with zipfile.ZipFile(file) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, b"\x80\x02." if name.endswith("data.pkl") else content)
    with pytest.raises(InputError, match=r"layer1\.pt is not a whole \.pt file"):
        read_pt(file)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "layer1.pt"
    torch.save(torch.ones(600), file)
    whole = file.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], b"layer,value\n"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"layer1\.pt"):
            read_pt(file)


def entry(**changes: Any) -> dict[str, Any]:
    whole = {"steering_vector": torch.ones(4), "steering_coefficient": 1.0, "action": "add"}
    return whole | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list"),
        ({}, "holds dict"),
        ({"layers.1.mlp": entry()}, "hook point 'layers.1.mlp'"),
        ({7: entry()}, "hook point 7"),
        ({"layers.1": torch.ones(4)}, "no tensor 'steering_vector'"),
        ({"layers.1": entry(steering_vector=[1.0])}, "no tensor 'steering_vector'"),
        ({"layers.1": entry(action="rotate")}, "action 'rotate'"),
        ({"layers.1": entry(bias=torch.ones(4))}, "sets 'bias'"),
        ({"layers.1": entry(head_index=0)}, "sets 'head_index'"),
        ({"layers.1": entry(steering_coefficient="two")}, "coefficient 'two'"),
        ({"layers.1": entry(steering_coefficient=float("nan"))}, "coefficient 'nan'"),
        ({"layers.1": entry(steering_coefficient=1e39)}, "coefficient '1e\\+39'"),
        ({"layers.1": entry(steering_coefficient=10**400)}, "coefficient '1000"),
        ({"layers.1": entry(steering_coefficient=True)}, "coefficient 'True'"),
        ({"layers.1": entry(steering_vector=torch.ones(4).int())}, "this one is int32"),
        ({"layers.1": entry(steering_vector=torch.ones(4) * 1j)}, "this one is complex64"),
        ({"layers.1": entry(steering_vector=torch.ones(4).to_sparse())}, "sparse_coo"),
        ({"layers.1": entry(steering_vector=torch.ones(4) * 1e300)}, "4 NaN or infinite"),
        ({"layers.1": entry(steering_vector=torch.ones(2, 4))}, "one axis"),
        ({"layers.1": entry(steering_vector=torch.zeros(4))}, "is zero"),
        ({"layers.1": entry(), "model.layers.1": entry()}, "two entries for layer 1"),
        ({"layers.1": entry(lm_eval_trust_provenance="{}")}, r"s\.pt cannot be used: Not a prov"),
        ({"layers.1": entry(), "layers.2": entry(steering_vector=torch.ones(5))}, "mixes"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(InputError, match=message):
        read_pt(tmp_path / "s.pt")


def test_impossible_exports_are_refused(tmp_path: Path) -> None:
    vector = some_vector()
    with pytest.raises(InputError, match=r"must end in \.pt"):
        write_lm_eval(vector, tmp_path / "s.bin", layers=[0], alpha=1, scale="none")
    with pytest.raises(InputError, match="has no layer 1"):
        write_lm_eval(vector, tmp_path / "s.pt", layers=[1], alpha=1, scale="none")
    with pytest.raises(InputError, match="No layers"):
        write_lm_eval(vector, tmp_path / "s.pt", layers=[], alpha=1, scale="none")
    with pytest.raises(InputError, match="alpha"):
        write_lm_eval(vector, tmp_path / "s.pt", layers=[0], alpha=float("inf"), scale="none")
    assert list(tmp_path.iterdir()) == []
