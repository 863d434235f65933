"""Models by name or folder, pinned to their present content, and loading them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lm_eval_trust.core.errors import ExternalError, InputError, unknown_name
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.core.registry import Registry
from lm_eval_trust.core.retry import HTTP_ERROR, is_hurried, status_of
from lm_eval_trust.models.families import model_class
from lm_eval_trust.models.loading import load_whole, loading_errors
from lm_eval_trust.models.model_files import digest_of_model

#: Beginning of the revision of a model that is not loaded from anywhere.
_IN_MEMORY = "in memory"
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelIdentity:
    """Which model.

    Attributes:
        name: Hub name, or the name of the folder.
        revision: The requested revision; for a folder, a digest of its files.
        commit: The Hub commit that the revision names now; empty for a folder.
    """

    name: str
    revision: str
    commit: str = ""

    @classmethod
    def in_memory(cls, name: str) -> ModelIdentity:
        """Return an identity that no other model has, for one whose weights nothing identifies."""
        return cls(name, f"{_IN_MEMORY} {uuid.uuid4().hex}")

    @property
    def lasts(self) -> bool:
        """Whether what is computed with the model can be found again by another process."""
        return not self.revision.startswith(_IN_MEMORY)

    @property
    def text(self) -> str:
        """The identity on one line."""
        return f"{self.name}@{self.revision} {self.commit}".strip()


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from, and which model it is.

    Attributes:
        location: Folder or Hub name.
        identity: Identity of the model.
    """

    location: str
    identity: ModelIdentity

    @property
    def arguments(self) -> dict[str, str]:
        """Arguments of ``from_pretrained`` that pin the commit."""
        return {"revision": self.identity.commit} if self.identity.commit else {}


@dataclass(frozen=True)
class MadeModel:
    """A model that is made on this machine when it is first used, such as the embedded ones.

    Attributes:
        summary: One line for help pages.
        make: ``NAME[@CHECKPOINT]`` → its folder, made if need be.
        describe: ``NAME[@CHECKPOINT]`` → which model that is, without making it.
        depth: Number of decoder blocks, if that is known without making it.
    """

    summary: str
    make: Callable[[str], Path]
    describe: Callable[[str], str]
    depth: int | None = None


MODEL_SOURCES: Registry[MadeModel] = Registry(
    "model made on this machine", "lm_eval_trust.models", MadeModel, {}
)


def made_model(spec: object) -> MadeModel | None:
    """Return the entry of a model that is made on this machine; ``None`` for any other model."""
    name = spec.partition("@")[0] if isinstance(spec, str) else ""
    found: MadeModel | None = MODEL_SOURCES.get(name)
    return found


def find_source(spec: str) -> Source:
    """Return the model that ``MODEL[@REVISION]`` names, without loading weights.

    A folder's revision is the SHA-256 of all that is loaded from it, also of shards that an index
    names: all bytes, since an edit of one matrix changes what the model computes. A file is read
    once for each of its states, see :mod:`lm_eval_trust.core.file_digest`. A Hub revision is
    resolved to its commit, so a moved tag or ``main`` is not mistaken for what it was.

    Args:
        spec: A folder, a Hub name with an optional revision, e.g. ``LLM360/Amber@ckpt_179``, or a
            name of :data:`MODEL_SOURCES`, e.g. ``mini@ckpt_012``, which is made if need be.

    Raises:
        InputError: There is no such folder, repository or revision.
        ExternalError: The Hub cannot be reached and has not been asked before.
    """
    if spec and Path(spec).expanduser().is_dir():
        return _folder_source(spec)
    if (made := made_model(spec)) is not None:
        folder = made.make(spec)
        return Source(str(folder), ModelIdentity(spec, digest_of_model(folder)))
    name, _, revision = spec.partition("@")
    if name and Path(name).expanduser().is_dir():
        raise InputError(f"{name} is a folder, which has no revisions; leave out @{revision}.")
    if spec.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise InputError(
            f"There is no model folder {spec!r}; expected a folder or a Hub name such as "
            f"LLM360/Amber@ckpt_179."
        )
    revision = revision or "main"
    return Source(name, ModelIdentity(name, revision, _commit(name, revision)))


def load_source(
    spec: str, *, dtype: str | None = None, device: str | None = None
) -> tuple[Any, Any, ModelIdentity]:
    """Load a model for reading its activations.

    Args:
        spec: See :func:`find_source`.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own; if
            ``None``, float32 on CPU and ``auto`` elsewhere.
        device: A torch device, or ``auto`` to spread the model over all; if ``None``, CUDA if there
            is one, otherwise the CPU.

    Returns:
        Model in evaluation mode, tokenizer, identity.

    Raises:
        InputError: As :func:`find_source`, an unknown dtype or device, or a model that
            transformers cannot load.
        ExternalError: As :func:`find_source`.
    """
    source = find_source(spec)
    return *load_pinned(source, dtype=dtype, device=device), source.identity


