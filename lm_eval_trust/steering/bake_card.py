"""The README of a baked model, with the metadata that the Hub reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download, metadata_load
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from lm_eval_trust.models.adapters import Adapter
from lm_eval_trust.models.sources import Source, base_metadata, base_sentence
from lm_eval_trust.steering.bake_verify import Agreement, Probe
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

#: Keys of a model card that state the licence.
_LICENCE = ("license", "license_name", "license_link")


def bake_card(
    source: Source,
    plan: SteeringPlan,
    adapter: Adapter | None,
    agreement: Agreement,
    probe: Probe,
) -> str:
    """Return the card: what was baked into what, how it was verified, how to serve it."""
    licence = licence_of(source)
    metadata = {
        **base_metadata(source),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lm_eval_trust", *(["steering"] if plan.active_steps else []), "baked"],
        **licence,
    }
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# {source.identity.name}, {_title(plan, adapter)}

{base_sentence(source)}

{_adapter_part(adapter)}{_steering_part(plan)}## Verified

Read back after writing, on prompts of several lengths, alone and as a padded batch:
{agreement}. Weights are stored in {agreement.dtype}{_rounded(agreement, plan)}.

## Use

    vllm serve FOLDER
    lm_eval --model vllm --model_args pretrained=FOLDER --tasks trust_suite
    lm_eval --model hf --model_args pretrained=FOLDER --tasks trust_suite
    python convert_hf_to_gguf.py FOLDER                  (llama.cpp)

`lm_eval_trust.json` lists the items that vectors and adapters were built from. `--model amber` and
`--model finetuned_amber` refuse to evaluate on them; `hf`, `vllm` and servers do not read it
and will.

## Is it what is served?

{_biases_part(plan)}{probe}

## Licence

{_licence_part(licence)}
"""


def licence_of(source: Source) -> dict[str, Any]:
    """Return the licence keys of the base model's card; empty if there is no card to read."""
    card = Path(source.location).expanduser() / "README.md"
    if source.identity.commit:
        try:
            revision = source.identity.commit
            card = Path(hf_hub_download(source.location, "README.md", revision=revision))
        except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
            return {}
    if not card.is_file():
        return {}
    try:
        found = metadata_load(card) or {}
    except (ValueError, RecursionError, yaml.YAMLError):  # Its head is not YAML.
        return {}
    return {key: found[key] for key in _LICENCE if key in found}


def _title(plan: SteeringPlan, adapter: Adapter | None) -> str:
    parts = ["merged with an adapter"] if adapter else []
    return " and ".join([*parts, *(["steered"] if plan.active_steps else [])])


def _adapter_part(adapter: Adapter | None) -> str:
    if adapter is None:
        return ""
    data = f", trained on {adapter.provenance.dimension}" if adapter.provenance else ""
    return f"## Adapter\n\n`{Path(adapter.spec).name}`{data}, merged into the weights.\n\n"


def _steering_part(plan: SteeringPlan) -> str:
    if not plan.active_steps:
        return ""
    lines = "\n".join(map(_step_line, plan.active_steps))
    sources = "".join(
        f"\nBuilt by {each.method} from `{each.model}` at `{each.revision}`: {each.dimension}, "
        f"{each.data_source}, {each.part} part, {each.split} split with seed {each.split_seed}.\n"
        for each in plan.built_from
    )
    return (
        f"## Steering\n\nAdded to the outputs of decoder blocks (0-based) at every token, as the "
        f"bias of each block's last linear layer:\n\n{lines}\n{sources}\n"
    )


def _step_line(step: SteeringStep) -> str:
    return (
        f"- block {step.layer}: {step.alpha:g} × `{Path(step.origin).name}`, a vector of length "
        f"{float(step.vector.norm()):.4g} after scaling"
    )


def _rounded(agreement: Agreement, plan: SteeringPlan) -> str:
    if agreement.dtype == "float32":
        return ""
    what = "added biases" if plan.active_steps else "merged weights"
    return f", to which the {what} are rounded; computing in it rounds further"


def _biases_part(plan: SteeringPlan) -> str:
    if not plan.active_steps:
        return ""
    return (
        "An engine whose code knows no biases there may leave them out while loading, without an "
        "error, and\nserve the base model. "
    )


def _licence_part(licence: dict[str, Any]) -> str:
    if not licence:
        return "The base model's terms apply; there was no card of it to read them from."
    said = ", ".join(f"{key}: {value}" for key, value in licence.items())
    return f"The base model's terms apply; its card says {said}."
