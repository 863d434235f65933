"""Stages of a flow: pre-training, mid-training, tuning, each with its own checkpoints.

The checkpoints of all stages are in one order. A stage's steps and tokens are counted on from the
end of the one before, so a checkpoint's step is its place in the whole flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from lm_eval_trust.checkpoints.checkpoint import Checkpoint, Naming, parse_amount
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.strict_model import StrictModel
from lm_eval_trust.core.yaml_file import read_document

PRETRAINING, MIDTRAINING, LONG_CONTEXT = "pretraining", "midtraining", "long-context"
SFT, DPO, RLVR = "sft", "dpo", "rlvr"


@dataclass(frozen=True)
class Stage:
    """Where a stage's checkpoints are found: many by their names, or one model.

    Attributes:
        name: In tables and figures, e.g. ``sft``; stages that follow each other may share it.
        location: Hub name; of one model also a folder, or a model that is made on this machine.
        naming: Naming of the revisions that are checkpoints; ``None`` if there is one model.
        revision: Revision of the one model; ``None`` for what is on this disk.
        checkpoint: Name of the one model; by default that of the stage.
        tokens: That the one model saw in this stage, where that is known.
        until: Step that the next stage continues from; later checkpoints are left out.
        running: Whether steps and tokens count from the beginning of the flow.
        known: Returns the checkpoints where no one has to be asked.
    """

    name: str
    location: str = ""
    naming: Naming | None = None
    revision: str | None = "main"
    checkpoint: str = ""
    tokens: int | None = None
    until: int | None = None
    running: bool = False
    known: Callable[[], tuple[Checkpoint, ...]] | None = None


def joined(
    stages: Iterable[Stage], find: Callable[[Stage], tuple[Checkpoint, ...]]
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of all stages, steps and tokens counted on over them.

    Step 0 of a later stage is the model that it began with, and is left out. After a stage whose
    tokens are unknown, they stay unknown, unless a later one counts from the beginning.

    Args:
        stages: In their order.
        find: Returns the checkpoints of a stage that has several, ascending by step.

    Raises:
        InputError: A stage without checkpoints, steps that do not ascend, or a name twice.
    """
    found: list[Checkpoint] = []
    for stage in stages:
        found += _counted_on(stage, found[-1] if found else None, find)
    seen: set[str] = set()
    for checkpoint in found:
        if checkpoint.name in seen:
            raise InputError(
                f"Two checkpoints of the flow are called {checkpoint.name}; give one of their "
                f"stages another name."
            )
        seen.add(checkpoint.name)
    return tuple(found)


def _counted_on(
    stage: Stage, last: Checkpoint | None, find: Callable[[Stage], tuple[Checkpoint, ...]]
) -> list[Checkpoint]:
    step, tokens = (last.step, last.tokens) if last else (0, 0)
    if stage.naming is None and stage.known is None:
        seen = stage.tokens if stage.running else _sum(tokens, stage.tokens)
        name = stage.checkpoint or stage.name
        return [Checkpoint(name, step + 1, seen, stage.location, stage.revision, stage.name)]
    own = [c for c in find(stage) if stage.until is None or c.step <= stage.until]
    if last is not None and not stage.running:
        own = [
            replace(c, step=step + c.step, tokens=_sum(tokens, c.tokens)) for c in own if c.step > 0
        ]
    if not own or (last is not None and own[0].step <= step):
        raise InputError(
            f"The stage {stage.name} of {stage.location or 'the flow'} has no checkpoint after "
            f"step {step}; check its pattern, `until`, and whether its steps are `running`."
        )
    return [replace(c, stage=stage.name) for c in own]


def _sum(before: int | None, more: int | None) -> int | None:
    return None if before is None or more is None else before + more


Amount = Annotated[int, BeforeValidator(parse_amount)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)]


class StageSpec(StrictModel):
    """A stage as a file declares it: ``hub`` with a ``pattern``, a ``folder``, or one ``model``.

    Attributes:
        stage: Name of the stage.
        hub: Repository whose revisions are checkpoints.
        folder: Folder whose sub-folders are checkpoints.
        model: ``MODEL[@REVISION]``, the only checkpoint of the stage.
        pattern: Regular expression of the revisions' or folders' names, with a group ``step``.
        name: Name of the only checkpoint; the stage's by default.
        tokens: Tokens that the only checkpoint was trained on in this stage, such as ``1.5B``.
        tokens_per_step: Tokens that a training step reads.
        until: Step from which the next stage continued.
        running: Whether the names count steps from the beginning of the flow.
    """

    stage: Name
    hub: str | None = None
    folder: str | None = None
    model: str | None = None
    pattern: str | None = None
    name: Name | None = None
    tokens: Amount | None = None
    tokens_per_step: PositiveInt | None = None
    until: PositiveInt | None = None
    running: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> StageSpec:
        given = [key for key in ("hub", "folder", "model") if getattr(self, key) is not None]
        if len(given) != 1:
            raise InputError(
                f"a stage needs exactly one of hub, folder and model; given are "
                f"{' and '.join(given) or 'none'}."
            )
        of_many = ("pattern", "tokens_per_step", "until")
        wrong = of_many if self.model else ("name", "tokens")
        for key in wrong:
            if getattr(self, key) is not None:
                raise InputError(f"`{key}` does not belong to a stage with `{given[0]}`.")
        if self.hub and self.pattern is None:
            raise InputError(
                "a stage with `hub` needs a pattern of its revisions, e.g. 'step(?P<step>[0-9]+)'; "
                "one revision is a `model: OWNER/NAME@REVISION`."
            )
        return self


class FamilyFile(StrictModel):
    """Your own family: its stages, and where the facts come from.

    Attributes:
        family: Name of the family.
        source: Where names and numbers come from.
        stages: The stages, in order.
    """

    family: Name
    source: str = ""
    stages: tuple[StageSpec, ...] = Field(min_length=1)


def read_family(path: Path) -> FamilyFile:
    """Read a family's file.

    Raises:
        InputError: It cannot be read, or declares no family; with line and key.
    """
    return read_document(path, "family").parse(FamilyFile)
