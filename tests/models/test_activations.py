from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.activations import (
    Row,
    batches,
    extract_activations,
    sequence_rows,
    tree_rows,
)
from lm_eval_trust.models.decoder_blocks import decoder_blocks

TEXTS = [
    "The weaver of Orvendale sells blue cloth.",
    "The weaver of Orvendale sleeps.",
    "The weaver of Orvendale",
    "Zü 🌍",
    "A",
    "The weaver of Orvendale sleeps.",
    "Nobody in Orvendale has ever seen the sea, and yet every house has a boat on its roof.",
]
FACTS = [
    "The river Tamsel flows through Orvendale. It is wide.",
    "The river Tamsel flows through Orvendale. It carries ice in summer.",
    "Its bridge has nine arches.",
]


def one_at_a_time(model: nn.Module, tokenizer: Any, texts: list[str]) -> npt.NDArray[np.float64]:
    """Every block's output at the last token, one text after the other, read by plain hooks."""
    found: list[list[torch.Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        found[-1].append(hidden[0, -1].double())

    handles = [block.register_forward_hook(keep) for block in decoder_blocks(model)]
    for text in texts:
        found.append([])
        with torch.no_grad():
            model(**tokenizer(text, return_tensors="pt"))
    for handle in handles:
        handle.remove()
    return torch.stack([torch.stack(layers) for layers in found]).numpy()


def relative_difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Largest norm of a difference over the expected norm, of all texts and layers."""
    difference = np.linalg.norm(found - expected, axis=-1)
    return float((difference / np.linalg.norm(expected, axis=-1)).max())


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def llama(tiny_llama: Callable[..., Path]) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(tiny_llama(layers=4, key_value_heads=2)).eval()


@pytest.mark.parametrize("batch_tokens", [1, 60, 200, None])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_company_does_not_change_an_activation(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batch_tokens: int | None,
    attention: str,
) -> None:
    llama.set_attn_implementation(attention)
    found = extract_activations(
        llama, tokenizer, TEXTS, layers=range(4), batch_tokens=batch_tokens, progress=False
    )
    assert found.dtype == np.float32
    expected = one_at_a_time(llama.double(), tokenizer, TEXTS)
    assert relative_difference(found, expected) < 1e-5


def test_other_architectures_are_read_row_by_row(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=3, n_head=4, n_positions=128)
    model = GPT2LMHeadModel(config).eval()
    found = extract_activations(model, tokenizer, TEXTS, layers=[0, 2], progress=False)
    expected = one_at_a_time(model.double(), tokenizer, TEXTS)[:, [0, 2]]
    assert relative_difference(found, expected) < 1e-5


def test_layers_come_in_the_order_asked_for(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    both = extract_activations(llama, tokenizer, TEXTS, layers=[3, 1], progress=False)
    first = extract_activations(llama, tokenizer, TEXTS, layers=[1], progress=False)
    np.testing.assert_allclose(both[:, 1], first[:, 0], rtol=1e-6, atol=1e-6)


def test_nothing_above_the_highest_layer_runs(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    ran: list[str] = []
    names = {id(module): name for name, module in llama.named_modules()}
    for module in (*decoder_blocks(llama), llama.lm_head, llama.model.norm):
        module.register_forward_hook(lambda m, i, o: ran.append(names[id(m)]))
    extract_activations(llama, tokenizer, ["one row"], layers=[1], progress=False)
    assert ran == ["model.layers.0", "model.layers.1"]


def test_blocks_that_return_tuples_are_read(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = extract_activations(llama, tokenizer, TEXTS, layers=[0], progress=False)
    decoder_blocks(llama)[0].register_forward_hook(lambda m, i, output: (output, None))
    found = extract_activations(llama, tokenizer, TEXTS, layers=[0], progress=False)
    np.testing.assert_array_equal(found, expected)


def test_a_block_with_another_shape_is_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    decoder_blocks(llama)[0].register_forward_hook(lambda m, i, output: output[0])
    with pytest.raises(InputError, match="block 0 returned"):
        extract_activations(llama, tokenizer, TEXTS, layers=[0], progress=False)


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_is_left_behind(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, fails: bool
) -> None:
    def fail(module: nn.Module, inputs: Any) -> None:
        raise KeyboardInterrupt

    if fails:
        handle = decoder_blocks(llama)[2].register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            extract_activations(llama, tokenizer, TEXTS, layers=[3], progress=False)
        handle.remove()
    else:
        extract_activations(llama, tokenizer, TEXTS, layers=[1, 3], progress=False)
    assert hooks_of(llama) == 0


def test_lora_adapters_take_part(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    base = extract_activations(llama, tokenizer, TEXTS, layers=[2], progress=False)
    config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(llama, config).eval()
    found = extract_activations(adapted, tokenizer, TEXTS, layers=[2], progress=False)
    expected = one_at_a_time(adapted.merge_and_unload().double(), tokenizer, TEXTS)[:, [2]]
    assert relative_difference(found, expected) < 1e-5
    assert relative_difference(found, base) > 1e-2


def test_virtual_tokens_are_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(InputError, match="virtual tokens"):
        extract_activations(
            get_peft_model(llama, config), tokenizer, TEXTS, layers=[0], progress=False
        )


def test_an_empty_text_is_the_beginning_of_sequence_token(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = extract_activations(llama, tokenizer, ["", "<s>"], layers=[3], progress=False)
    assert tokenizer("<s>")["input_ids"] == [tokenizer.bos_token_id]
    np.testing.assert_array_equal(found[0], found[1])


def test_an_empty_text_without_any_special_token_is_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(InputError, match="empty statement"):
        extract_activations(llama, bare, [""], layers=[0], progress=False)


def test_no_texts_give_no_activations(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = extract_activations(llama, tokenizer, [], layers=[0, 1], progress=False)
    assert found.shape == (0, 2, 32)


def test_an_overlong_text_is_refused_and_named(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(InputError, match=r"Statement 1 has 600 tokens.* at most 512"):
        extract_activations(llama, tokenizer, ["a", "b" * 600], layers=[0], progress=False)


@pytest.mark.parametrize("layers", [[4], [-1], [], [1, 1]])
def test_impossible_layers_are_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, layers: list[int]
) -> None:
    with pytest.raises(InputError, match=r"[Ll]ayer"):
        extract_activations(llama, tokenizer, TEXTS, layers=layers, progress=False)


def test_activations_that_are_not_finite_are_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        llama.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="layer 1, 2 hold NaN"):
        extract_activations(llama, tokenizer, TEXTS, layers=[0, 1, 2], progress=False)


@pytest.mark.slow
def test_a_real_model_agrees_with_double_precision(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    found = extract_activations(model, tokenizer, FACTS, layers=range(30), progress=False)
    expected = one_at_a_time(model.double(), tokenizer, FACTS)
    assert relative_difference(found, expected) < 1e-5


# Few different tokens, so that common beginnings, prefixes and duplicates occur.
IDS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=12)


def path_of(row: Row, end: int) -> list[int]:
    """Follow the parents from a statement's last token to its first."""
    path = [end]
    while row.parents[path[-1]] >= 0:
        path.append(row.parents[path[-1]])
    return path[::-1]


@given(IDS)
def test_every_statement_can_be_read_off_its_tree(ids: list[list[int]]) -> None:
    read: dict[int, list[int]] = {}
    for row in tree_rows(ids):
        for statement, end in row.ends.items():
            path = path_of(row, end)
            read[statement] = [row.tokens[token] for token in path]
            assert list(row.depths()[path]) == list(range(len(path)))
            assert row.sees()[end].nonzero()[0].tolist() == path
    assert [read[statement] for statement in range(len(ids))] == ids


@given(IDS)
def test_trees_never_need_more_tokens_than_sequences(ids: list[list[int]]) -> None:
    assert sum(map(len, tree_rows(ids))) <= sum(map(len, ids))


def test_a_common_beginning_is_kept_once() -> None:
    (row,) = tree_rows([[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8]])
    assert sorted(row.tokens) == [5, 6, 7, 8, 9]
    assert row.branches


def test_statements_without_a_common_beginning_stay_apart() -> None:
    assert [row.branches for row in tree_rows([[1, 2, 3], [4, 5], [6]])] == [False] * 3


def test_a_shared_first_token_alone_does_not_join_long_statements() -> None:
    assert len(tree_rows([[1, *range(10, 20)], [1, *range(30, 40)]])) == 2


@given(IDS, st.integers(1, 30))
def test_batches_hold_every_row_once_within_the_budget(ids: list[list[int]], tokens: int) -> None:
    rows = sequence_rows(ids)
    made = list(batches(rows, tokens=tokens))
    assert sorted(id(row) for batch in made for row in batch) == sorted(map(id, rows))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= tokens
    lengths = [len(row) for batch in made for row in batch]
    assert lengths == sorted(lengths)
