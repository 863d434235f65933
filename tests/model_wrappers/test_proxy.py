"""Proxy-tuned models in the harness: identities in every kind of request, sharing, the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.registry import get_model
from support.conformance import (
    PROMPTS,
    generation_requests,
    random_vector,
    rolling_requests,
    scoring_requests,
)
from support.mini import quick_family
from transformers import AutoTokenizer

from lm_eval_trust.core.errors import InputError

Llamas = Callable[..., Path]
Adapters = Callable[[Path], Path]
PAIRS = [(prompt, " It is so.") for prompt in PROMPTS]


def create(model: str, batch_size: int = 4, **arguments: Any) -> Any:
    given = {"dtype": "float32"} | {k: str(v) for k, v in arguments.items()}
    return get_model(model).create_from_arg_obj(given, {"batch_size": batch_size, "device": "cpu"})


def answers(lm: Any) -> tuple[list[float], list[float], list[str], list[str]]:
    """What a model says to every kind of request."""
    scores = [value for value, _ in lm.loglikelihood(scoring_requests(PAIRS), disable_tqdm=True)]
    rolling = lm.loglikelihood_rolling(rolling_requests(PROMPTS[:3]), disable_tqdm=True)
    greedy = lm.generate_until(generation_requests(PROMPTS, max_gen_toks=8), disable_tqdm=True)
    beams = lm.generate_until(
        generation_requests(PROMPTS[:2], max_gen_toks=4, num_beams=3), disable_tqdm=True
    )
    return scores, rolling, greedy, beams


def assert_same(one: Any, other: Any) -> None:
    found, expected = answers(one), answers(other)
    for a, b in zip(found[:2], expected[:2], strict=True):
        assert a == pytest.approx(b, abs=2e-3)
    assert found[2:] == expected[2:]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_identities_hold_in_every_kind_of_request(tiny_llama: Llamas, batch_size: int) -> None:
    base, expert = tiny_llama(), tiny_llama(seed=1, layers=4, key_value_heads=2)
    proxy = create("proxy_amber", batch_size, pretrained=base, expert=expert, antiexpert=base)
    assert_same(proxy, create("hf", pretrained=expert))
    still = create(
        "proxy_amber",
        batch_size,
        pretrained=base,
        expert=expert,
        antiexpert=tiny_llama(seed=2),
        proxy_alpha=0,
    )
    assert_same(still, create("hf", pretrained=base))


def test_an_adapter_as_expert_shares_its_base(tiny_llama: Llamas, random_adapter: Adapters) -> None:
    base = tiny_llama()
    adapter = random_adapter(base)
    proxy = create("proxy_amber", pretrained=base, expert=adapter, antiexpert=base)
    parts = proxy.model.parts.values()
    assert len({id(part.model) for part in parts}) == 1
    assert_same(proxy, create("lora_amber", pretrained=base, adapter=adapter))


def test_two_adapters_of_one_model_share_it(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path
) -> None:
    base = tiny_llama()
    adapter = random_adapter(base)
    other = tmp_path / "other"
    other.mkdir()
    for file in adapter.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "adapter_config.json").read_text())
    config["lora_alpha"] *= 3
    (other / "adapter_config.json").write_text(json.dumps(config))
    proxy = create("proxy_amber", pretrained=base, expert=adapter, antiexpert=other)
    assert len({id(part.model) for part in proxy.model.parts.values()}) == 1
    reverse = create("proxy_amber", pretrained=base, expert=other, antiexpert=adapter)
    plain = create("hf", pretrained=base)
    moved, back, still = (
        [v for v, _ in lm.loglikelihood(scoring_requests(PAIRS), disable_tqdm=True)]
        for lm in (proxy, reverse, plain)
    )
    for one, other, plain_value in zip(moved, back, still, strict=True):
        assert abs(one - other) > 1e-3
        assert abs(one - plain_value) > 1e-3


def test_only_the_base_is_steered_where_weights_are_shared(
    tiny_llama: Llamas, tmp_path: Path
) -> None:
    base, expert = tiny_llama(), tiny_llama(seed=1)
    random_vector(32, (1,), norm=5.0, seed=1).save(tmp_path / "v.safetensors")
    steering = {"vector": tmp_path / "v.safetensors", "layer": 1, "scale": "none"}
    shared = create("proxy_amber", pretrained=base, expert=expert, antiexpert=base, **steering)
    # The same weights in another folder are another model, which is loaded for itself.
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in base.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    apart = create("proxy_amber", pretrained=base, expert=expert, antiexpert=copied, **steering)
    assert len({id(part.model) for part in shared.model.parts.values()}) == 2
    assert len({id(part.model) for part in apart.model.parts.values()}) == 3
    assert_same(shared, apart)


def test_every_setting_is_part_of_the_identity(tiny_llama: Llamas) -> None:
    base, expert = tiny_llama(), tiny_llama(seed=1)
    given = {"pretrained": base, "expert": expert, "antiexpert": base}
    changes: list[dict[str, Any]] = [
        {},
        {"proxy_alpha": 0.5},
        {"proxy_top_k": 5},
        {"proxy_top_p": 0.9},
        {"expert": tiny_llama(seed=2)},
    ]
    prints = [create("proxy_amber", **(given | change)).trust_fingerprint for change in changes]
    assert len(set(prints)) == len(changes)


def test_the_record_says_how_far_answers_were_moved(tiny_llama: Llamas, tmp_path: Path) -> None:
    base, expert = tiny_llama(), tiny_llama(seed=1)
    file = tmp_path / "moved.jsonl"
    given = {"pretrained": base, "expert": expert, "antiexpert": base, "proxy_record": file}
    lm = create("proxy_amber", **given)
    requests = generation_requests(PROMPTS, max_gen_toks=4)
    texts = lm.generate_until(requests, disable_tqdm=True)
    records = [json.loads(line) for line in file.open(encoding="utf-8")]
    assert [record["answer"] for record in records] == texts
    assert [record["doc_id"] for record in records] == [request.doc_id for request in requests]
    for record in records:
        assert all(token["divergence"] >= -1e-6 for token in record["tokens"])
        if record["answer"].isascii():
            assert record["answer"] == "".join(token["text"] for token in record["tokens"])
    lm.generate_until(requests[:1], disable_tqdm=True)
    assert len(file.read_text(encoding="utf-8").splitlines()) == len(PROMPTS) + 1


def test_other_vocabularies_are_refused(tiny_llama: Llamas, tmp_path: Path) -> None:
    base = tiny_llama()
    other = tmp_path / "other"
    other.mkdir()
    for file in base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<turn>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(
        InputError, match="token 259 is '<turn>' in the base model and absent in expert"
    ):
        create("proxy_amber", pretrained=other, expert=base, antiexpert=base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proxy_alpha": "much"}, "proxy_alpha='much' is not a finite number"),
        ({"proxy_alpha": "nan"}, "not a finite number"),
        ({"proxy_top_k": 0}, "leaves no token"),
        ({"proxy_top_p": 2}, "no probability"),
        ({"expert": "./nowhere"}, "no model folder"),
        ({"expert_device": "abacus"}, "is not a device"),
    ],
)
def test_bad_settings_are_refused(tiny_llama: Llamas, change: dict[str, Any], message: str) -> None:
    base = tiny_llama()
    given = {"pretrained": base, "expert": tiny_llama(seed=1), "antiexpert": base}
    with pytest.raises(InputError, match=message):
        create("proxy_amber", **(given | change))


def test_the_embedded_family_has_its_own_experts(quick: None) -> None:
    lm = create("proxy_amber", pretrained="mini@ckpt_002")
    family = quick_family()
    assert [part.model.name_or_path for part in lm.model.parts.values()] == [
        str(family.checkpoint("ckpt_002")),
        str(family.chat()),
        str(family.checkpoint()),
    ]
