"""Identities of what model arguments name: the model, and what is added to it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.file_digest import file_digest
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.model_files import TOKENIZER, digest_of_files, digest_of_model
from lm_eval_trust.models.sources import Source, find_source, hub_errors


def source_of(pretrained: Any, arguments: Mapping[str, Any]) -> Source | None:
    """Return which model it is; ``None`` for one in memory or for one of several in a place.

    Args:
        pretrained: Hub name, folder, or a ready model.
        arguments: Those of ``HFLM``.

    Raises:
        InputError: There is no such model or revision.
        ExternalError: The Hub cannot be reached.
    """
    if not isinstance(pretrained, str) or arguments.get("gguf_file") or arguments.get("subfolder"):
        return None
    revision = str(arguments.get("revision", "main"))
    plain = revision == "main" or Path(pretrained).expanduser().is_dir()
    return find_source(pretrained if plain else f"{pretrained}@{revision}")


def identity_of(pretrained: Any, source: Source | None, arguments: Mapping[str, Any]) -> str:
    """Return the identity of a model; see :func:`source_of` for the arguments.

    Raises:
        InputError: A file that the arguments name is missing.
        ExternalError: The Hub cannot be reached.
    """
    if source is not None:
        return source.identity.text
    if not isinstance(pretrained, str):
        # A model in memory has no name that identifies its weights: its answers are never reused.
        return uuid.uuid4().hex
    within = Path(str(arguments.get("subfolder") or ""))
    file = within / str(arguments.get("gguf_file") or "config.json")
    folder = Path(pretrained).expanduser()
    if not folder.is_dir():
        revision = str(arguments.get("revision", "main"))
        with hub_errors(pretrained, revision):
            found = Path(hf_hub_download(pretrained, file.as_posix(), revision=revision))
        return f"{pretrained} {found.parents[len(file.parts) - 1].name} {file.as_posix()}"
    if not (folder / file).is_file():
        raise InputError(f"The folder {pretrained} holds no {file.as_posix()}.")
    return (
        f"{folder.resolve().name} {digest_of_model(folder / within)} {file_digest(folder / file)}"
    )


def part_identities(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the identities of adapter, difference of weights and tokenizer that arguments name.

    Args:
        arguments: Those of ``HFLM``.

    Raises:
        InputError: There is no such adapter or model.
        ExternalError: The Hub cannot be reached.
    """
    found = {}
    if arguments.get("peft"):
        found["peft"] = find_adapter(str(arguments["peft"])).identity
    if arguments.get("delta"):
        found["delta"] = find_source(str(arguments["delta"])).identity.text
    tokenizer = arguments.get("tokenizer")
    if isinstance(tokenizer, str) and Path(tokenizer).expanduser().is_dir():
        patterns = (*TOKENIZER, "config.json")
        found["tokenizer"] = digest_of_files(Path(tokenizer).expanduser(), patterns)
    return found


def parts_trained_on(arguments: Mapping[str, Any]) -> list[Provenance]:
    """Return what the adapter that arguments name was trained on, as far as it is recorded.

    Raises:
        InputError: There is no such adapter.
        ExternalError: The Hub cannot be reached.
    """
    adapter = find_adapter(str(arguments["peft"])) if arguments.get("peft") else None
    return [adapter.provenance] if adapter and adapter.provenance else []
