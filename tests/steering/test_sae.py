"""Features of sparse autoencoders, from small folders in SAELens' own format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lm_eval_trust import cli
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.sae import read_feature
from lm_eval_trust.steering.vectors import load_vector

FEATURES, WIDTH = 12, 8
#: As SAELens 6 writes it.
CONFIG: dict[str, Any] = {
    "d_in": WIDTH,
    "d_sae": FEATURES,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.54.12",
        "model_name": "lantern-2l",
        "hook_name": "blocks.1.hook_resid_post",
        "neuronpedia_id": "lantern-2l/1-res",
    },
    "architecture": "standard",
}


def decoder() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((FEATURES, WIDTH)))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Factory of folders; tensors and entries of the configuration replace the defaults."""

    def build(
        config: dict[str, Any] | None = None, name: str = "sae", **tensors: torch.Tensor
    ) -> Path:
        made = tmp_path / name
        made.mkdir(exist_ok=True)
        (made / "cfg.json").write_text(json.dumps(CONFIG if config is None else config))
        weights = {
            "W_enc": torch.ones(WIDTH, FEATURES),
            "b_enc": torch.zeros(FEATURES),
            "W_dec": decoder().float(),
            "b_dec": torch.zeros(WIDTH),
        }
        save_file(weights | tensors, made / "sae_weights.safetensors")
        return made

    return build


def hooked(hook: str | None, **more: Any) -> dict[str, Any]:
    return CONFIG | more | {"metadata": CONFIG["metadata"] | {"hook_name": hook}}


def test_a_feature_is_its_row_of_the_decoder(folder: Callable[..., Path]) -> None:
    vector = read_feature(folder(), 7)
    assert list(vector.layers) == [1]
    assert torch.equal(vector.layer(1).direction, decoder()[7].float())
    assert vector.layer(1).projection_std is None
    made = vector.provenance
    assert made is not None and (made.model, made.method, made.items) == ("lantern-2l", "sae", ())
    assert made.settings["feature"] == 7 and made.settings["neuronpedia_id"] == "lantern-2l/1-res"
    other = read_feature(folder(b_dec=torch.ones(WIDTH)), 7).provenance
    assert other is not None and other.settings["sae"] != made.settings["sae"]


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.3.hook_resid_post", 3),
        ("blocks.3.hook_resid_pre", 2),
        ("model.layers.4", 4),
        ("transformer.h.11", 11),
        ("layers.10", 10),
    ],
)
def test_places_that_are_a_blocks_output(
    folder: Callable[..., Path], hook: str, layer: int
) -> None:
    assert list(read_feature(folder(hooked(hook)), 0).layers) == [layer]
    old = {"d_in": WIDTH, "d_sae": FEATURES, "hook_point": hook, "model_name": "m"}
    assert list(read_feature(folder(old), 0, layer=layer).layers) == [layer]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            hooked("blocks.1.hook_mlp_out"),
            r"hook_mlp_out'; read are .* pass .*sae_weights.*--layer",
        ),
        (hooked("blocks.1.attn.hook_z"), "hook_z'"),
        (hooked("blocks.0.hook_resid_pre"), "blocks.0.hook_resid_pre'"),
        (hooked("blocks.1.ln2.hook_normalized", hook_name_out="blocks.1.hook_mlp_out"), "mlp_out"),
        (hooked("blocks.2.hook_resid_post"), "output of block 2, and not of block 1"),
        (CONFIG | {"normalize_activations": "covariance_whitening"}, "which turns them"),
        (CONFIG | {"d_in": WIDTH + 1}, r"shape \(12, 8\); expected .*\(12, 9\)"),
        (CONFIG | {"d_sae": WIDTH, "d_in": FEATURES}, r"expected .*\(8, 12\)"),
        ([], "holds no mapping"),
    ],
)
def test_autoencoders_of_other_places_are_refused(
    folder: Callable[..., Path], config: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_feature(folder(config), 0, layer=1)


def test_a_folder_that_names_no_place_needs_its_layer(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="does not say where it writes to"):
        read_feature(folder(hooked(None)), 0)
    assert list(read_feature(folder(hooked(None)), 0, layer=6).layers) == [6]
    assert list(read_feature(folder({"d_in": WIDTH}, name="layers.9"), 0).layers) == [9]


def test_weights_that_cannot_be_used_are_refused(folder: Callable[..., Path]) -> None:
    path = folder()
    for feature in (12, -1):
        with pytest.raises(InputError, match=f"has no feature {feature}; it has 12, from 0 on"):
            read_feature(path, feature)
    rows = decoder().float()
    rows[2] = 0
    rows[3, 1] = torch.nan
    folder(W_dec=rows)
    with pytest.raises(InputError, match=r"Feature 2 of .*is zero"):
        read_feature(path, 2)
    with pytest.raises(InputError, match=r"Feature 3 of .*1 NaN or infinite"):
        read_feature(path, 3)
    folder(W_dec=torch.ones(FEATURES, WIDTH, dtype=torch.int32))
    with pytest.raises(InputError, match=r"Feature 0 of .*int32"):
        read_feature(path, 0)
    weights = path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_feature(path, 0)
    weights.unlink()
    with pytest.raises(InputError, match=r"holds neither sae_weights\.safetensors nor"):
        read_feature(path, 0)
    (path / "cfg.json").write_text("{")
    with pytest.raises(InputError, match="no folder of SAELens"):
        read_feature(path, 0)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_feature(path / "nothing.safetensors", 0, layer=1)


def test_a_file_with_a_decoder_needs_its_layer(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file({"W_dec": decoder().half()}, file)
    vector = read_feature(file, 3, layer=5)
    assert torch.equal(vector.layer(5).direction, decoder()[3].half().float())
    with pytest.raises(InputError, match="which block it belongs to; pass --layer N"):
        read_feature(file, 3)
    save_file({"decoder.weight": decoder().float()}, file)
    with pytest.raises(InputError, match=r"no decoder W_dec \(tensors decoder.weight\)"):
        read_feature(file, 3, layer=5)


def test_the_command_writes_a_vector_that_can_be_applied(
    folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.safetensors"
    command = ["vector", "import", "--sae", str(folder()), "--out", str(out)]
    assert cli.main([*command, "--feature", "4", "--layer", "1"]) == 0
    assert "layers 1; apply with scale=none" in capsys.readouterr().out
    vector = load_vector(out)
    plan = SteeringPlan.from_vector(vector, [1], alpha=3.0, scale="none")
    assert torch.equal(plan.steps[0].vector, decoder()[4].float())
    assert vector.provenance and vector.provenance.settings["feature"] == 4
    assert cli.main(["vector", "show", str(out)]) == 0
    assert "method: sae" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--sae FOLDER with --feature N"),
        (["--sae", "x"], "--sae FOLDER with --feature N"),
        (["v.pt", "--sae", "x", "--feature", "1"], "--sae FOLDER with --feature N"),
        (["v.pt", "--feature", "1"], "--sae FOLDER with --feature N"),
        (["v.pt", "--layer", "1"], "--layer belongs to --sae"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["vector", "import", *options, "--out", str(tmp_path / "v.safetensors")]) == 2
    assert message in capsys.readouterr().err
