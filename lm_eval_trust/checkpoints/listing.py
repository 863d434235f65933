"""What a checkpoint on the Hub consists of: its commit, and the files that its model needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.provenance import PROVENANCE_FILE
from lm_eval_trust.core.retry import HTTP_ERROR, RetryPolicy, TruncatedResponseError, retry
from lm_eval_trust.models.sources import ModelIdentity, hub_errors

_ALWAYS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "chat_template*",
    PROVENANCE_FILE,
)
_SAFE_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
_PICKLED_WEIGHTS = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
#: Written into the folder of every checkpoint that the store downloads: what it is, and which
#: files the store put there.
MARKER = "lm_eval_trust_download.json"
_MARKER_FORMAT = 1


class MissingCheckpointError(InputError):
    """A revision, or a file that its model needs, is gone."""


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub describes it.

    Attributes:
        name: Without folder.
        size: In bytes.
        checksum: In hexadecimal.
        method: ``sha256`` of the content, for large files; ``git`` for the SHA-1 of a git blob.
    """

    name: str
    size: int
    checksum: str
    method: str


@dataclass(frozen=True)
class Listing:
    """A checkpoint on the Hub, pinned to a commit.

    Attributes:
        location: Hub name.
        revision: As it was asked for.
        commit: What it stands for.
        files: What its model needs.
    """

    location: str
    revision: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def folder_name(self) -> str:
        """Name of the checkpoint's folder in a store."""
        parts = (self.location.replace("/", "--"), quote(self.revision, safe=""), self.commit[:12])
        return "--".join(parts)

    @cached_property
    def marker(self) -> bytes:
        """Content of the marker file."""
        described = {
            "lm_eval_trust_download": _MARKER_FORMAT,
            "folder": self.folder_name,
            "model": self.location,
            "revision": self.revision,
            "commit": self.commit,
            "files": sorted(file.name for file in self.files),
        }
        return json.dumps(described).encode()

    @property
    def size(self) -> int:
        """Bytes on disk: the files, and the marker."""
        return sum(file.size for file in self.files) + len(self.marker)

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is, wherever it lies."""
        return ModelIdentity(self.location, self.revision, self.commit)


def list_checkpoint(checkpoint: Checkpoint, policy: RetryPolicy, stop: threading.Event) -> Listing:
    """Ask the Hub for a checkpoint's commit and files.

    Raises:
        MissingCheckpointError: The revision is gone, or has no configuration or weights.
        InputError: There is no such repository, or it is not open to this user.
        ExternalError: The Hub cannot be reached.
        Cancelled: ``stop`` was set.
    """
    location, revision = checkpoint.location, str(checkpoint.revision)
    api = HfApi()
    with hub_answers(location, revision):
        info = retry(
            lambda: api.model_info(
                location, revision=revision, files_metadata=True, timeout=policy.timeout
            ),
            policy,
            stop,
        )
    files = _needed(_described(entry) for entry in info.siblings or ())
    if not any(fnmatchcase(f.name, p) for f in files for p in (*_SAFE_WEIGHTS, *_PICKLED_WEIGHTS)):
        raise MissingCheckpointError(f"{location} has no weights at its revision {revision}.")
    if not any(file.name == "config.json" for file in files):
        raise MissingCheckpointError(f"{location} has no config.json at its revision {revision}.")
    return Listing(location, revision, str(info.sha), files)


def list_revisions(hub: str) -> tuple[str, ...]:
    """Return the branches and tags of a model on the Hub.

    Raises:
        InputError: There is no such repository, or it is not open to this user.
        ExternalError: The Hub cannot be reached.
    """
    with hub_answers(hub, "main"):
        refs = retry(lambda: HfApi().list_repo_refs(hub), RetryPolicy(), threading.Event())
    return tuple(dict.fromkeys(ref.name for ref in (*refs.branches, *refs.tags)))


@contextmanager
def hub_answers(location: str, revision: str) -> Iterator[None]:
    """Turn what the Hub's client raises into errors that say what to do."""
    try:
        with hub_errors(location, revision):
            try:
                yield
            except (RevisionNotFoundError, EntryNotFoundError) as error:
                raise MissingCheckpointError(
                    f"{location} has no revision {revision!r} any more, or lacks a file of it."
                ) from error
            except (GatedRepoError, RepositoryNotFoundError):
                raise
            except HfHubHTTPError as error:
                if error.response.status_code not in (401, 403):
                    raise
                raise InputError(
                    f"The Hub refuses {location} at {revision} to this user; log in with "
                    f"`hf auth login`, or set HF_TOKEN to a token that may read it."
                ) from error
    except OfflineModeIsEnabled as error:
        raise ExternalError(
            f"{location} must be asked of the Hub, and HF_HUB_OFFLINE is set; unset it."
        ) from error
    except json.JSONDecodeError as error:
        raise ExternalError(
            f"What answered for {location} at {revision} is no Hub; check HF_ENDPOINT and proxies."
        ) from error
    except (HTTP_ERROR, TruncatedResponseError) as error:
        raise ExternalError(
            f"The Hub cannot be reached for {location} at {revision}: {error or type(error)}. "
            f"What has come is kept; run again to go on."
        ) from error


def _described(entry: Any) -> HubFile:
    lfs = entry.lfs
    if lfs is None:
        return HubFile(entry.rfilename, int(entry.size), str(entry.blob_id), "git")
    return HubFile(entry.rfilename, int(lfs.size), str(lfs.sha256), "sha256")


def _needed(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """Return what loading the model reads; pickled weights only if there are no others."""
    top = [file for file in files if "/" not in file.name]
    safe = any(fnmatchcase(file.name, _SAFE_WEIGHTS[0]) for file in top)
    patterns = (*_ALWAYS, *(_SAFE_WEIGHTS if safe else _PICKLED_WEIGHTS))
    return tuple(f for f in top if any(fnmatchcase(f.name, pattern) for pattern in patterns))
