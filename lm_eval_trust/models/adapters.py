"""Adapters of peft: finding them, attaching, merging and making them.

Everything that uses peft is here. It was tested with peft 0.21.2; ``tests/models/test_adapters.py``
fails if a release moves what we rely on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.models.adapter_checks import (
    check_attached,
    check_settings,
    replaced_weights,
    stored_weights,
)
from lm_eval_trust.models.decoder_blocks import language_part
from lm_eval_trust.models.loading import check_finite
from lm_eval_trust.models.model_files import TOKENIZER, digest_of_files
from lm_eval_trust.models.sources import ModelIdentity, hub_errors
from lm_eval_trust.models.vocabulary import add_rows, rows_of

#: Layers of a state-space mixer whose weights its code multiplies by itself.
_USED_PAST_THE_LAYER = ("conv1d", "dt_proj", "out_proj", "x_proj")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TOKENIZER_CONFIG = "tokenizer_config.json"
#: What a tokenizer of the Hub may consist of beside it.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Adapter:
    """An adapter that was found.

    Attributes:
        spec: How it was asked for.
        folder: Where its files are.
        identity: Digest of its configuration, weights and tokenizer.
        base: Name of its base model, as its configuration has it.
        provenance: What it was trained on; ``None`` for adapters of other tools.
    """

    spec: str
    folder: Path
    identity: str
    base: str
    provenance: Provenance | None

    @property
    def tokenizer(self) -> str | None:
        """Folder of the tokenizer that it was trained with; ``None`` if it carries none."""
        return str(self.folder) if (self.folder / _TOKENIZER_CONFIG).is_file() else None

    @property
    def weights(self) -> set[str]:
        """Names of its stored weights.

        Raises:
            InputError: The file is damaged, or holds other numbers than real ones.
        """
        return stored_weights(self.folder / WEIGHTS)

    @property
    def stores_embeddings(self) -> bool:
        """Whether embeddings that take the place of the model's are among its weights."""
        return rows_of(self.folder / WEIGHTS) is not None

    def check_base(self, model: ModelIdentity, *, override: str | None = "any_base=true") -> None:
        """Refuse another base model than the adapter's own.

        The provenance of an adapter holds the digest of its base. Without one only the name is
        known, and a folder with the same last name passes.

        Args:
            model: The model to put the adapter on.
            override: The option that allows another base; ``None`` if there is none.

        Raises:
            InputError: With both models' names.
        """
        if self.provenance is not None:
            known = self.provenance.settings.get("commit") or self.provenance.revision
            same = known in (model.commit, model.revision)
        else:
            same = not self.base or _last_name(self.base) == _last_name(model.name)
        if not same:
            remedy = f", or pass {override} to put it on this one" if override else ""
            raise InputError(
                f"The adapter {self.spec} was trained on {self.base}, not on {model.name} at "
                f"{model.revision}. Use it on that model{remedy}."
            )


def is_adapter(spec: str) -> bool:
    """Tell whether a folder contains an adapter and not a whole model."""
    folder = Path(spec).expanduser()
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def find_adapter(spec: str) -> Adapter:
    """Return the adapter at a folder or a Hub name, ``NAME[@REVISION]``.

    Raises:
        InputError: There is none, or its files are not those of an adapter.
        ExternalError: The Hub cannot be reached.
    """
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        if spec.startswith((".", "/", "~")) or spec.count("/") != 1:
            raise InputError(
                f"There is no adapter at {spec!r}; expected a folder with {CONFIG}, or a Hub name."
            )
        folder = _download(spec)
    if not (folder / CONFIG).is_file():
        hint = " It is a whole model: use finetuned_amber." if _is_model(folder) else ""
        raise InputError(f"The folder {spec} holds no {CONFIG}, so it is no adapter.{hint}")
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"The adapter {spec} lacks {WEIGHTS}; save it with safetensors.")
    config = _read_config(folder / CONFIG)
    check_settings(config, where=folder / CONFIG)
    return Adapter(
        spec=spec,
        folder=folder,
        identity=digest_of_files(folder, (CONFIG, WEIGHTS, *TOKENIZER)),
        base=str(config.get("base_model_name_or_path") or ""),
        provenance=Provenance.of_folder(folder),
    )