def load_pinned(source: Source, *, dtype: str | None, device: str | None) -> tuple[Any, Any]:
    """Load the result of :func:`find_source`; see :func:`load_source` for the arguments."""
    from transformers import AutoConfig

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    placement = device if device == "auto" else {"": existing_device(device)}
    settings = {"dtype": resolve_dtype(dtype, device), "device_map": placement}
    what = f"a causal model from {source.location}"
    with loading_errors(what):
        config = AutoConfig.from_pretrained(source.location, **source.arguments)
    model = load_whole(
        model_class(config), source.location, what=what, **settings, **source.arguments
    )
    return model.eval(), load_tokenizer(source)


def load_tokenizer(source: Source) -> Any:
    """Load the tokenizer of a source.

    Raises:
        InputError: It has none that transformers can load.
    """
    from transformers import AutoTokenizer

    with loading_errors(f"a tokenizer from {source.location}"):
        return AutoTokenizer.from_pretrained(source.location, **source.arguments)


def resolve_dtype(dtype: str | None, device: str | None) -> str:
    """Return the name of a dtype; by default float32 on CPU and ``auto`` elsewhere.

    Raises:
        InputError: Unknown dtype.
    """
    if dtype is None:
        on_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
        return "float32" if on_cpu else "auto"
    name = dtype.removeprefix("torch.")
    if name not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    return name


def _folder_source(spec: str) -> Source:
    folder = Path(spec).expanduser()
    if not (folder / "config.json").is_file():
        raise InputError(f"The folder {spec} holds no config.json, so it is not a model.")
    return Source(str(folder), ModelIdentity(folder.resolve().name, digest_of_model(folder)))


def existing_device(name: str, *, setting: str = "device") -> torch.device:
    """Return a device of this machine.

    Args:
        name: torch's name for it, e.g. ``cuda:1``.
        setting: The setting to name in the error.

    Raises:
        InputError: There is no such device, or this machine does not have it.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{setting}={name!r} is not a device of this machine: {reason}") from None
    return device


def _commit(name: str, revision: str) -> str:
    """Return the commit of a Hub revision, by fetching its configuration or from the cache."""
    # The client tries for half a minute where no server answers.
    cached = is_hurried() and not _is_answered(name, revision)
    with hub_errors(name, revision):
        path = hf_hub_download(name, "config.json", revision=revision, local_files_only=cached)
    return Path(path).parent.name


def _is_answered(name: str, revision: str) -> bool:
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision))
    except HTTP_ERROR as error:
        return status_of(error) is not None
    except (OSError, HFValidationError):
        return False
    return True


@contextmanager
def hub_errors(name: str, revision: str) -> Iterator[None]:
    """Turn the exceptions of the Hub's client into errors that say what to do.

    The order of the cases matters: ``GatedRepoError`` is a ``RepositoryNotFoundError``.
    """
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{name} is gated; accept its terms on the Hub and log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"There is no model folder and no Hub model {name!r}; check the name, or log in with "
            f"`hf auth login` if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"{name} has no revision {revision!r} (Amber's are ckpt_000 to ckpt_358 and main)."
        ) from error
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise ExternalError(
            f"{name} at {revision} is not in the local Hub cache, and {why}. Give a folder, "
            f"or fetch it with `hf download {name} --revision {revision}`."
        ) from error
    except (EntryNotFoundError, HFValidationError) as error:
        raise InputError(f"{name} at {revision} cannot be used: {error}") from error
    except HfHubHTTPError as error:
        raise ExternalError(f"The Hub did not answer for {name} at {revision}: {error}") from error


def provenance_of_model(source: Source) -> Provenance | None:
    """Return what a model was fine-tuned on; ``None`` if its folder does not say."""
    if not source.identity.commit or Path(source.location).is_dir():
        return Provenance.of_folder(Path(source.location))
    try:
        file = hf_hub_download(source.location, PROVENANCE_FILE, revision=source.identity.commit)
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None
    return Provenance.of_folder(Path(file).parent)


def base_metadata(source: Source) -> dict[str, str]:
    """Return ``base_model`` for the metadata of a model card; nothing for a folder.

    The Hub accepts its own names models there and refuses a card with anything else.
    """
    return {"base_model": source.location} if source.identity.commit else {}


def base_sentence(source: Source) -> str:
    """Return the sentence of a model card that names the base model."""
    named = f"Base: `{source.identity.text}`"
    if source.identity.commit:
        return f"{named}."
    return f"{named}, a folder and its digest; the metadata above can name models of the Hub only."
