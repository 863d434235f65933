"""Which files of a folder decide what a model computes, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.file_digest import file_digests

#: Files that a tokenizer is read from.
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
    "additional_chat_templates/*",
)
#: Files that weights are read from; an index names further ones.
_WEIGHTS = ("*.safetensors", "*.bin")
#: The loader takes them in this order.
_INDICES = ("*.safetensors.index*.json", "*.bin.index*.json")
#: Files that decide what a model computes from a text, or that code of its own is in.
_CONTENT = (
    "config.json",
    "generation_config.json",
    "*quant*config.json",
    "*processor_config.json",
    "*.py",
    *TOKENIZER,
    *_WEIGHTS,
    *_INDICES,
)


def digest_of_model(folder: Path) -> str:
    """Return 16 hexadecimal digits that identify all that a model is loaded from.

    Raises:
        InputError: An index is damaged, or names a file that is missing or outside the folder.
        ExternalError: The operating system refused to read.
    """
    return _digest(folder, {*_matching(folder, _CONTENT), *indexed_files(folder)})


def digest_of_files(folder: Path, patterns: Iterable[str]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the files that match one of the patterns.

    Raises:
        InputError: A file changes while it is read.
        ExternalError: The operating system refused to read.
    """
    return _digest(folder, _matching(folder, patterns))


def indexed_files(folder: Path) -> set[Path]:
    """Return the files that the folder's indices of weights name.

    Raises:
        InputError: An index is damaged, or names a file that is missing or outside the folder.
    """
    found = set()
    for index in sorted(_matching(folder, _INDICES)):
        for name in sorted(set(_weight_map(index).values())):
            found.add(_inside(folder, index, name))
    return found


def weight_files(folder: Path) -> list[Path]:
    """Return the files with weights that transformers takes from a folder, in its order.

    Raises:
        InputError: See :func:`indexed_files`.
    """
    for pattern, kind in zip(_INDICES, _WEIGHTS, strict=True):
        single = folder / ("model" + kind[1:] if kind == "*.safetensors" else "pytorch_model.bin")
        if single.is_file():
            return [single]
        if _matching(folder, [pattern]):
            return sorted(path for path in indexed_files(folder) if path.match(kind))
    return sorted(_matching(folder, _WEIGHTS))


def _matching(folder: Path, patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}


def _digest(folder: Path, files: Iterable[Path]) -> str:
    digests = file_digests(files)
    lines = sorted(f"{path.relative_to(folder).as_posix()} {digests[path]}\n" for path in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        found = content["weight_map"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{index} is no index of weights: it has no 'weight_map'.") from error
    if not isinstance(found, dict) or not all(isinstance(n, str) for n in found.values()):
        raise InputError(f"{index} is no index of weights: 'weight_map' maps tensors to files.")
    return found


def _inside(folder: Path, index: Path, name: str) -> Path:
    """Return a file that an index names; links into the Hub's cache may leave the folder."""
    given = PurePosixPath(name)
    path = folder / given
    if given.is_absolute() or ".." in given.parts or not _may_be_read(path, folder):
        raise InputError(
            f"{index} names {name!r}, which is outside the model's folder and is not read. Put the "
            f"file into the folder, and its name into the index."
        )
    if not path.is_file():
        raise InputError(f"{index} names {name!r}, and there is no such file; copy it again.")
    return path


def _may_be_read(path: Path, folder: Path) -> bool:
    real = path.resolve()
    in_hub_cache = real.parent.name == "blobs" and real.parent.parent.name.startswith("models--")
    return real.is_relative_to(folder.resolve()) or in_hub_cache
