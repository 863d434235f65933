"""Steering vectors from the Hugging Face Hub, pinned to a commit.

Only our own safetensors files are read from there: other formats lack what scales and guards need,
and some of them run code. Files come through the Hub's cache, so what was fetched once is
there offline as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of
from lm_eval_trust.core.retry import HTTP_ERROR
from lm_eval_trust.steering.hub_names import HubName

if TYPE_CHECKING:
    from lm_eval_trust.steering.vectors import SteeringVector

logger = logging.getLogger(__name__)

#: Where a vector's provenance says which commit of the Hub it came from.
HUB_SETTING = "hub"
_ENDING = ".safetensors"
#: Files of other tools that may hold vectors.
_OTHERS = (".pt", ".pth", ".bin", ".gguf")
#: Files that make a repository a model or an adapter.
MODEL_FILES = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Fetched:
    """A vector's file in the Hub's cache.

    Attributes:
        name: Its name, pinned to a commit.
        path: The file.
    """

    name: HubName
    path: Path


def load_from_hub(name: HubName) -> SteeringVector:
    """Return a vector of the Hub; its provenance says which commit it came from.

    Raises:
        InputError: See :func:`fetch`, or the file is not a steering vector.
        ExternalError: See :func:`fetch`.
    """
    from lm_eval_trust.steering.vector_files import read_vector

    found = fetch(name)
    try:
        vector = read_vector(found.path)
    except InputError as error:
        reason = str(error).replace(str(found.path), str(found.name))
        raise InputError(f"{reason} Or is {name.repository} something else?") from error
    made = vector.provenance
    if made is not None:
        made = replace(made, settings={**made.settings, HUB_SETTING: str(found.name)})
    return replace(vector, name=str(found.name), provenance=made)


def fetch(name: HubName) -> Fetched:
    """Return a vector's file at the commit that its revision names, downloaded if need be.

    A revision is looked up once in a process, so all parts of a run see the same commit.

    Raises:
        InputError: There is no such repository, revision or file; it may not be read; or the
            repository has no vector, or several.
        ExternalError: The Hub does not answer, and the cache lacks the file.
    """
    return _fetch(name, constants.ENDPOINT, str(constants.HF_HUB_CACHE))


@cache
def _fetch(name: HubName, endpoint: str, folder: str) -> Fetched:
    # The endpoint and the cache are part of what a look-up depends on.
    with hub_errors(name.repository, name.revision):
        file = name.file or _only_vector(name)
        if not file.endswith(_ENDING):
            raise InputError(f"{name} is not a {_ENDING} file. {_convert(name.repository, file)}")
        path = Path(hf_hub_download(name.repository, file, revision=name.revision))
    # Snapshots lie in folders named by their commit.
    depth = len(PurePosixPath(file).parts)
    commit = path.parts[-depth - 1]
    return Fetched(HubName(name.repository, commit, file), path)


def _only_vector(name: HubName) -> str:
    files = _files(name)
    found = [file for file in files if file.endswith(_ENDING)]
    if model := next((file for file in MODEL_FILES if file in files), None):
        raise InputError(
            f"{name.repository} holds a model ({model}), not a steering vector; name a repository "
            f"of a vector, or the vector's file as {name.repository}:FILE{_ENDING}."
        )
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
        raise InputError(
            f"{name.repository} holds several vectors: {listed}. Name one, for instance "
            f"{name.repository}:{found[0]}."
        )
    others = [file for file in files if file.endswith(_OTHERS)]
    advice = _convert(name.repository, others[0]) if others else "Check the name."
    raise InputError(f"{name.repository} holds no {_ENDING} file. {advice}")


def _convert(repository: str, file: str) -> str:
    return (
        f"Vectors are read from the Hub as safetensors only: fetch the file with `hf download "
        f"{repository} {file}` and convert it with `lm-eval-trust vector import`."
    )


def _files(name: HubName) -> Sequence[str]:
    """Return a repository's files; those in the cache where the Hub does not answer."""
    try:
        info = HfApi().model_info(name.repository, revision=name.revision)
        return sorted(sibling.rfilename for sibling in info.siblings or ())
    except (HTTP_ERROR, OfflineModeIsEnabled) as error:
        answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        if answered or not (cached := _cached_files(name)):
            raise
        logger.warning("%s: the Hub does not answer; using the cached files.", name)
        return cached


def _cached_files(name: HubName) -> list[str]:
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.repository.replace('/', '--')}"
    ref = folder / "refs" / name.revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else name.revision
    snapshot = folder / "snapshots" / commit
    files = (path for path in sorted(snapshot.rglob("*")) if path.is_file())
    return [path.relative_to(snapshot).as_posix() for path in files]


@contextmanager
def hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn the exceptions of the Hub's client into errors that say what to do.

    The order of the cases matters: ``GatedRepoError`` is a ``RepositoryNotFoundError``.
    """
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{repository} is gated. Accept its terms on {constants.ENDPOINT}/{repository} and log "
            f"in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"There is no vector file {repository!r}, and no Hub repository of that name that you "
            f"may read. Check the name; if it is private, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repository} has no branch, tag or commit {revision!r}.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(repository, revision) from error
    except EntryNotFoundError as error:
        raise InputError(
            f"{repository} at {revision} has no such file: {reason_of(error)}"
        ) from error
    except HFValidationError as error:
        raise InputError(f"{repository!r} is not a name of the Hub: {reason_of(error)}") from error
    except HfHubHTTPError as error:
        raise _refused(repository, error) from error
    except HTTP_ERROR as error:
        raise _unreachable(repository, revision) from error


def _unreachable(repository: str, revision: str) -> ExternalError:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached"
    return ExternalError(
        f"{repository} at {revision} is not in the Hub's cache on this machine, and {why}. Fetch "
        f"it while you are online: `lm-eval-trust vector pull {repository}@{revision} --out FILE`."
    )


def _refused(repository: str, error: HfHubHTTPError) -> InputError | ExternalError:
    status = error.response.status_code
    if status == 401:
        return InputError(
            f"The Hub does not accept your token for {repository}. Log in again with "
            f"`hf auth login`, or check HF_TOKEN."
        )
    if status == 403:
        return InputError(
            f"You may not do this with {repository}: {reason_of(error, longest=120)} To push, you "
            f"need a token with write access to it."
        )
    if status in (409, 412):
        return ExternalError(
            f"Someone else changed {repository} at the same time; nothing was pushed. Try again."
        )
    return ExternalError(f"The Hub refused {repository} (status {status}): {reason_of(error)}")
