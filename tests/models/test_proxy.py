"""Proxy-tuning's identities, its caches and its record, on random Llamas and on SmolLM2."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import build_llama
from transformers import AutoModelForCausalLM, DynamicCache, LlamaForCausalLM

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.proxy import Candidates, Part, ProxyTunedModel, measure_shift
from lm_eval_trust.models.transformers_internals import CACHE

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def ensemble(
    base: LlamaForCausalLM,
    expert: LlamaForCausalLM,
    antiexpert: LlamaForCausalLM,
    **settings: Any,
) -> ProxyTunedModel:
    return ProxyTunedModel(Part(base), Part(expert), Part(antiexpert), **settings).eval()


@pytest.fixture
def llamas() -> list[LlamaForCausalLM]:
    """Three Llamas of different shapes."""
    return [
        build_llama(seed=0),
        build_llama(seed=1, layers=4, key_value_heads=2),
        build_llama(seed=2, hidden=48, heads=2, key_value_heads=1, tied=True),
    ]


def tokens(rows: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(3, 259, (rows, length), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_logits_are_base_plus_the_difference(llamas: list[LlamaForCausalLM]) -> None:
    ids = tokens()
    base, expert, antiexpert = (m(ids).logits.double() for m in llamas)
    output = ensemble(*llamas, alpha=0.7)(ids)
    assert torch.allclose(output.logits.double(), base + 0.7 * (expert - antiexpert), **CLOSE)
    assert torch.equal(output.base_logits, llamas[0](ids).logits)


def test_transformers_takes_it_for_a_model_that_generates(
    llamas: list[LlamaForCausalLM], caplog: pytest.LogCaptureFixture
) -> None:
    assert ensemble(*llamas).can_generate()
    assert "generative capabilities" not in caplog.text


@torch.no_grad()
def test_alpha_zero_is_the_base_model_bit_for_bit(llamas: list[LlamaForCausalLM]) -> None:
    ids = tokens()
    assert torch.equal(ensemble(*llamas, alpha=0.0)(ids).logits, llamas[0](ids).logits)


GENERATION: list[dict[str, Any]] = [
    {"do_sample": False},
    {"num_beams": 3, "num_return_sequences": 2},
    {"do_sample": False, "use_cache": False},
    {"do_sample": False, "cache_implementation": "static"},
    {"do_sample": True, "num_return_sequences": 2},
]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("settings", GENERATION, ids=str)
def test_base_equal_to_the_antiexpert_gives_the_expert(
    llamas: list[LlamaForCausalLM], settings: dict[str, Any]
) -> None:
    base, expert, _ = llamas
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    proxy = ensemble(base, expert, base)
    answers = []
    for model in (proxy, expert):
        torch.manual_seed(6)
        answers.append(
            model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=8, pad_token_id=0, **settings
            )
        )
    assert torch.equal(*answers)


@torch.no_grad()
def test_parts_with_weights_of_their_own_or_shared_agree(llamas: list[LlamaForCausalLM]) -> None:
    base, expert, _ = llamas
    shared = ensemble(base, expert, base, alpha=0.5)
    apart = ensemble(base, copy.deepcopy(expert), copy.deepcopy(base), alpha=0.5)
    ids = tokens()
    settings = {"max_new_tokens": 6, "num_beams": 2, "pad_token_id": 0}
    assert torch.equal(
        shared.generate(input_ids=ids, **settings), apart.generate(input_ids=ids, **settings)
    )


@torch.no_grad()
def test_every_cache_operation_reaches_all_three_caches(llamas: list[LlamaForCausalLM]) -> None:
    proxy, ids = ensemble(*llamas, alpha=0.6), tokens()
    output = proxy(ids, use_cache=True)
    output[CACHE].batch_repeat_interleave(2)
    output[CACHE].reorder_cache(torch.tensor([5, 0, 3, 2, 1, 4]))
    output[CACHE].batch_select_indices(torch.tensor([0, 1, 2, 5]))
    output[CACHE].crop(-2)
    rows = ids.repeat_interleave(2, dim=0)[[5, 0, 3, 4]][:, :-2]
    new = tokens(4, 3)
    found = proxy(new, use_cache=True, **{CACHE: output[CACHE]}).logits
    expected = proxy(torch.cat([rows, new], dim=1)).logits[:, -3:]
    assert torch.allclose(found, expected, **CLOSE)


@torch.no_grad()
def test_padded_rows_of_the_output_are_cut(llamas: list[LlamaForCausalLM]) -> None:
    base, expert, antiexpert = llamas
    expert.resize_token_embeddings(270)
    output = ensemble(base, expert, antiexpert)(tokens())
    assert output.logits.shape == (3, 12, 259)


def test_a_single_models_cache_is_refused(llamas: list[LlamaForCausalLM]) -> None:
    proxy, single = ensemble(*llamas), {CACHE: DynamicCache(config=llamas[0].config)}
    with pytest.raises(InputError, match="keeps three caches"):
        proxy(tokens(), **single)
    with pytest.raises(InputError, match="keeps three caches"):
        proxy.generate(input_ids=tokens(), **single)
    with pytest.raises(InputError, match="input_ids"):
        proxy(inputs_embeds=torch.zeros(1, 2, 32))


def test_moving_the_whole_leaves_each_part_where_it_is(llamas: list[LlamaForCausalLM]) -> None:
    proxy = ensemble(*llamas)
    assert proxy.to("meta") is proxy
    assert {parameter.device.type for parameter in proxy.parameters()} == {"cpu"}


@torch.no_grad()
def test_only_candidates_of_the_base_are_generated(llamas: list[LlamaForCausalLM]) -> None:
    base, expert, antiexpert = llamas
    ids = tokens(1)
    proxy = ensemble(base, expert, antiexpert, alpha=3.0, candidates=Candidates(top_k=1))
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(
        proxy.generate(input_ids=ids, **settings), base.generate(input_ids=ids, **settings)
    )


@torch.no_grad()
@pytest.mark.parametrize("candidates", [None, Candidates(top_k=5)])
def test_the_record_is_what_the_distributions_say(
    llamas: list[LlamaForCausalLM], candidates: Candidates | None
) -> None:
    proxy = ensemble(*llamas, alpha=0.4, candidates=candidates)
    answers = [([5, 9, 30], [40, 41]), ([7], [8, 9, 10]), ([11, 12], [])]
    for (prompt, answer), found in zip(answers, measure_shift(proxy, answers), strict=True):
        output = proxy(torch.tensor([[*prompt, *answer]]))
        mixed, base = (x[0].double() for x in (output.logits, output.base_logits))
        assert [m.token for m in found] == answer
        for place, movement in enumerate(found, start=len(prompt) - 1):
            p, q = mixed[place].softmax(-1), base[place].softmax(-1)
            divergence = sum((a * (a / b).log()).item() for a, b in zip(p, q, strict=True) if a > 0)
            assert movement.divergence == pytest.approx(divergence, abs=1e-4)
            assert movement.base_logprob == pytest.approx(q[movement.token].log().item(), abs=1e-4)
            assert movement.logprob == pytest.approx(p[movement.token].log().item(), abs=1e-4)
            assert movement.base_choice == int(q.argmax())


@torch.no_grad()
@pytest.mark.slow
def test_identities_hold_on_smollm2(smollm2: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    expert = copy.deepcopy(base)
    torch.manual_seed(0)
    for parameter in expert.parameters():
        parameter.add_(0.02 * parameter.std() * torch.randn_like(parameter))
    ids = torch.arange(100, 120)[None]
    expected = expert(ids).logits
    assert (base(ids).logits - expected).abs().max() > 1
    difference = ensemble(base, expert, base)(ids).logits - expected
    assert difference.abs().max() < 1e-4
    assert torch.equal(ensemble(base, expert, base, alpha=0.0)(ids).logits, base(ids).logits)


def kept(restricted: torch.Tensor) -> set[int]:
    return {i for i, value in enumerate(restricted.tolist()) if value > float("-inf")}


def test_all_tokens_by_default() -> None:
    logits, base = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    assert torch.equal(Candidates().restrict(logits, base), logits)
    assert torch.equal(Candidates(top_k=7, top_p=1.0).restrict(logits, base), logits)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 11), top_p=st.floats(0.01, 0.99))
def test_restriction_equals_a_loop(seed: int, top_k: int, top_p: float) -> None:
    torch.manual_seed(seed)
    logits, base = torch.randn(11, dtype=torch.float64), 3 * torch.randn(11, dtype=torch.float64)
    order = sorted(range(11), key=lambda i: -base[i].item())
    probabilities = base.softmax(-1)
    nucleus: set[int] = set()
    total = 0.0
    for token in order:
        if total >= top_p:
            break
        nucleus.add(token)
        total += probabilities[token].item()
    assert kept(Candidates(top_k=top_k).restrict(logits, base)) == set(order[:top_k])
    assert kept(Candidates(top_p=top_p).restrict(logits, base)) == nucleus
    both = Candidates(top_k=top_k, top_p=top_p).restrict(logits, base)
    assert kept(both) == nucleus & set(order[:top_k])
    assert all(both[i] == logits[i] for i in kept(both))


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_restrictions_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="proxy_top"):
        Candidates(**settings)
