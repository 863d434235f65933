"""Baked models against an independent formulation of steering, over every architecture."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_trust.activations.blocks import decoder_blocks
from lm_eval_trust.activations.models import find_source
from lm_eval_trust.adapters import find_adapter
from lm_eval_trust.errors import ExternalError, InputError, LeakError
from lm_eval_trust.hashing import group_id
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.steered import SteeredAmber
from lm_eval_trust.provenance import Provenance
from lm_eval_trust.steering import baking
from lm_eval_trust.steering.bake_check import Agreement
from lm_eval_trust.steering.baking import Bake, bake
from lm_eval_trust.steering.output_biases import OUTPUT_BIASES
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

TOKENS = torch.arange(3, 43).reshape(2, 20)
PROVENANCE = Provenance(
    "weaver", "1", "fairness", "official", "grouped", 3, "train", "pca", ("a", "b"), ("g", "h")
)


def some_vector(width: int = 32, provenance: Provenance | None = PROVENANCE) -> SteeringVector:
    generator = torch.Generator().manual_seed(1)
    layers = {
        index: LayerVector(torch.randn(width, generator=generator), projection_std=0.7, target=0.2)
        for index in range(3)
    }
    return SteeringVector(layers, provenance, name="fair.safetensors")


def some_plan(layers: tuple[int, ...] = (1,), **settings: Any) -> SteeringPlan:
    settings = {"alpha": 2.0, "positions": "all", "scale": "none"} | settings
    return SteeringPlan.from_vector(some_vector(), layers, **settings)


def logits(model: Any, shifts: dict[int, torch.Tensor] | None = None) -> torch.Tensor:
    """Logits, computed with block outputs shifted by plain hooks."""
    handles = [
        decoder_blocks(model)[layer].register_forward_hook(
            lambda block, args, output, shift=shift: (
                (output[0] + shift, *output[1:]) if isinstance(output, tuple) else output + shift
            )
        )
        for layer, shift in (shifts or {}).items()
    ]
    with torch.no_grad():
        result: torch.Tensor = model.eval()(TOKENS).logits
    for handle in handles:
        handle.remove()
    return result


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512},
    "gpt_neox": {"rotary_pct": 0.5},
    "llama": {},
    "phi": {},
    "smollm3": {"num_key_value_heads": 4, "pad_token_id": 0},
}


@pytest.fixture(scope="module")
def random_model(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """Factory of random models of an architecture; every bias that they have is random, too."""

    def build(kind: str, **settings: Any) -> Path:
        torch.manual_seed(0)
        common = {
            "vocab_size": 259,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        if "n_embd" in SHAPES[kind]:
            common = {k: v for k, v in common.items() if "size" not in k or k == "vocab_size"}
            common = {k: v for k, v in common.items() if not k.startswith(("num_", "max_"))}
        config = AutoConfig.for_model(kind, **(common | SHAPES[kind] | settings))
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


def test_every_known_architecture_is_tested() -> None:
    assert set(SHAPES) == set(OUTPUT_BIASES)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_a_baked_model_gives_the_hooked_models_logits(
    random_model: Callable[..., Path], tmp_path: Path, kind: str, layers: tuple[int, ...]
) -> None:
    folder, out = random_model(kind), tmp_path / "baked"
    result = bake(Bake(find_source(str(folder)), some_plan(layers)), out)
    base = load(folder)
    hooked = logits(base, {i: 2 * some_vector().layer(i).direction for i in layers})
    assert distance(logits(load(out)), hooked) < 1e-4
    assert distance(logits(base), hooked) > 0.5
    assert not result.found and result.agreement.holds
    assert result.agreement.from_hooked < 1e-4 < 0.5 < result.agreement.from_unsteered


def test_biases_that_a_llama_has_are_kept(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = random_model("llama", mlp_bias=True), tmp_path / "baked"
    bake(Bake(find_source(str(folder)), some_plan()), out)
    before, after = load(folder).state_dict(), load(out).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["model.layers.1.mlp.down_proj.bias"]
    expected = before[changed[0]] + 2 * some_vector().layer(1).direction
    torch.testing.assert_close(after[changed[0]], expected)


def test_a_plain_llama_gets_zero_biases_and_one_that_is_the_vector(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    before, after = load(tiny_llama()).state_dict(), load(tmp_path / "baked").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    added = {name: after[name] for name in after if name not in before}
    assert len(added) == 9 and all(name.endswith("_proj.bias") for name in added)
    shifted = added.pop("model.layers.1.mlp.down_proj.bias")
    torch.testing.assert_close(shifted, 2 * some_vector().layer(1).direction)
    assert all(not bias.any() for bias in added.values())
    config = json.loads((tmp_path / "baked" / "config.json").read_text())
    assert config["mlp_bias"] is True and config["architectures"] == ["LlamaForCausalLM"]


def test_steps_add_up(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    plan = some_plan((0, 1)) + some_plan((1,), alpha=-0.5, scale="unit")
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    vector = some_vector()
    shifts = {
        0: 2 * vector.layer(0).direction,
        1: 2 * vector.layer(1).direction - 0.5 * vector.layer(1).unit,
    }
    hooked = logits(load(tiny_llama()), shifts)
    assert distance(logits(load(tmp_path / "baked")), hooked) < 1e-4


def test_the_stock_harness_gives_what_steered_amber_gives(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder, vector = tiny_llama(), tmp_path / "v.safetensors"
    some_vector().save(vector)
    bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    settings = {"device": "cpu", "dtype": "float32", "batch_size": 2}
    steering = {"vector": str(vector), "layer": 1, "alpha": 2, "scale": "none", "positions": "all"}
    steered = SteeredAmber(pretrained=str(folder), **steering, **settings)
    stock = HFLM(pretrained=str(tmp_path / "baked"), **settings)
    prompts = ["The mill", "A long road leads over", "Rain"]
    asked = [
        Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 8}), i)
        for i, text in enumerate(prompts)
    ]
    assert stock.generate_until(asked) == steered.generate_until(asked)
    scored = [Instance("loglikelihood", {}, (text, " stands"), i) for i, text in enumerate(prompts)]
    ours, theirs = steered.loglikelihood(scored), stock.loglikelihood(scored)
    for (first, greedy), (second, also) in zip(ours, theirs, strict=True):
        assert first == pytest.approx(second, abs=1e-4) and greedy == also


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"positions": "generated"}, "weights do not know where a prompt ends"),
        ({"positions": "last_prompt"}, "acts at one token"),
        ({"action": "clamp"}, "adds what depends on the hidden state"),
        ({"action": "ablate"}, "removes what depends on the hidden state"),
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
        ({"model_type": "qwen2"}, "is a qwen2, whose blocks have no bias"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantised; bake the"),
        ({"num_hidden_layers": 1}, "Layer 1 is out of range"),
        ({"hidden_size": 64}, "has width 32, but .* has hidden size 64"),
        ({"model_type": "no_such"}, "Cannot read the configuration"),
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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_the_bias_and_says_so(
    tiny_llama: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    out = tmp_path / "baked"
    result = bake(Bake(find_source(str(tiny_llama())), some_plan(), dtype=dtype), out)
    stored = load(out, dtype="auto").state_dict()  # type: ignore[arg-type]
    expected = (2 * some_vector().layer(1).direction).to(getattr(torch, dtype))
    assert torch.equal(stored["model.layers.1.mlp.down_proj.bias"], expected)
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    agreement = result.agreement
    assert agreement.dtype == dtype and agreement.holds
    assert 0 < agreement.from_hooked < 0.05 * agreement.from_unsteered
    assert "biases are rounded" in (out / "README.md").read_text()


@pytest.mark.parametrize("steered", [True, False])
def test_an_adapter_is_merged(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    steered: bool,
) -> None:
    folder, out = tiny_llama(), tmp_path / "baked"
    adapter = random_adapter(folder)
    plan = some_plan() if steered else SteeringPlan()
    result = bake(Bake(find_source(str(folder)), plan, find_adapter(str(adapter))), out)
    shifts = {1: 2 * some_vector().layer(1).direction} if steered else {}
    unmerged = PeftModel.from_pretrained(load(folder), str(adapter))
    hooked = logits(unmerged, shifts)
    assert distance(logits(load(out)), hooked) < 1e-4 < 0.5 < result.agreement.from_unsteered
    assert result.merge is not None and result.merge.from_hooked < 1e-4 < 0.5
    assert bake(Bake(find_source(str(folder)), plan, find_adapter(str(adapter))), out).found
    assert not (out / "adapter_config.json").exists()
    assert f"`{adapter.name}`, merged" in (out / "README.md").read_text()
    assert load(out).config.mlp_bias is steered


def test_merged_weights_are_rounded_before_they_are_compared(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_llama())
    task = Bake(
        find_source(str(tiny_llama())), some_plan(), find_adapter(str(adapter)), dtype="bfloat16"
    )
    agreement = bake(task, tmp_path / "baked").agreement
    assert agreement.from_hooked < 0.02 * agreement.from_unsteered
    base = load(tiny_llama()).to(torch.bfloat16).float()
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().to(torch.bfloat16)
    weight = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(
        load(tmp_path / "baked").state_dict()[weight], merged.state_dict()[weight].float()
    )


def test_an_adapter_of_another_base_is_refused(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    with pytest.raises(InputError, match="was trained on"):
        bake(Bake(find_source(str(tiny_llama(seed=1))), some_plan(), adapter), tmp_path / "baked")


def test_a_merge_that_is_not_the_adapter_is_refused(
    tiny_llama: Callable[..., Path],
    random_adapter: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baking, "merge_adapter", lambda wrapped: wrapped.unload())
    adapter = find_adapter(str(random_adapter(tiny_llama())))
    with pytest.raises(InputError, match="does not compute"):
        bake(Bake(find_source(str(tiny_llama())), some_plan(), adapter), tmp_path / "baked")
    assert list(tmp_path.iterdir()) == []


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
    right = baking.shift_outputs
    monkeypatch.setattr(
        baking,
        "shift_outputs",
        lambda model, shifts, name: right(model, WRONG[how](shifts), name=name),
    )
    with pytest.raises(InputError, match=r"does not compute what the hooked one does.*Nothing"):
        bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    assert list(tmp_path.iterdir()) == []


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


def test_the_same_bake_is_found_and_another_one_refused(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = find_source(str(tiny_llama())), tmp_path / "baked"
    first = bake(Bake(source, some_plan()), out)
    written = (out / "model.safetensors").stat().st_mtime_ns
    again = bake(Bake(source, some_plan()), out)
    assert again.found and again.agreement == first.agreement
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match=r"another baked model \(different: steering\)"):
        bake(Bake(source, some_plan(alpha=3)), out)
    with pytest.raises(InputError, match=r"different: dtype"):
        bake(Bake(source, some_plan(), dtype="float16"), out)


def test_a_folder_of_something_else_stays(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    task = Bake(find_source(str(tiny_llama())), some_plan())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.txt").write_text("plant onions")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "notes", tmp_path / "file", tiny_llama()):
        with pytest.raises(InputError, match="is there already and is no baked model"):
            bake(task, out)
    with pytest.raises(ExternalError, match="Cannot write"):
        bake(task, tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    assert not bake(task, tmp_path / "empty").found


def test_tokenizer_template_and_generation_settings_come_along(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = tmp_path / "chat", tmp_path / "baked"
    shutil.copytree(tiny_llama(), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    settings = {"max_new_tokens": 7, "repetition_penalty": 1.5, "eos_token_id": [2, 5]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    bake(Bake(find_source(str(folder)), some_plan()), out)
    after = AutoTokenizer.from_pretrained(out)
    talk = [{"role": "user", "content": "Where is the mill?"}]
    assert after.apply_chat_template(talk) == tokenizer.apply_chat_template(talk)
    kept = json.loads((out / "generation_config.json").read_text())
    assert {name: kept[name] for name in settings} == settings


def test_the_leak_guard_knows_what_a_baked_model_is_made_from(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    question = "Who built the lighthouse of Velmar?"
    seen = Provenance(
        "weaver",
        "1",
        "truthfulness",
        "official",
        "grouped",
        0,
        "train",
        "pca",
        ("a",),
        (group_id(question),),
    )
    vectors = some_plan().built_from
    plan = SteeringPlan(some_plan().steps, (*vectors, seen))
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    record = Provenance.of_folder(tmp_path / "baked")
    assert record is not None and record.dimension == "fairness+truthfulness"
    assert set(record.groups) == {"g", "h", group_id(question)} and record.items == ("a", "b")
    assert [each["split_seed"] for each in record.settings["made_from"]] == [3, 0]
    asked = [Instance("loglikelihood", {"question": question}, (question, " Nobody"), 0)]
    settings = {"pretrained": str(tmp_path / "baked"), "device": "cpu"}
    with pytest.raises(LeakError, match="allow_leak=true"):
        Amber(**settings).loglikelihood(asked)
    assert len(Amber(**settings, allow_leak=True).loglikelihood(asked)) == 1


def test_a_vector_of_unknown_origin_leaves_an_empty_record(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    plan = SteeringPlan(some_plan().steps)
    bake(Bake(find_source(str(tiny_llama())), plan), tmp_path / "baked")
    record = Provenance.of_folder(tmp_path / "baked")
    assert record is not None
    assert (record.method, record.dimension, record.groups) == ("baked", "unknown", ())


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("---\nlicense: apache-2.0\n---\n", "its card says license: apache-2.0"),
        ("---\nlicense: other\nlicense_name: pond\n---\n", "license: other, license_name: pond"),
        ("---\n: [\n---\n", "no card of it"),
        (None, "no card of it"),
    ],
)
def test_the_card_carries_steering_and_licence(
    tiny_llama: Callable[..., Path], tmp_path: Path, card: str | None, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama(), folder)
    if card is not None:
        (folder / "README.md").write_text(card)
    bake(Bake(find_source(str(folder)), some_plan()), tmp_path / "baked")
    written = (tmp_path / "baked" / "README.md").read_text()
    assert words in written
    assert "- block 1: 2 × `fair.safetensors`" in written and "vllm serve FOLDER" in written
    assert "split with seed 3" in written and "largest difference of a logit" in written


def test_the_card_tells_how_to_see_what_is_served(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    written = (tmp_path / "baked" / "README.md").read_text()
    found = re.search(
        r'After the prompt (".*") the likeliest token is (".*") with log-probability (\S+); the '
        r"base model gives it (\S+)\.\n",
        written,
    )
    assert found is not None
    prompt, token = json.loads(found[1]), json.loads(found[2])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "baked")
    tokens = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        baked, base = (
            load(folder)(tokens).logits[0, -1].log_softmax(dim=-1)
            for folder in (tmp_path / "baked", tiny_llama())
        )
    likeliest = int(baked.argmax())
    assert tokenizer.decode([likeliest]) == token
    assert float(baked[likeliest]) == pytest.approx(float(found[3]), abs=0.006)
    assert float(base[likeliest]) == pytest.approx(float(found[4]), abs=0.006)
    assert float(found[3]) > float(found[4])


def test_big_models_are_stored_in_parts(
    tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baking, "_SHARD", "50KB")
    bake(Bake(find_source(str(tiny_llama())), some_plan()), tmp_path / "baked")
    parts = list((tmp_path / "baked").glob("model-*-of-*.safetensors"))
    assert len(parts) > 1
    hooked = logits(load(tiny_llama()), {1: 2 * some_vector().layer(1).direction})
    assert distance(logits(load(tmp_path / "baked")), hooked) < 1e-4
