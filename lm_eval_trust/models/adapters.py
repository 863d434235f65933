"""LoRA adapters of peft: where they are, what they fit, and putting them on a model."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.models.sources import ModelIdentity, digest_of_files, hub_errors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """An adapter that was found.

    Attributes:
        spec: How it was asked for.
        folder: Where its files are.
        identity: Digest of its configuration and weights.
        base: The model that it was trained on, as its configuration names it.
        provenance: What it was trained on; ``None`` for other people's.
    """

    spec: str
    folder: Path
    identity: str
    base: str
    provenance: Provenance | None

    def check_base(self, model: ModelIdentity, *, override: str | None = "any_base=true") -> None:
        """Refuse another base model than the adapter's own.

        An adapter with provenance knows the digest of its base. Of others only the name is
        known; a folder of the same last name passes.

        Args:
            model: What the adapter is to be put on.
            override: How the user says that another base is meant; ``None`` where none may be.

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
    """Tell whether a folder holds an adapter and no whole model."""
    folder = Path(spec).expanduser()
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def find_adapter(spec: str) -> Adapter:
    """Return the adapter at a folder or a Hub name, ``NAME[@REVISION]``.

    Raises:
        InputError: There is none, or its files are not an adapter's.
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
    return Adapter(
        spec=spec,
        folder=folder,
        identity=digest_of_files(folder, (CONFIG, WEIGHTS)),
        base=str(config.get("base_model_name_or_path") or ""),
        provenance=Provenance.of_folder(folder),
    )


def attach_adapter(model: Any, adapter: Adapter, *, name: str = "default") -> Any:
    """Put an adapter on a model, or one more on a model that has one.

    Args:
        model: A model of transformers, or peft's wrapper around one.
        adapter: Which.
        name: What it is called from now on.

    Returns:
        peft's wrapper in evaluation mode, with the adapter switched on.

    Raises:
        InputError: The adapter is made for another architecture or another size, is of a kind
            that peft does not know, or puts tokens of its own before the prompt.
    """
    from peft import PeftModel, get_peft_model_state_dict

    _check_kind(adapter)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(adapter.folder), adapter_name=name)
            wrapped = model
        else:
            wrapped = PeftModel.from_pretrained(model, str(adapter.folder), adapter_name=name)
    except (RuntimeError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise _misfit(adapter, model, " ".join(str(error).split())[:200]) from error
    left_over = _stored_names(adapter) - set(get_peft_model_state_dict(wrapped, adapter_name=name))
    if left_over:
        raise _misfit(
            adapter, model, f"{len(left_over)} of its matrices have no place: {min(left_over)}"
        )
    wrapped.set_adapter(name)
    return wrapped.eval()


def merge_adapter(wrapped: Any) -> torch.nn.Module:
    """Return the plain model with its adapter's change added to the weights.

    Raises:
        InputError: The adapter is of a kind that weights cannot hold; the reason is peft's.
    """
    try:
        merged: torch.nn.Module = wrapped.merge_and_unload()
    except (AttributeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The adapter cannot be merged ({reason}). Leave it beside the weights: lora_amber "
            f"without merge=true."
        ) from error
    return merged


def base_of(adapter: Adapter) -> str:
    """Return the model that an adapter belongs on, as ``MODEL[@REVISION]``.

    Raises:
        InputError: Its configuration does not say.
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
            f"the prompt, which shifts every position; adapters that change weights can be used."
        )


def _misfit(adapter: Adapter, model: Any, reason: str) -> InputError:
    kind = getattr(model.config, "model_type", type(model).__name__)
    return InputError(f"The adapter {adapter.spec} does not fit this {kind}: {reason}")


def _stored_names(adapter: Adapter) -> set[str]:
    with safe_open(adapter.folder / WEIGHTS, framework="pt") as weights:
        return set(weights.keys())


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is not an object of settings.")
    return config


def _download(spec: str) -> Path:
    name, _, revision = spec.partition("@")
    revision = revision or "main"
    with hub_errors(name, revision):
        folder = Path(hf_hub_download(name, CONFIG, revision=revision)).parent
        hf_hub_download(name, WEIGHTS, revision=folder.name)
    # Other people's adapters have none.
    with suppress(EntryNotFoundError, LocalEntryNotFoundError):
        hf_hub_download(name, PROVENANCE_FILE, revision=folder.name)
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _last_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
