"""The README of a fine-tuned model or adapter, with the metadata that the Hub reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from lm_eval_trust.models.model_card import base_metadata, base_sentence
from lm_eval_trust.models.sources import Source
from lm_eval_trust.training.conversations import TuningData
from lm_eval_trust.training.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from lm_eval_trust.training.finetune import FinetuneResult


def model_card(
    source: Source, data: TuningData, config: FinetuneConfig, result: FinetuneResult
) -> str:
    """Return the card: what it is, what it has seen, how it was trained, how to evaluate it."""
    lora = config.method == "lora"
    metadata = {
        **base_metadata(source),
        "library_name": "peft" if lora else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lm_eval_trust", config.method, data.dimension],
    }
    what = "LoRA adapter" if lora else "Fully fine-tuned model"
    use = (
        f"lm_eval --model lora_amber --model_args pretrained={source.location},adapter=FOLDER"
        if lora
        else "lm_eval --model finetuned_amber --model_args pretrained=FOLDER"
    )
    shape = (
        f"- adapter: rank {config.lora.rank}, α {config.lora.alpha}, dropout "
        f"{config.lora.dropout}, on {config.lora.targets}\n"
        if lora
        else ""
    )
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# {what} for {data.dimension}

{base_sentence(source)}

## Data

{len(data.train)} conversations to learn from and {len(data.validation)} for validation, from
`{data.data_source}` ({data.part} part, {data.split} split with seed {data.split_seed}); only the
assistant's words are learnt. {result.left_out} conversations were too long and left out.

## Training

- method: {config.method}, seed {config.seed}
{shape}- optimizer: {config.optimizer}, peak rate {config.learning_rate:g}
- batch: {config.batch_size} conversations
- form: {config.form.name}, at most {config.max_length} tokens
- steps: {result.steps}, weights of step {result.kept_step} kept
- training loss: {result.first_loss:.4f} at first, {result.last_loss:.4f} at last
- validation loss: {_loss(result.validation_before)} before, {_loss(result.validation_after)} after

## Evaluation

    {use} --tasks trust_suite

`lm_eval_trust.json` lists the items that were used; evaluating on one of them is refused.
"""


def _loss(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
