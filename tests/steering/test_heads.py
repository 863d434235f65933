"""Attention heads: what is steered, chosen, baked and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.families import FAMILIES
from support.models import build_llama, build_tokenizer
from transformers import AutoModelForCausalLM

from lm_eval_trust.benchmarks.load import load_statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini.benchmarks import MINI
from lm_eval_trust.models.activations import extract_activations
from lm_eval_trust.models.sources import ModelIdentity, find_source
from lm_eval_trust.steering.bake import Bake, bake
from lm_eval_trust.steering.bake_biases import ATTENTION_BIASES
from lm_eval_trust.steering.conditions import Condition
from lm_eval_trust.steering.foreign_vectors import export_vector
from lm_eval_trust.steering.head_vectors import build_head_vector, rank_heads
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector, load_vector

HEADS, WIDTH = 4, 8


def head_vector(width: int = HEADS * WIDTH, layer: int = 1) -> SteeringVector:
    """Two of four heads."""
    drawn = torch.randn(4, width // 4, generator=torch.Generator().manual_seed(3))
    drawn[[0, 2]] = 0
    return SteeringVector({layer: LayerVector(2 * drawn.flatten())}, name="heads", site="heads")


def plan(**settings: Any) -> SteeringPlan:
    return SteeringPlan.from_vector(head_vector(), [1], scale="none", **settings)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["generated", "last_prompt", "all"])
def test_heads_are_steered_before_they_are_projected(positions: str) -> None:
    """Adding W Δ to the attention's output is the same, at the same positions."""
    model, end = build_llama(layers=3).double(), 4
    tokens = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    with Steerer(model, plan(alpha=0.7, positions=positions)).apply(end):
        found = model(tokens).logits
    attention = model.model.layers[1].self_attn
    shift = 0.7 * attention.o_proj.weight @ head_vector().layer(1).direction.double()
    places = torch.arange(9)
    chosen = {"all": places >= 0, "generated": places >= end, "last_prompt": places == end}
    handle = attention.register_forward_hook(
        lambda m, a, out: (out[0] + chosen[positions][None, :, None] * shift, *out[1:])
    )
    expected = model(tokens).logits
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, model(tokens).logits, atol=1e-2)


def test_the_file_says_that_it_is_of_heads(tmp_path: Path) -> None:
    head_vector().save(tmp_path / "v.safetensors")
    back = load_vector(tmp_path / "v.safetensors")
    assert back.site == "heads" and "heads" in back.describe()
    block = SteeringVector({1: back.layer(1)})
    plans = [SteeringPlan.from_vector(v, [1], scale="none") for v in (back, block)]
    assert plans[0].steps[0].site == "heads"
    assert plans[0].fingerprint != plans[1].fingerprint


@pytest.mark.parametrize("settings", [{"action": "ablate"}, {"action": "rotate"}])
def test_actions_that_depend_on_the_state_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"cannot steer attention heads .*pass action=add"):
        plan(**settings)


def test_a_condition_has_to_be_read_below() -> None:
    unit = torch.nn.functional.normalize(torch.ones(32), dim=0)
    with pytest.raises(InputError, match=r"when\.layer=1 .*take a layer up to 0"):
        plan(when=Condition(1, unit, 0.1))
    assert plan(when=Condition(0, unit, 0.1)).conditions


def test_a_model_with_other_heads_is_refused() -> None:
    wrong = SteeringPlan.from_vector(head_vector(width=48), [1], scale="none")
    with pytest.raises(InputError, match="has width 48, but the heads of block 1 have 32"):
        Steerer(build_llama(layers=3), wrong)


def test_an_attention_without_a_plain_projection_is_refused() -> None:
    with pytest.raises(InputError, match=r"no plain output projection .*without --heads"):
        Steerer(FAMILIES["mamba"].build(), plan())


def test_heads_are_read_where_they_are_steered() -> None:
    model, tokenizer = build_llama(layers=3), build_tokenizer()
    texts = ["a river", "the town of Bram", "a"]
    found = extract_activations(model, tokenizer, texts, layers=[0, 2], heads=True, progress=False)
    for row, text in enumerate(texts):
        tokens = torch.tensor([tokenizer(text).input_ids])
        for at, layer in enumerate([0, 2]):
            seen: list[torch.Tensor] = []
            projection = model.model.layers[layer].self_attn.o_proj
            handle = projection.register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(a[0][0, -1])
            )
            with torch.no_grad():
                model(tokens)
            handle.remove()
            np.testing.assert_allclose(found[row, at], seen[0].numpy(), atol=1e-5)


