"""LoRA and fully fine-tuned models in the harness: merging, mismatches, the leak guard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.registry import get_model
from support.conformance import generation_requests, scoring_requests

from lm_eval_trust.core.errors import ExternalError, InputError, LeakError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.models.sources import find_source

Adapters = Callable[[Path], Path]
Llamas = Callable[..., Path]
PAIRS = [("Who rules Bram?", " Nobody."), ("a", "b"), ("The hill", " is old.")]
QUESTION = "Who lives in the town of Ossia?"


def create(model: str, **arguments: Any) -> Any:
    given = {"dtype": "float32"} | {k: str(v) for k, v in arguments.items()}
    return get_model(model).create_from_arg_obj(given, {"batch_size": 4, "device": "cpu"})


def with_provenance(folder: Path, target: Path, base: Path, method: str) -> Path:
    """A copy of a folder that says what it was trained on."""
    shutil.copytree(folder, target)
    identity = find_source(str(base)).identity
    groups = (group_id(QUESTION),)
    record = Provenance(
        identity.name,
        identity.revision,
        "reliability",
        "official",
        "grouped",
        0,
        "train",
        method,
        groups,
        groups,
    )
    (target / PROVENANCE_FILE).write_text(record.to_json())
    return target


def requests(question: str) -> list[Any]:
    found = generation_requests([f"Q: {question}"], max_gen_toks=2)
    for request in found:
        request.doc = {"question": question}
    return found


def test_merged_and_unmerged_give_the_same(tiny_llama: Llamas, random_adapter: Adapters) -> None:
    base = tiny_llama()
    answers = []
    for merge in ("false", "true"):
        lm = create("lora_amber", pretrained=base, adapter=random_adapter(base), merge=merge)
        scores = lm.loglikelihood(scoring_requests(PAIRS), disable_tqdm=True)
        texts = lm.generate_until(
            generation_requests([p for p, _ in PAIRS], max_gen_toks=8), disable_tqdm=True
        )
        answers.append((scores, texts))
    (unmerged, texts), (merged, merged_texts) = answers
    assert texts == merged_texts
    for (one, greedy), (other, other_greedy) in zip(unmerged, merged, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
        assert greedy == other_greedy


def test_the_adapter_is_part_of_the_models_identity(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path
) -> None:
    base = tiny_llama()
    adapter = random_adapter(base)
    other = with_provenance(adapter, tmp_path / "other", base, "lora")
    config = json.loads((other / "adapter_config.json").read_text())
    config["lora_alpha"] += 1
    (other / "adapter_config.json").write_text(json.dumps(config))
    prints = {
        create("lora_amber", pretrained=base, adapter=place).trust_fingerprint
        for place in (adapter, other)
    }
    prints.add(create("amber", pretrained=base).trust_fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("method", ["lora", "full"])
def test_items_that_were_trained_on_are_refused(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path, method: str
) -> None:
    base = tiny_llama()
    made = random_adapter(base) if method == "lora" else base
    folder = with_provenance(made, tmp_path / "trained", base, method)
    model, arguments = (
        ("lora_amber", {"pretrained": base, "adapter": folder})
        if method == "lora"
        else ("finetuned_amber", {"pretrained": folder})
    )
    with pytest.raises(LeakError, match=r"made from .*reliability train part"):
        create(model, **arguments).generate_until(requests(QUESTION), disable_tqdm=True)
    create(model, **arguments).generate_until(requests("Who bakes?"), disable_tqdm=True)
    allowed = create(model, **arguments, allow_leak="true")
    assert allowed.generate_until(requests(QUESTION), disable_tqdm=True)
    assert allowed.get_model_info()["trained_on"][0]["method"] == method


def test_another_base_model_is_refused(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path
) -> None:
    base, other = tiny_llama(), tiny_llama(seed=5)
    known = with_provenance(random_adapter(base), tmp_path / "known", base, "lora")
    for adapter in (random_adapter(base), known):
        with pytest.raises(InputError, match=r"was trained on .* any_base=true"):
            create("lora_amber", pretrained=other, adapter=adapter)
        create("lora_amber", pretrained=other, adapter=adapter, any_base="true")
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    create("lora_amber", pretrained=moved, adapter=known)


def test_an_adapter_of_another_shape_is_refused(
    tiny_llama: Llamas, random_adapter: Adapters
) -> None:
    adapter = random_adapter(tiny_llama(layers=4))
    for other in (tiny_llama(layers=2), tiny_llama(hidden=48)):
        with pytest.raises(InputError, match="does not fit"):
            create("lora_amber", pretrained=other, adapter=adapter, any_base="true")


def test_an_adapter_for_other_modules_is_refused(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path
) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(random_adapter(tiny_llama()), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = ["query_key_value"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"does not fit this llama.*query_key_value"):
        create("lora_amber", pretrained=tiny_llama(), adapter=folder)


def test_what_is_no_adapter_is_named(
    tiny_llama: Llamas, random_adapter: Adapters, tmp_path: Path
) -> None:
    base = tiny_llama()
    with pytest.raises(InputError, match="lora_amber needs adapter="):
        create("lora_amber", pretrained=base)
    with pytest.raises(InputError, match="no adapter at"):
        create("lora_amber", pretrained=base, adapter="./nowhere")
    with pytest.raises(InputError, match="whole model: use finetuned_amber"):
        create("lora_amber", pretrained=base, adapter=base)
    with pytest.raises(ExternalError, match="someone/adapter"):
        create("lora_amber", pretrained=base, adapter="someone/adapter")
    broken = tmp_path / "broken"
    shutil.copytree(random_adapter(base), broken)
    (broken / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        create("lora_amber", pretrained=base, adapter=broken)
    (broken / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="lacks adapter_model"):
        create("lora_amber", pretrained=base, adapter=broken)


def test_what_is_no_whole_model_is_named(tiny_llama: Llamas, random_adapter: Adapters) -> None:
    with pytest.raises(InputError, match="finetuned_amber needs pretrained="):
        create("finetuned_amber")
    with pytest.raises(InputError, match="use `--model lora_amber"):
        create("finetuned_amber", pretrained=random_adapter(tiny_llama()))
    with pytest.raises(InputError, match=r"adaptor.*'adapter'"):
        create("lora_amber", adapter=random_adapter(tiny_llama()), adaptor="x")
