"""Whether what was written is the hooked model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.baking import some_plan

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.bake_biases import shift_outputs
from lm_eval_trust.steering.bake_verify import Agreement

WRONG: dict[str, Callable[[dict[int, torch.Tensor]], dict[int, torch.Tensor]]] = {
    "sign": lambda shifts: {layer: -shift for layer, shift in shifts.items()},
    "layer": lambda shifts: {layer + 1: shift for layer, shift in shifts.items()},
    "nothing": lambda shifts: {},
    "one part in a thousand": lambda shifts: {k: 1.001 * shift for k, shift in shifts.items()},
    "not a number": lambda shifts: {k: shift * float("nan") for k, shift in shifts.items()},
}


@pytest.mark.parametrize("how", WRONG)
def test_a_model_that_is_not_the_hooked_one_is_not_left_behind(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    right = shift_outputs
    monkeypatch.setattr(
        "lm_eval_trust.steering.bake.shift_outputs",
        lambda model, shifts, name: right(model, WRONG[how](shifts), name=name),
    )
    refused = {"not a number": r"bias in .* holds NaN or infinite values as float32"}
    differs = r"does not compute what the hooked one does.*Nothing"
    with pytest.raises(InputError, match=refused.get(how, differs)):
        bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    assert [path.name for path in tmp_path.iterdir()] == [".baked.lock"]


def test_agreement_by_hand() -> None:
    hooked = torch.tensor([[1.0, -8.0]])
    near = Agreement.of(hooked + 1e-5, hooked, hooked + 2, dtype="float32")
    assert near.allowed == pytest.approx(1000 * 2**-23 * 8)
    assert near.holds and near.from_unsteered == pytest.approx(2, abs=1e-4) and near.tokens == 1
    far = Agreement.of(hooked + 0.05, hooked, hooked + 2, dtype="float32")
    assert not far.holds
    assert Agreement.of(hooked + 0.05, hooked, hooked + 2, dtype="bfloat16").holds
    with pytest.raises(InputError, match="steered_amber instead"):
        far.check()
    with pytest.raises(InputError, match="--dtype float32"):
        Agreement.of(hooked + 1, hooked, hooked + 2, dtype="float16").check()