def test_the_most_accurate_heads_are_ranked_first() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    outputs = rng.normal(size=(200, 2, 3, 4)).astype(np.float32)
    outputs[:, 1, 2] += 4 * labels[:, None]
    outputs[:, 0, 1] += 1.2 * labels[:, None]
    ranked = rank_heads(outputs[:100], labels[:100], outputs[100:], labels[100:], [5, 9])
    assert [(head.layer, head.number) for head in ranked[:2]] == [(9, 2), (5, 1)]
    assert ranked[0].accuracy > 0.97 and len(ranked) == 6


def test_a_vector_holds_each_chosen_heads_direction_times_its_spread() -> None:
    model, tokenizer = build_llama(layers=3), build_tokenizer()
    statements = load_statements("reliability", data_source=MINI).sample(60)
    identity = ModelIdentity("tiny", "0")
    vector = build_head_vector(
        model, tokenizer, statements, layers=[0, 1, 2], identity=identity, heads=3, progress=False
    )
    chosen = vector.provenance.settings["heads"]  # type: ignore[union-attr]
    assert sum(map(len, chosen.values())) == 3 and set(chosen) == {str(i) for i in vector.layers}
    used = statements.select(statements.partition(split="grouped", seed=0).part("train"))
    good = used.labels == used.dimension.trustworthy_label
    for layer, vectors in vector.layers.items():
        outputs = (
            extract_activations(
                model, tokenizer, used.texts, layers=[layer], heads=True, progress=False
            )
            .reshape(len(used), HEADS, WIDTH)
            .astype(np.float64)
        )
        for number, part in enumerate(vectors.direction.numpy().reshape(HEADS, WIDTH)):
            if number not in chosen[str(layer)]:
                assert not part.any()
                continue
            of_head = outputs[:, number]
            difference = of_head[good].mean(axis=0) - of_head[~good].mean(axis=0)
            unit = difference / np.linalg.norm(difference)
            np.testing.assert_allclose(part, (of_head @ unit).std() * unit, atol=1e-6)
        torch.testing.assert_close(vectors.scaled("projection_std"), vectors.direction)
    with pytest.raises(InputError, match="There are 12 heads in 3 layers; choose 1 to 12"):
        build_head_vector(
            model, tokenizer, statements, layers=[0, 1, 2], identity=identity, heads=13
        )


QUICK = ("llama", "gpt2")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow])
        for kind in ATTENTION_BIASES
    ],
)
def test_heads_are_baked_into_the_bias_of_their_projection(kind: str, tmp_path: Path) -> None:
    name = next(n for n, f in FAMILIES.items() if f.build().config.model_type == kind)
    model = FAMILIES[name].build()
    model.save_pretrained(tmp_path / "model")
    build_tokenizer().save_pretrained(tmp_path / "model")
    steered = plan(alpha=2.0, positions="all")
    result = bake(Bake(find_source(str(tmp_path / "model")), steered), tmp_path / "baked")
    assert result.agreement.holds and result.agreement.from_unsteered > 0.01
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "baked", dtype=torch.float32)
    tokens = torch.randint(3, 200, (1, 9))
    with torch.no_grad(), Steerer(model, steered).apply():
        torch.testing.assert_close(baked(tokens).logits, model(tokens).logits, atol=2e-3, rtol=1e-3)


def test_what_cannot_leave_says_what_to_do(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = find_source(str(tiny_llama()))
    with pytest.raises(InputError, match=r"positions=generated .*cannot be baked"):
        Bake(source, plan())
    with pytest.raises(InputError, match=r"steers attention heads.*lm-eval-trust bake"):
        export_vector(head_vector(), tmp_path / "v.gguf", tool="gguf", layers=[1], scale="none")
    step = SteeringStep(1, torch.ones(32), when=Condition(0, torch.ones(32) / 32**0.5, 0.1))
    with pytest.raises(InputError, match=r"cannot be baked: whether it acts depends on the prompt"):
        Bake(source, SteeringPlan((step,)))
