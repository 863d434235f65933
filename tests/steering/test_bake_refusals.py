"""What cannot be baked is refused before anything is loaded or written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.baking import some_plan

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.sources import find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.plan import SteeringPlan


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"positions": "generated"}, "weights do not know where a prompt ends"),
        ({"positions": "last_prompt"}, "acts at some tokens only"),
        ({"action": "clamp"}, "what it adds depends on the hidden state"),
        ({"action": "ablate"}, "what it adds depends on the hidden state"),
    ],
)
def test_what_is_no_constant_is_refused(
    tiny_llama: Callable[..., Path], settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as error:
        Bake(find_source(str(tiny_llama())), some_plan(**settings))
    assert "cannot be baked" in str(error.value) and "steered_amber" in str(error.value)


def test_a_bake_that_changes_nothing_is_refused(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path]
) -> None:
    source = find_source(str(tiny_llama()))
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    for plan, merged in ((some_plan(alpha=0), None), (SteeringPlan(), None)):
        with pytest.raises(InputError, match="change nothing"):
            Bake(source, plan, merged)
    with pytest.raises(InputError, match="alpha other than 0"):
        Bake(source, some_plan(alpha=0), adapter)
    with pytest.raises(InputError, match="Did you mean 'bfloat16'"):
        Bake(source, some_plan(), dtype="bfloat")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen3"}, "is a qwen3, whose blocks have no bias"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantised; bake the"),
        ({"num_hidden_layers": 1}, "Layer 1 is out of range"),
        ({"hidden_size": 64}, "has width 32, but .* has hidden size 64"),
        ({"model_type": "no_such"}, "Cannot load the configuration"),
    ],
)
def test_models_that_cannot_hold_it_are_refused_before_they_are_loaded(
    tiny_llama: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = json.loads((tiny_llama() / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=words):
        bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    assert not (tmp_path / "baked").exists()