def attach_adapter(
    model: Any,
    adapter: Adapter,
    *,
    name: str = "default",
    tokenizer: Any = None,
    to_merge: bool = False,
) -> Any:
    """Put an adapter on a model that may have others already.

    Args:
        model: A model of transformers, or peft's wrapper around one.
        adapter: The adapter.
        name: The name to give it.
        tokenizer: The adapter's tokenizer, for one that adds tokens: the model gets rows for them.
            Rows that the adapter does not bring are the mean of the others.
        to_merge: Its change will be added to the weights, which is right for layers that an
            adapter with them is not.

    Returns:
        peft's wrapper in evaluation mode, with the adapter active.

    Raises:
        InputError: The adapter is for another architecture or size, is of a kind that peft does
            not know, puts virtual tokens before the prompt, or its weights are not whole.
    """
    from peft import PeftModel, get_peft_model_state_dict

    _check_kind(adapter)
    stored, config = adapter.weights, _read_config(adapter.folder / CONFIG)
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    if tokenizer is not None:
        add_rows(plain, tokenizer, rows_of(adapter.folder / WEIGHTS), what=adapter.spec)
    replaced = replaced_weights(stored, plain, config)
    if not to_merge:
        _refuse_unadaptable(adapter, plain, stored - replaced)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(adapter.folder), adapter_name=name)
            wrapped = model
        else:
            wrapped = PeftModel.from_pretrained(model, str(adapter.folder), adapter_name=name)
    except (RuntimeError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise _misfit(adapter, model, reason_of(error)) from error
    expected = get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=False)
    # Embeddings are stored whole once their number of rows was changed.
    known = get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=True)
    check_attached(stored, expected, [*known, *replaced], file=adapter.folder / WEIGHTS)
    if others := _changed_names(adapter, expected):
        raise _misfit(
            adapter,
            model,
            f"{len(others)} of its matrices share one place with others, as {min(others)} does in "
            f"blocks with tied weights; train it without these layers",
        )
    wrapped.set_adapter(name)
    return wrapped.eval()


def merge_adapter(wrapped: Any) -> nn.Module:
    """Return the plain model with its adapter's change added to the weights.

    Raises:
        InputError: An adapter of this kind cannot be merged; the message quotes peft's reason. Or
            the sum is not finite in the model's dtype.
    """
    try:
        merged: nn.Module = wrapped.merge_and_unload()
    except (AttributeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The adapter cannot be merged ({reason_of(error)}). Leave it beside the weights: "
            f"lora_amber without merge=true."
        ) from error
    check_finite(merged.state_dict(), str, what="the merged model")
    return merged


def new_lora_adapter(
    model: Any,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: str | Sequence[str],
    revision: str = "",
) -> Any:
    """Put a fresh LoRA adapter on a model, to be trained.

    Args:
        model: A model of transformers; its weights are frozen.
        rank: Rank of the added matrices.
        alpha: Their product is scaled by ``alpha / rank``.
        dropout: Dropout on the adapter's input during training.
        targets: Names of the adapted linear layers, or ``all-linear``: all that an adapter fits,
            see :func:`unadaptable`.
        revision: Commit of the base model, for the adapter's configuration.

    Returns:
        peft's wrapper, with the adapter active.

    Raises:
        InputError: A target that the model does not have, or that cannot be adapted.
    """
    from peft import LoraConfig, get_peft_model

    everywhere = targets == "all-linear"

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules=(unadaptable(model) if everywhere else None) or None,
    )
    try:
        wrapped: Any = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(
            f"No adapter fits {type(model).__name__} at {targets}: {reason_of(error)}"
        ) from error
    if revision:
        wrapped.peft_config["default"].revision = revision
    return wrapped


