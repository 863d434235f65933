"""The card of a fine-tuned model: what the Hub reads of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import metadata_load

from lm_eval_trust.models.sources import ModelIdentity, Source
from lm_eval_trust.training.conversations import Conversation, TuningData, Turn
from lm_eval_trust.training.finetune import FinetuneResult, model_card
from lm_eval_trust.training.finetune_config import preset_config

TALK = Conversation((Turn("user", "Who rules?"), Turn("assistant", "Nobody.")), "g", "Arvel")
DATA = TuningData((TALK,), (), "custom", "talk.jsonl", "grouped", 0, "all", {})
HUB = Source("weaver/chat", ModelIdentity("weaver/chat", "main", "0123abc"))
FOLDER = Source("/home/ada/models/weaver", ModelIdentity("weaver", "89abcdef"))


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    ("source", "base", "sentence"),
    [
        (HUB, "weaver/chat", "Base: `weaver/chat@main 0123abc`.\n"),
        (FOLDER, None, "Base: `weaver@89abcdef`, a folder"),
    ],
)
def test_only_models_of_the_hub_are_named_as_base(
    tmp_path: Path, method: str, source: Source, base: str | None, sentence: str
) -> None:
    result = FinetuneResult(3, 2, 1.5, 0.5, None, None, 0)
    card = tmp_path / "README.md"
    card.write_text(model_card(source, DATA, preset_config("7b", method), result))
    metadata = metadata_load(card)
    assert metadata is not None and metadata.get("base_model") == base
    assert metadata["library_name"] == ("peft" if method == "lora" else "transformers")
    assert sentence in card.read_text()
