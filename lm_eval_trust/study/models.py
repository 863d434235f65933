"""The models of a study, and what they are at this moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi

from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.checkpoints.listing import hub_answers
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.retry import RetryPolicy, retry
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.models.sources import find_source, made_model


@dataclass(frozen=True)
class StudyModel:
    """One model of a study.

    Attributes:
        name: In tables, e.g. ``ckpt_179`` or ``LLM360/AmberChat``.
        location: Hub name, folder, or name of a model of the embedded family.
        revision: Revision on the Hub.
        step: Training step of a checkpoint of the family; ``None`` for any other model.
        tokens: Tokens that it has seen, where known.
        identity: Which model it is: with the Hub's commit, or a digest of a folder's files.
        stage: Stage of training of a checkpoint of the family; empty where it has one only.
    """

    name: str
    location: str
    revision: str | None = None
    step: int | None = None
    tokens: int | None = None
    identity: str = ""
    stage: str = ""

    @property
    def spec(self) -> str:
        """``MODEL[@REVISION]``."""
        return f"{self.location}@{self.revision}" if self.revision else self.location

    @property
    def streamed(self) -> bool:
        """Whether it is a checkpoint of the family, which a store fetches and deletes."""
        return self.step is not None

    def checkpoint(self) -> Checkpoint:
        """Return it as its family has it."""
        step = self.step or 0
        return Checkpoint(self.name, step, self.tokens, self.location, self.revision, self.stage)


def model_of_checkpoint(checkpoint: Checkpoint) -> StudyModel:
    """Return a checkpoint as a model of a study."""
    return StudyModel(
        checkpoint.name,
        checkpoint.location,
        checkpoint.revision,
        checkpoint.step,
        checkpoint.tokens,
        stage=checkpoint.stage,
    )


def find_model(spec: str, checkpoints: Sequence[StudyModel]) -> StudyModel:
    """Return the model that a name stands for: a checkpoint of the family, or any other.

    Args:
        spec: A checkpoint's name or ``MODEL[@REVISION]``.
        checkpoints: All of the family.
    """
    for model in checkpoints:
        if spec in (model.name, model.spec):
            return model
    if made_model(spec):
        return StudyModel(spec, spec)
    if (folder := Path(spec).expanduser()).is_dir():
        return StudyModel(folder.resolve().name, str(folder.resolve()))
    location, _, revision = spec.partition("@")
    return StudyModel(spec, location, revision or None)


class Identities:
    """Says which model a name stands for now, with one request for a repository's revisions.

    What was found is kept in a file, and is in where the Hub cannot be reached later.

    Args:
        file: Where it is kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, str] = _read(file)
        self._found: dict[str, str] = {}
        self._commits: dict[str, dict[str, str]] = {}

    def pin(self, model: StudyModel) -> StudyModel:
        """Return the model with its identity.

        A revision that the Hub does not have is named without a commit; loading it will tell.

        Raises:
            InputError: There is no such model.
            ExternalError: The Hub cannot be reached and was not asked before.
        """
        if model.spec not in self._found:
            try:
                self._found[model.spec] = self._identity(model)
            except ExternalError:
                if model.spec not in self._kept:
                    raise
                self._found[model.spec] = self._kept[model.spec]
        return replace(model, identity=self._found[model.spec])

    def save(self) -> None:
        """Keep what was found.

        Raises:
            ExternalError: The disk refused to write.
        """
        known = {**self._kept, **self._found}
        with atomic_path(self._file) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")

    def _identity(self, model: StudyModel) -> str:
        if made := made_model(model.location):
            return made.describe(model.location)
        if model.streamed and model.revision:
            commit = self._commits_of(model.location).get(model.revision, "")
            return f"{model.spec} {commit}".strip()
        return find_source(model.spec).identity.text

    def _commits_of(self, repository: str) -> dict[str, str]:
        """Return the commit of each branch and tag."""
        if repository not in self._commits:
            with hub_answers(repository, "main"):
                refs = retry(
                    lambda: HfApi().list_repo_refs(repository), RetryPolicy(), threading.Event()
                )
            self._commits[repository] = {
                ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)
            }
        return self._commits[repository]


def _read(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