def unadaptable(model: nn.Module) -> list[str]:
    """Return the names of linear layers that an adapter would get wrong.

    These are layers that return more than a product (routers), or that share their weights with
    others (one block used in several places). So are those of state-space mixers, whose weights are
    also used outside the layer, mainly by fast kernels, and all layers outside the language model.
    """
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    shared = {name.removesuffix(".weight") for pair in tied.items() for name in pair}
    read = {id(module) for module in language_part(model).modules()}
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if name in shared or id(module) not in read or not _is_product(module):
                found.append(name)
        elif hasattr(module, "A_log"):
            found += [f"{name}.{own}" for own in _USED_PAST_THE_LAYER if hasattr(module, own)]
    return sorted(set(found))


@torch.no_grad()
def _is_product(layer: nn.Linear) -> bool:
    """Tell whether a linear layer returns what its name says; kinds of it may return more."""
    if type(layer).forward is nn.Linear.forward:
        return True
    return isinstance(layer(layer.weight.new_zeros(1, layer.in_features)), torch.Tensor)


def refuse_virtual_tokens(model: nn.Module) -> None:
    """Refuse prompt tuning, whose virtual tokens a decoder read alone would leave out.

    Raises:
        InputError: The model has such an adapter.
    """
    for name, config in getattr(model, "peft_config", {}).items():
        if getattr(config, "is_prompt_learning", False):
            raise InputError(
                f"Adapter {name!r} ({config.peft_type}) learns virtual tokens, whose activations "
                f"are not supported; use an adapter inside the blocks, such as LoRA."
            )


def base_of(adapter: Adapter) -> str:
    """Return the base model of an adapter as ``MODEL[@REVISION]``.

    Raises:
        InputError: Its configuration names none.
    """
    if not adapter.base:
        raise InputError(f"{adapter.spec}/{CONFIG} names no base model.")
    revision = _read_config(adapter.folder / CONFIG).get("revision")
    return f"{adapter.base}@{revision}" if revision else adapter.base


def _check_kind(adapter: Adapter) -> None:
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(adapter.folder))
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"peft cannot read {CONFIG} of {adapter.spec}: {error!r}") from error
    if config.is_prompt_learning:
        raise InputError(
            f"The adapter {adapter.spec} ({config.peft_type.value}) puts tokens of its own before "
            f"the prompt, which shifts every position; use an adapter that changes weights."
        )


def _misfit(adapter: Adapter, model: Any, reason: str) -> InputError:
    kind = getattr(model.config, "model_type", type(model).__name__)
    return InputError(f"The adapter {adapter.spec} does not fit this {kind}: {reason}")


def _refuse_unadaptable(adapter: Adapter, model: Any, names: set[str]) -> None:
    for layer in unadaptable(model):
        if any(name.startswith(f"base_model.model.{layer}.") for name in names):
            raise _misfit(
                adapter,
                model,
                f"{layer} is used past its layer, so that an adapter beside it is left out. Use "
                f"lora_amber with merge=true, or train it without this layer.",
            )


def _changed_names(adapter: Adapter, arrived: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the stored matrices whose values are not those that the model now has."""
    with safe_open(adapter.folder / WEIGHTS, framework="pt") as weights:
        return {
            name
            for name in arrived
            if not torch.equal(weights.get_tensor(name).to(arrived[name]), arrived[name])
        }


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is not a JSON object.")
    return config


def _download(spec: str) -> Path:
    name, _, revision = spec.partition("@")
    revision = revision or "main"
    with hub_errors(name, revision):
        folder = Path(hf_hub_download(name, CONFIG, revision=revision)).parent
        hf_hub_download(name, WEIGHTS, revision=folder.name)
    # Adapters of other tools have no provenance, and many adapters no tokenizer.
    with suppress(EntryNotFoundError, LocalEntryNotFoundError):
        hf_hub_download(name, PROVENANCE_FILE, revision=folder.name)
    with suppress(EntryNotFoundError, LocalEntryNotFoundError):
        hf_hub_download(name, _TOKENIZER_CONFIG, revision=folder.name)
        for file in _TOKENIZER_FILES:
            with suppress(EntryNotFoundError, LocalEntryNotFoundError):
                hf_hub_download(name, file, revision=folder.name)
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _last_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
