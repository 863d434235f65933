"""Properties of the steered model itself: padding, cache, sign, isolation, hooks, wrappers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.conformance import (
    LARGE_PROMPTS,
    PROMPTS,
    Case,
    generation_requests,
    rolling_requests,
    scoring_requests,
)
from support.reference import Reference, ReferenceModel
from torch import nn
from transformers import AutoModelForCausalLM

from lm_eval_trust.models.decoder_blocks import decoder_blocks
from lm_eval_trust.models.transformers_internals import CACHE
from lm_eval_trust.steering.hooks import Steerer

Loaded = Callable[[Path], tuple[Any, Any]]
References = Callable[[Case], Reference]


def padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens padded with token 0, and their attention mask."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        place = slice(width - len(tokens), width) if side == "left" else slice(0, len(tokens))
        ids[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return ids, mask


def number_of_hooks(model: nn.Module) -> int:
    """All hooks that any module of the model carries."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_does_not_matter(case: Case, reference: References, side: str) -> None:
    lm = case.lm()
    prompts = PROMPTS[:LARGE_PROMPTS] if case.large else PROMPTS
    rows = [lm.tok_encode(prompt) for prompt in prompts]
    ids, mask = padded(rows, side)
    with lm._steering(None):
        logits = lm.model(input_ids=ids, attention_mask=mask).logits
    for row, tokens in enumerate(rows):
        expected = reference(case).logits(tokens, case.plan, len(tokens) - 1)
        assert torch.allclose(logits[row][mask[row] == 1].double(), expected, atol=5e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3])
def test_cache_does_not_matter(case: Case, reference: References, chunk: int) -> None:
    lm = case.lm()
    tokens = lm.tok_encode(PROMPTS[0])
    end = len(tokens) // 2
    seen, cache = [], None
    with lm._steering(end):
        for start in range(0, len(tokens), chunk):
            part = torch.tensor([tokens[start : start + chunk]])
            step = lm.model(input_ids=part, use_cache=True, **{CACHE: cache})
            cache = step[CACHE]
            seen.append(step.logits[0])
    expected = reference(case).logits(tokens, case.plan, end)
    assert torch.allclose(torch.cat(seen).double(), expected, atol=5e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_generation_with_any_cache_is_the_same(
    small_case: Case, reference: References, settings: dict[str, Any]
) -> None:
    case = small_case
    lm = case.lm()
    tokens = lm.tok_encode(PROMPTS[0])
    with lm._steering(len(tokens) - 1):
        output = lm.model.generate(
            input_ids=torch.tensor([tokens]), max_new_tokens=4, do_sample=False, **settings
        )
    found = output[0, len(tokens) :].tolist()
    assert found == reference(case).greedy(tokens, case.plan, 4)[: len(found)]


def test_alpha_zero_is_the_unsteered_model_bit_for_bit(case: Case) -> None:
    pairs = [(prompt, " yes") for prompt in PROMPTS]
    answers = []
    for lm in (case.lm(alpha=0.0), case.unsteered()):
        answers.append(
            (
                lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True),
                lm.loglikelihood_rolling(rolling_requests(PROMPTS[:3]), disable_tqdm=True),
                lm.generate_until(generation_requests(PROMPTS, max_gen_toks=4), disable_tqdm=True),
                lm._model_call(torch.arange(1, 9)[None]).tolist(),
            )
        )
    assert answers[0] == answers[1]


def test_steering_changes_scores_and_answers(case: Case) -> None:
    pairs = [(prompt, " yes") for prompt in PROMPTS]
    steered = case.lm().loglikelihood(scoring_requests(pairs), disable_tqdm=True)
    plain = case.unsteered().loglikelihood(scoring_requests(pairs), disable_tqdm=True)
    moved = [abs(one - other) > 1e-3 for (one, _), (other, _) in zip(steered, plain, strict=True)]
    assert any(moved) if "when" in case.plan_arguments else all(moved)


