"""Push a steering vector to the Hugging Face Hub, with a card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download

from lm_eval_trust.core.errors import ExternalError, InputError, reason_of
from lm_eval_trust.core.retry import HTTP_ERROR
from lm_eval_trust.sharing.card import CARD, updated_card
from lm_eval_trust.sharing.effects import Effect
from lm_eval_trust.steering.hub import MODEL_FILES, hub_errors
from lm_eval_trust.steering.hub_names import DEFAULT_REVISION, HubName, hub_name
from lm_eval_trust.steering.vector_files import read_vector
from lm_eval_trust.steering.vectors import OTHER_ENDINGS, SteeringVector


@dataclass(frozen=True)
class Push:
    """A vector to push.

    Attributes:
        path: Its safetensors file.
        repository: ``owner/name``; created if it does not exist.
        private: Whether a new repository is private.
        revision: Branch to push to; created if it does not exist.
        message: Message of the commit; by default ``Upload FILE``.
        effects: Measured effects, for the card.

    Raises:
        InputError: The name is not ``owner/name``, or the file is not a safetensors file.
    """

    path: Path
    repository: str
    private: bool = False
    revision: str = DEFAULT_REVISION
    message: str = ""
    effects: Sequence[Effect] = ()

    def __post_init__(self) -> None:
        name = hub_name(self.repository, Path("/nowhere"))
        if name is None or str(name) != f"{self.repository}@{DEFAULT_REVISION}":
            raise InputError(
                f"{self.repository!r} is not the name of a repository; expected owner/name. A "
                f"branch goes into --revision."
            )
        if self.path.suffix in OTHER_ENDINGS or self.path.is_dir():
            raise InputError(
                f"{self.path} is not a safetensors file, and only those are pushed. Convert it: "
                f"`lm-eval-trust vector import {self.path} --out FILE.safetensors`."
            )
        if not self.path.is_file():
            raise InputError(f"There is no vector file {self.path}.")

    @property
    def vector(self) -> SteeringVector:
        """The vector.

        Raises:
            InputError: The file is damaged, or not a steering vector.
        """
        return read_vector(self.path)


def push_vector(push: Push) -> HubName:
    """Push a vector's file and its card in one commit.

    The commit is the last step: an upload that is interrupted leaves the repository as it was, and
    the next push continues from there.

    Returns:
        The vector's name, pinned to the new commit.

    Raises:
        InputError: The file is not a vector, the repository holds a model, you may not write to
            it, or it is public although a private one was asked for.
        ExternalError: The Hub does not answer, or refuses the upload.
    """
    vector = push.vector
    if constants.HF_HUB_OFFLINE:
        raise ExternalError("HF_HUB_OFFLINE is set; unset it to push.")
    api, file = HfApi(), push.path.name
    with hub_errors(push.repository, push.revision):
        api.create_repo(push.repository, private=push.private or None, exist_ok=True)
        if push.revision != DEFAULT_REVISION:
            api.create_branch(push.repository, branch=push.revision, exist_ok=True)
        info = api.model_info(push.repository, revision=push.revision)
        files = [sibling.rfilename for sibling in info.siblings or ()]
        _check_repository(push, files, private=bool(info.private))
        name = HubName(push.repository, push.revision, file)
        card = updated_card(_old_card(push, files), vector, name, push.effects)
        # A copy: the file may change while it is uploaded.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(push.path, folder))
            done = _commit(api, push, {file: copy, CARD: card.encode()}, parent=info.sha)
    return HubName(push.repository, done, file)


def _commit(api: HfApi, push: Push, files: dict[str, Path | bytes], *, parent: str | None) -> str:
    try:
        return str(
            api.create_commit(
                push.repository,
                [
                    CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                    for name, content in files.items()
                ],
                commit_message=push.message or f"Upload {push.path.name}",
                revision=push.revision,
                parent_commit=parent,
            ).oid
        )
    except (ValueError, RuntimeError) as error:
        if isinstance(error, HTTP_ERROR) or isinstance(error.__cause__, HTTP_ERROR):
            reason = reason_of(error.__cause__ or error)
        else:
            reason = reason_of(error)
        raise ExternalError(
            f"The upload to {push.repository} failed, and nothing was committed ({reason}). "
            f"Run the same command again."
        ) from error


def _check_repository(push: Push, files: Sequence[str], *, private: bool) -> None:
    if model := next((file for file in MODEL_FILES if file in files), None):
        raise InputError(
            f"{push.repository} holds a model ({model}); push the vector to a repository of its "
            f"own."
        )
    if push.private and not private:
        raise InputError(
            f"{push.repository} exists and is public. Leave out --private, or change its "
            f"visibility on {constants.ENDPOINT}/{push.repository}/settings."
        )


def _old_card(push: Push, files: Sequence[str]) -> str:
    if CARD not in files:
        return ""
    path = hf_hub_download(push.repository, CARD, revision=push.revision)
    return Path(path).read_text(encoding="utf-8", errors="replace")
