"""Objects of steering-vectors and repeng, and folders of pyreft, as these libraries make them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lm_eval_trust import cli
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.foreign_vectors import write_lm_eval
from lm_eval_trust.steering.hooks import steer
from lm_eval_trust.steering.objects import vector_from
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import load_vector

WIDTH, RANK = 6, 2
ROW = torch.arange(1.0, WIDTH + 1)


@dataclass
class SteeringVector:
    """The fields of steering-vectors' class of this name."""

    layer_activations: dict[int, torch.Tensor]
    layer_type: str = "decoder_block"


@dataclass
class ControlVector:
    """The fields of repeng's class of this name."""

    model_type: str
    directions: dict[int, Any]


@pytest.mark.parametrize(
    "found",
    [
        SteeringVector({3: ROW, 5: 2 * ROW}),
        SteeringVector({3: ROW[None].bfloat16(), 5: 2 * ROW.double()}),
        ControlVector("llama", {3: ROW.numpy(), 5: 2 * ROW.numpy().astype(np.float16)}),
        {np.int64(3): ROW, 5: 2 * ROW},
        {"layer_activations": {3: ROW, 5: 2 * ROW}, "layer_type": "decoder_block"},
    ],
)
def test_objects_in_memory_become_vectors(found: object) -> None:
    vector = vector_from(found)
    assert sorted(vector.layers) == [3, 5]
    torch.testing.assert_close(vector.layer(3).direction, ROW)
    torch.testing.assert_close(vector.layer(5).direction, 2 * ROW)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (SteeringVector({3: ROW}, "mlp"), "layer_type='mlp'.*layer_type=\"decoder_block\""),
        (SteeringVector({}), "no steering vector that is known here"),
        (SteeringVector({-1: ROW}), "no steering vector that is known here"),
        (SteeringVector({3: ROW, 4: ROW[:2]}), "mixes layers of widths"),
        (SteeringVector({3: torch.stack([ROW, ROW])}), "Layer 3 of vector cannot be used"),
        (ControlVector("llama", {3: ROW.numpy() * np.nan}), "Layer 3 .*6 NaN or infinite"),
        (ControlVector("llama", {3: np.array(["a"])}), "Layer 3 .*cannot be used"),
        ({3: [1.0]}, "Layer 3 .*a list"),
        ({"3": ROW}, "no steering vector that is known here"),
        ({True: ROW}, "no steering vector that is known here"),
        (ROW, "no steering vector that is known here"),
    ],
)
def test_objects_that_cannot_be_used_are_refused(found: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vector_from(found)


def test_tensors_that_steering_vectors_holds_are_read_and_its_pickles_are_not(
    tmp_path: Path,
) -> None:
    own = SteeringVector({3: ROW})
    for name, content in (("a.pt", own.layer_activations), ("b.pt", vars(own))):
        torch.save(content, tmp_path / name)
        assert torch.equal(load_vector(tmp_path / name).layer(3).direction, ROW)
    torch.save(own, tmp_path / "c.pt")
    with pytest.raises(InputError, match="would run code"):
        load_vector(tmp_path / "c.pt")


class LowRankRotateLayer(nn.Module):
    """The module of pyreft whose weight torch keeps orthonormal."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH, RANK))
        nn.init.orthogonal_(self.weight)


def rotation() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """R, and what a module that holds it saves after some training."""
    holder = nn.Module()
    holder.rotate_layer = nn.utils.parametrizations.orthogonal(LowRankRotateLayer())
    with torch.no_grad():
        holder.rotate_layer.parametrizations.weight.original += 0.3 * torch.randn(WIDTH, RANK)
    return holder.rotate_layer.weight.detach().T, dict(holder.state_dict())


def made(kind: str) -> tuple[dict[str, torch.Tensor], Any]:
    """A state dict as pyreft saves it, and what the intervention adds by its definition."""
    torch.manual_seed(len(kind))
    rows, saved = rotation()
    w, b = torch.randn(RANK, WIDTH), torch.randn(RANK)
    p, c = torch.randn(RANK, WIDTH), torch.randn(RANK)
    counts = {"embed_dim": torch.tensor(WIDTH), "interchange_dim": torch.tensor(WIDTH)}
    source = {"learned_source.weight": w, "learned_source.bias": b}
    projection = {"proj_layer.weight": p, "proj_layer.bias": c}
    states: Mapping[str, tuple[dict[str, torch.Tensor], Any]] = {
        "Loreft": (
            {"weight": w, "bias": b, "rotate_layer": rows.T},
            lambda h: rows.T @ (w @ h + b - rows @ h),
        ),
        "Consreft": ({**saved, "learned_source": b}, lambda h: rows.T @ (b - rows @ h)),
        "Lobireft": ({**saved, "learned_source": b}, lambda h: rows.T @ b),
        "Direft": ({**saved, **source}, lambda h: rows.T @ (w @ h + b)),
        "Noreft": ({**projection, **source}, lambda h: p.T @ (w @ h + b - p @ h - c)),
        "Nodireft": ({**projection, **source}, lambda h: p.T @ (w @ h + b)),
    }
    state, adds = states[kind]
    return ({**counts, **state} if kind != "Loreft" else state), adds


def key(layer: int, component: str = "block_output", unit: str = "pos") -> str:
    return f"layer_{layer}_comp_{component}_unit_{unit}_nunit_1#0"


def folder(at: Path, files: Mapping[str, Any], kind: str = "Loreft") -> Path:
    at.mkdir(exist_ok=True)
    types = [f"<class 'pyreft.interventions.{kind}Intervention'>"] * len(files)
    config = {"sorted_keys": list(files), "intervention_types": types, "mode": "parallel"}
    (at / "config.json").write_text(json.dumps(config))
    for name, state in files.items():
        torch.save(state, at / f"intkey_{name}.bin")
    return at


@pytest.mark.parametrize("kind", ["Loreft", "Consreft", "Lobireft", "Direft", "Noreft", "Nodireft"])
def test_interventions_of_pyreft_do_what_they_are_defined_to_do(kind: str, tmp_path: Path) -> None:
    state, adds = made(kind)
    vector = load_vector(folder(tmp_path / "reft", {key(4): state}, kind))
    (step,) = SteeringPlan.from_vector(
        vector, [4], alpha=2.0, action="reft", scale="none", positions="all"
    ).steps
    hidden = torch.randn(2, 3, WIDTH)
    found = steer(hidden, step, step.direction(), 0, 0)
    expected = torch.stack([torch.stack([h + 2 * adds(h) for h in row]) for row in hidden])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_folder_of_pyreft_becomes_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {key(1): made("Loreft")[0], key(0, "model.layers[3].output"): made("Loreft")[0]}
    out = tmp_path / "v.safetensors"
    source = folder(tmp_path / "reft", files)
    assert cli.main(["vector", "import", str(source), "--out", str(out)]) == 0
    assert "layers 1, 3; apply with action=reft" in capsys.readouterr().out
    back = load_vector(out)
    assert set(back.layer(3).parts) == {"rotation", "weight", "bias"}
    with pytest.raises(InputError, match="cannot be exported"):
        write_lm_eval(back, tmp_path / "v.pt", layers=[1], alpha=1, scale="none", action="reft")


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({key(1, "mlp_output"): {}}, "Loreft", 'component="block_output"'),
        ({key(1, unit="h.pos"): {}}, "Loreft", 'component="block_output"'),
        ({key(1): {}}, "Subloreft", "SubloreftIntervention, which is not known here; known are"),
        ({key(1): {}}, "Loreft", "cannot be used as a LoreftIntervention: missing key"),
        ({key(1): [ROW]}, "Loreft", "holds list, not an intervention's tensors"),
        ({key(1): SteeringVector({1: ROW})}, "Loreft", "would run code"),
        (
            {key(1): {"weight": ROW[None], "bias": ROW, "rotate_layer": ROW[:, None]}},
            "Loreft",
            "do not fit each other",
        ),
        (
            {key(1): {"weight": ROW[None], "bias": ROW[:1] * 0, "rotate_layer": ROW[:, None]}},
            "Loreft",
            "cannot be used as a LoreftIntervention: .*zero",
        ),
        (
            {key(1): {"weight": ROW[None] / 0, "bias": ROW[:1], "rotate_layer": ROW[:, None]}},
            "Loreft",
            "NaN or infinite",
        ),
        ({}, "Loreft", "holds no intervention"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(
    files: dict[str, Any], kind: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_vector(folder(tmp_path / "reft", files, kind))


def test_folders_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of pyreft"):
        load_vector(tmp_path)
    good = folder(tmp_path / "reft", {key(1): made("Loreft")[0]})
    file = good / f"intkey_{key(1)}.bin"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"is not a whole \.bin file"):
        load_vector(good)
    file.unlink()
    with pytest.raises(InputError, match="copy the whole folder"):
        load_vector(good)
    twice = {key(1): made("Loreft")[0], key(1).replace("#0", "#1"): made("Loreft")[0]}
    with pytest.raises(InputError, match="two interventions on block 1"):
        load_vector(folder(tmp_path / "twice", twice))
