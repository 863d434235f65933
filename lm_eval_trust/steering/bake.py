"""Bake a steering plan, or a LoRA adapter, into the weights of a model.

Adding α v to the output of a block at every token is what a bias of the block's last linear layer
does. The result is a plain model folder that any engine can serve without our code. It appears only
once its logits, computed from the written files, agree with the hooked model's.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.core.storage import atomic_folder, file_lock, remove_abandoned
from lm_eval_trust.models.adapters import Adapter, attach_adapter, merge_adapter
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.models.sources import (
    DTYPES,
    Source,
    find_source,
    load_pinned,
    provenance_of_model,
)
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.bake_biases import output_bias_of, shift_heads, shift_outputs
from lm_eval_trust.steering.bake_card import bake_card
from lm_eval_trust.steering.bake_llama import LLAMA_LIKE, as_llama
from lm_eval_trust.steering.bake_verify import Agreement, find_probe, logits_of, prompt_tokens
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep
from lm_eval_trust.steering.vectors import SITES

#: Larger models are stored in files of this size, as their originals are.
_SHARD = "5GB"
#: Key of the bake's own settings in the record.
_BAKE = "bake"
#: Key, among these, of the digest of the model's files as they were verified.
_DIGEST = "digest"
_OTHER_POSITIONS = (
    "see with `lm-eval-trust sweep --positions generated all` what positions=all would give"
)
_VERSIONS = ("lm-eval-trust", "torch", "transformers", "peft")


@dataclass(frozen=True)
class Bake:
    """A model to write with its steering in its weights.

    Attributes:
        source: The base model.
        plan: The steering; empty to merge the adapter alone.
        adapter: A LoRA adapter to merge first.
        dtype: Dtype of the stored weights: ``auto`` (the base's own), ``float32``,
            ``bfloat16`` or ``float16``.
        any_base: Merge the adapter also into another model than the one it was trained on.

    Raises:
        InputError: Nothing to bake, or steps that are no constant; the reason is given.
    """

    source: Source
    plan: SteeringPlan
    adapter: Adapter | None = None
    dtype: str = "auto"
    any_base: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if not self.plan.active_steps and (self.plan.steps or self.adapter is None):
            raise InputError(
                "This bake would change nothing: there is no steering with an alpha other than 0."
            )
        for step in self.plan.active_steps:
            _refuse_varying(step)

    @property
    def settings(self) -> dict[str, Any]:
        """What the baked weights depend on, JSON-like."""
        return {
            "model": self.source.identity.text,
            "steering": self.plan.fingerprint if self.plan.active_steps else None,
            "adapter": self.adapter.identity if self.adapter else None,
            "dtype": self.dtype,
        }

    def shifts(self, site: str = "block") -> dict[int, torch.Tensor]:
        """Return what is added at a site of each block, float32, shape (hidden,)."""
        return {
            layer: torch.stack([step.alpha * step.constant() for step in steps]).sum(dim=0)
            for layer, steps in self.plan.by_layer(site).items()
        }

    def provenance(self, result: BakeResult, digest: str) -> Provenance:
        """Return the record that goes into the folder, whose model files have this digest."""
        vectors = self.plan.built_from if self.plan.active_steps else ()
        trained = (provenance_of_model(self.source), self.adapter and self.adapter.provenance)
        made_from = [*vectors, *(each for each in trained if each)]
        method = "baked" if self.plan.active_steps else "lora"
        verified = {
            "baked": asdict(result.agreement),
            "merge": asdict(result.merge) if result.merge else None,
        }
        settings = self.settings | {"verified": verified, _DIGEST: digest}
        settings["steps"] = [step.summary() for step in self.plan.active_steps]
        return _record_of(self.source, made_from, settings, method=method)


@dataclass(frozen=True)
class BakeResult:
    """What came out.

    Attributes:
        agreement: How close the baked model is to the hooked one.
        merge: How close the merged weights are to the unmerged adapter, before they are rounded to
            their dtype; ``None`` without adapter.
        found: Whether the same bake existed already, so nothing was done.
    """

    agreement: Agreement
    merge: Agreement | None
    found: bool


def bake(task: Bake, out: Path, *, device: str | None = None) -> BakeResult:
    """Write a baked model's folder, whole and verified or not at all.

    One model is in memory at a time, in float32: 4 bytes per parameter, and the adapter's.

    Args:
        task: What to bake.
        out: Folder that is absent, empty, or holds the same bake already.
        device: Where the logits are computed; see
            :func:`lm_eval_trust.models.sources.load_source`.

    Raises:
        InputError: The model's architecture has no place for the steering, or it is quantised; the
            steering or the adapter does not fit it; the folder contains something else; or the
            written model does not compute what the hooked one does.
        ExternalError: The operating system refused to write.
    """
    out = out.resolve()  # A link stays, and what it points to is written.
    busy = f"Another process writes {out}; choose another --out, or wait."
    with file_lock(out.with_name(f".{out.name}.lock"), busy):
        return _bake(task, out, device)


def _bake(task: Bake, out: Path, device: str | None) -> BakeResult:
    remove_abandoned(out)
    measured = _find_bake(out, task.settings)
    if measured is not None:
        merge = measured["merge"] and Agreement(**measured["merge"])
        return BakeResult(Agreement(**measured["baked"]), merge, found=True)
    _check_model(task)
    with atomic_folder(out) as folder:
        before = _write_model(task, folder, device)
        written = find_source(str(folder))
        baked, tokenizer = load_pinned(written, dtype="auto", device=device)
        stored = str(baked.dtype).removeprefix("torch.")
        logits = logits_of(baked.float(), before.rows)
        agreement = Agreement.of(logits, before.hooked, before.unsteered, dtype=stored)
        agreement.check()
        result = BakeResult(agreement, before.merge, found=False)
        record = task.provenance(result, written.identity.revision)
        (folder / PROVENANCE_FILE).write_text(record.to_json(), encoding="utf-8")
        probe = find_probe(tokenizer, before.rows, before.hooked, before.unsteered)
        card = bake_card(task.source, task.plan, task.adapter, agreement, probe)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return result


@dataclass(frozen=True)
class _Before:
    """What the base model computed before it was baked.

    Attributes:
        rows: Prompts, as token ids.
        unsteered: The base model's logits at them.
        hooked: The hooked model's, with the adapter merged.
        merge: How near the merged model is to the one with the adapter beside it.
    """

    rows: list[list[int]]
    unsteered: torch.Tensor
    hooked: torch.Tensor
    merge: Agreement | None


def _write_model(task: Bake, folder: Path, device: str | None) -> _Before:
    """Write weights and tokenizer."""
    model, tokenizer = load_pinned(task.source, dtype=task.dtype, device=device)
    stored, model = model.dtype, model.float()
    rows = prompt_tokens(model, tokenizer)
    unsteered, merge = logits_of(model, rows), None
    if task.adapter is not None:
        model, merge = _merged(model, task.adapter, rows, unsteered)
        _round(model, stored)  # Hooked below are the weights that will be stored.
    with Steerer(model, task.plan).apply():
        hooked = logits_of(model, rows)
    if task.plan.active_steps:
        model = as_llama(model) if model.config.model_type in LLAMA_LIKE else model
        name = task.source.identity.name
        shift_outputs(model, task.shifts(), name=name)
        shift_heads(model, task.shifts("heads"), name=name)
    model.to(stored).save_pretrained(folder, max_shard_size=_SHARD)
    tokenizer.save_pretrained(folder)
    return _Before(rows, unsteered, hooked, merge)


@torch.no_grad()
def _round(model: Any, dtype: torch.dtype) -> None:
    """Round the weights; buffers such as rotary frequencies are computed again while loading."""
    for weight in model.parameters():
        weight.copy_(weight.to(dtype))


def _merged(
    model: Any, adapter: Adapter, rows: list[list[int]], unsteered: torch.Tensor
) -> tuple[Any, Agreement]:
    adapted = attach_adapter(model, adapter, to_merge=True)
    beside = logits_of(adapted, rows)
    merged = merge_adapter(adapted)
    agreement = Agreement.of(logits_of(merged, rows), beside, unsteered, dtype="float32")
    agreement.check(instead="Evaluate it with lora_amber")
    return merged, agreement


def _check_model(task: Bake) -> None:
    """Refuse before gigabytes of weights are loaded."""
    name, config = task.source.identity.name, _config(task.source)
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"{name} is quantised; bake the model that it was made from, and quantise the result."
        )
    if task.plan.active_steps:
        for site in SITES:
            if task.plan.by_layer(site):
                output_bias_of(config, model=name, site=site)
        task.plan.check(blocks=config.num_hidden_layers, width=config.hidden_size, model=name)
    if task.adapter is not None and not task.any_base:
        task.adapter.check_base(task.source.identity, override="--any-base")


def _config(source: Source) -> Any:
    from transformers import AutoConfig

    with loading_errors(f"the configuration of {source.location}"):
        return AutoConfig.from_pretrained(source.location, **source.arguments)


def _refuse_varying(step: SteeringStep) -> None:
    if step.when is not None:
        reason = "whether it acts depends on the prompt, which weights do not know"
    elif not ACTIONS[step.action].constant:
        reason = "what it adds depends on the hidden state, where a bias is the same everywhere"
    elif step.positions != "all":
        reason = "it acts at some tokens only, and weights do not know where a prompt ends"
    else:
        return
    other = "leave `when` out" if step.when else _OTHER_POSITIONS
    raise InputError(
        f"action={step.action} at positions={step.positions} (layer {step.layer}, {step.origin}) "
        f"cannot be baked: {reason}. Only an action that adds the same everywhere, such as "
        f"add, at positions=all can. Evaluate this steering with steered_amber, or {other}."
    )


def _record_of(
    source: Source, made_from: Sequence[Provenance], settings: dict[str, Any], *, method: str
) -> Provenance:
    """Return the provenance of a baked model: that of everything it was made from, together.

    Items and groups are the union, so the leak guard refuses what any of them was built
    from. ``settings`` hold each one's own summary; where they differ, the names are joined and
    the split's seed is the first one's.

    Args:
        source: The base model.
        made_from: Provenance of the vectors, the adapter and the base, where they have one.
        settings: What the bake is, for :func:`_find_bake`.
        method: ``lora`` for a merged adapter alone, otherwise ``baked``.
    """

    def joined(name: str) -> str:
        values = dict.fromkeys(str(getattr(each, name)) for each in made_from)
        return "+".join(values) or "unknown"

    return Provenance(
        model=source.identity.name,
        revision=source.identity.commit or source.identity.revision,
        dimension=joined("dimension"),
        data_source=joined("data_source"),
        split=joined("split"),
        split_seed=made_from[0].split_seed if made_from else 0,
        part=joined("part"),
        method=method,
        items=tuple(sorted({item for each in made_from for item in each.items})),
        groups=tuple(sorted({group for each in made_from for group in each.groups})),
        settings={_BAKE: settings, "made_from": [each.summary() for each in made_from]},
        versions={name: importlib.metadata.version(name) for name in _VERSIONS},
    )


def _find_bake(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was measured of the same bake in a folder; ``None`` if the folder is free.

    Args:
        out: Where the model is to be.
        settings: What the bake is.

    Raises:
        InputError: Something else is there, or the same bake with other files.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    record = Provenance.of_folder(out) if out.is_dir() else None
    found = record.settings.get(_BAKE) if record else None
    if not isinstance(found, dict):
        raise InputError(f"{out} is there already and is no baked model; choose another --out.")
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        raise InputError(
            f"{out} holds another baked model (different: {', '.join(differing)}); choose another "
            f"--out, or delete it."
        )
    if found.get(_DIGEST) != find_source(str(out)).identity.revision:
        raise InputError(
            f"{out} holds this baked model, but its files are no longer what was verified; "
            f"delete it, or choose another --out."
        )
    measured: dict[str, Any] = found["verified"]
    return measured