@torch.no_grad()
def test_the_sign_of_alpha_is_the_sign_on_a_probe(plain_case: Case, loaded: Loaded) -> None:
    case = plain_case
    model, tokenizer = loaded(case.folder)
    layer = case.layers[0]
    probe = case.vector.layer(layer).unit
    tokens = torch.tensor([tokenizer(PROMPTS[0]).input_ids])

    def probe_logit(alpha: float) -> torch.Tensor:
        states: list[torch.Tensor] = []
        with Steerer(model, case.plan_with(alpha=alpha, layers=(layer,))).apply():
            handle = decoder_blocks(model)[layer].register_forward_hook(
                lambda _m, _a, out: states.append(out[0] if isinstance(out, tuple) else out)
            )
            model(tokens)
            handle.remove()
        return states[0][0, -1] @ probe

    up, down = probe_logit(0.5) - probe_logit(0.0), probe_logit(-0.5) - probe_logit(0.0)
    assert up * down < 0
    # A circle leaves its tangent, by little at half a degree.
    rotates = case.plan_arguments["action"] == "rotate"
    assert up.item() == pytest.approx(-down.item(), rel=5e-3 if rotates else 1e-3)


def test_two_steered_models_do_not_disturb_each_other(plain_case: Case, loaded: Loaded) -> None:
    case = plain_case
    model, tokenizer = loaded(case.folder)
    tokens = torch.tensor([tokenizer(PROMPTS[0]).input_ids])
    one, other = Steerer(model, case.plan), Steerer(model, case.plan_with(alpha=-0.3))
    alone = []
    for steerer in (one, other):
        with steerer.apply(), torch.no_grad():
            alone.append(model(tokens).logits)
    for _ in range(2):
        for steerer, expected in zip((one, other), alone, strict=True):
            with steerer.apply(), torch.no_grad():
                assert torch.equal(model(tokens).logits, expected)


def test_hooks_are_gone_after_use_and_after_an_exception(case: Case) -> None:
    lm = case.lm()
    before = number_of_hooks(lm.model)
    lm.loglikelihood(scoring_requests([(PROMPTS[0], " yes")]), disable_tqdm=True)
    lm.generate_until(generation_requests(PROMPTS[:2], max_gen_toks=2), disable_tqdm=True)
    assert number_of_hooks(lm.model) == before
    with pytest.raises(IndexError):
        lm._model_call(torch.tensor([[10**6]]))
    assert number_of_hooks(lm.model) == before
    with pytest.raises(KeyboardInterrupt), lm._steerer.apply():
        assert number_of_hooks(lm.model) > before
        raise KeyboardInterrupt
    assert number_of_hooks(lm.model) == before


@torch.no_grad()
def test_a_model_wrapped_by_peft_is_steered_in_the_same_blocks(
    plain_case: Case,
) -> None:
    case = plain_case
    model = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    wrapped = get_peft_model(model, config).eval()
    tokens = list(range(5, 25))
    with Steerer(wrapped, case.plan).apply(10):
        steered = wrapped(input_ids=torch.tensor([tokens])).logits[0]
    merged = ReferenceModel(wrapped.merge_and_unload())
    expected = merged.logits(tokens, case.plan, 10)
    assert torch.allclose(steered.double(), expected, atol=1e-2, rtol=1e-3)


@torch.no_grad()
def test_a_model_spread_by_a_device_map_is_steered_in_the_same_blocks(
    plain_case: Case, reference: References, tmp_path: Path
) -> None:
    case = plain_case
    blocks = range(reference(case).blocks)
    places = {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in blocks}
    rest = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    spread = AutoModelForCausalLM.from_pretrained(
        case.folder,
        dtype=torch.float32,
        device_map=places | dict.fromkeys(rest, "cpu"),
        offload_folder=tmp_path,
    )
    tokens = list(range(5, 25))
    with Steerer(spread, case.plan).apply(10):
        logits = spread(input_ids=torch.tensor([tokens])).logits[0]
    expected = reference(case).logits(tokens, case.plan, 10)
    assert torch.allclose(logits.double(), expected, atol=5e-3, rtol=1e-3)
