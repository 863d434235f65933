"""Families of checkpoints: one training run, seen at many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from lm_eval_trust.checkpoints.checkpoint import NUMBERED, Checkpoint, Naming, chosen
from lm_eval_trust.checkpoints.flows import FLOWS, LOOKED_UP
from lm_eval_trust.checkpoints.runs import AMBER, LISTED_BY_HUB, PYTHIA, amber, pythia
from lm_eval_trust.checkpoints.stages import Stage, StageSpec, joined, read_family
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.registry import Registry

__all__ = ["Checkpoint", "CheckpointFamily", "FamilySettings", "family_names", "open_family"]


@dataclass(frozen=True)
class CheckpointFamily:
    """A training run.

    Attributes:
        name: Name of the preset, the Hub's repository, or the folder.
        checkpoints: Ascending by step.
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]

    def choose(self, which: str | Sequence[str]) -> tuple[Checkpoint, ...]:
        """Return some of the checkpoints; see :func:`selection.chosen`.

        Raises:
            InputError: There is no such checkpoint, or nothing is asked for.
        """
        return chosen(self.checkpoints, which)


@dataclass(frozen=True)
class FamilySettings:
    """Which family; exactly one of ``name``, ``hub``, ``folder`` and ``file`` is given.

    Attributes:
        name: A preset, see :func:`family_names`.
        hub: ``OWNER/NAME`` of a repository whose revisions are checkpoints.
        folder: A local folder whose sub-folders are checkpoints.
        file: A YAML file with your own family
            (:class:`lm_eval_trust.checkpoints.stages.FamilyFile`).
        pattern: Regular expression of a revision's or folder's name, with a group ``step`` and, if
            the name contains them, ``tokens``. A folder needs none if the names end in a number.
        tokens_per_step: Tokens of a batch, for names without ``tokens``.
    """

    name: str | None = None
    hub: str | None = None
    folder: str | None = None
    file: str | None = None
    pattern: str | None = None
    tokens_per_step: int | None = None


@dataclass(frozen=True)
class FamilyPreset:
    """A family that is known by name.

    Attributes:
        summary: One line for help pages.
        checkpoints: Returns them without the network; ``None`` if the Hub has to be asked.
        hub: ``OWNER/NAME`` of the repository whose revisions are asked for.
        naming: Naming of its revisions.
        stages: Stages of a flow, in place of the above.
        source: Where its names and numbers come from.
        looked_up: When, as ``YYYY-MM-DD``.
    """

    summary: str
    checkpoints: Callable[[], tuple[Checkpoint, ...]] | None = None
    hub: str = ""
    naming: Naming | None = None
    stages: tuple[Stage, ...] = ()
    source: str = ""
    looked_up: str = ""


def _listed_presets() -> dict[str, FamilyPreset]:
    return {
        name: FamilyPreset(f"revisions of {preset.hub}", None, preset.hub, preset.naming)
        for name, preset in LISTED_BY_HUB.items()
    }


def _flow_presets() -> dict[str, FamilyPreset]:
    return {
        name: FamilyPreset(
            f"the flow {' → '.join(dict.fromkeys(stage.name for stage in flow.stages))}",
            stages=flow.stages,
            source=flow.source,
            looked_up=LOOKED_UP,
        )
        for name, flow in FLOWS.items()
    }


#: Families by name; another package adds one by an entry point that names a
#: :class:`FamilyPreset`.
FAMILIES: Registry[FamilyPreset] = Registry(
    "family",
    "lm_eval_trust.checkpoint_families",
    FamilyPreset,
    {
        AMBER: FamilyPreset("LLM360/Amber's 360 checkpoints", amber),
        **{
            name: FamilyPreset("154 checkpoints of a Pythia model", partial(pythia, name))
            for name in PYTHIA
        },
        **_listed_presets(),
        **_flow_presets(),
    },
)


def family_names() -> tuple[str, ...]:
    """Return the names of the presets."""
    return tuple(FAMILIES)


def open_family(settings: FamilySettings) -> CheckpointFamily:
    """Return a family with its checkpoints; downloads none of them and trains nothing.

    Amber, Pythia and the embedded family are known without the network. The revisions of others
    are asked of the Hub, those of a folder are looked up in it. A flow's stages are joined.

    Raises:
        InputError: Settings that contradict each other, an unknown preset, repository or folder,
            or one that holds no checkpoint.
        ExternalError: The Hub cannot be reached.
    """
    places = ("name", "hub", "folder", "file")
    given = [key for key in places if getattr(settings, key) is not None]
    if len(given) != 1:
        raise InputError(
            f"A family needs exactly one of name, hub, folder and file; "
            f"given are {' and '.join(given) or 'none'}."
        )
    if settings.tokens_per_step is not None and settings.tokens_per_step < 1:
        raise InputError(f"tokens_per_step is {settings.tokens_per_step}; expected at least 1.")
    if settings.name is not None:
        return _preset(settings.name, settings)
    if settings.hub is not None:
        return _of_hub(settings.hub, settings)
    if settings.file is not None:
        return _of_file(Path(settings.file).expanduser(), settings)
    return _of_folder(Path(str(settings.folder)).expanduser(), settings)


def _preset(name: str, settings: FamilySettings) -> CheckpointFamily:
    if settings.pattern is not None:
        raise InputError(f"The family {name} has names of its own; leave out the pattern.")
    preset = FAMILIES[name]
    if preset.stages:
        _refuse_tokens(name, settings)
        return CheckpointFamily(name, joined(preset.stages, _find(list_once())))
    if preset.checkpoints is None:
        assert preset.naming is not None
        per_step = settings.tokens_per_step or preset.naming.tokens_per_step
        return _listed(name, preset.hub, replace(preset.naming, tokens_per_step=per_step))
    _refuse_tokens(name, settings)
    return CheckpointFamily(name, preset.checkpoints())


def _refuse_tokens(name: str, settings: FamilySettings) -> None:
    if settings.tokens_per_step is not None:
        raise InputError(f"The tokens of {name} are known; leave out tokens_per_step.")


Listing = Callable[[str], Sequence[str]]


def list_once() -> Listing:
    """Return a lister of the Hub's revisions that asks once for each repository."""
    from lm_eval_trust.checkpoints.listing import list_revisions

    return lru_cache(maxsize=None)(list_revisions)


def _find(listing: Listing) -> Callable[[Stage], tuple[Checkpoint, ...]]:
    """Return what finds the checkpoints of a stage that has several."""

    def find(stage: Stage) -> tuple[Checkpoint, ...]:
        if stage.known is not None:
            return stage.known()
        assert stage.naming is not None
        if stage.revision is None:
            folder = FamilySettings(
                folder=stage.location,
                pattern=stage.naming.pattern,
                tokens_per_step=stage.naming.tokens_per_step,
            )
            return open_family(folder).checkpoints
        return _listed(stage.location, stage.location, stage.naming, listing).checkpoints

    return find


def _of_file(path: Path, settings: FamilySettings) -> CheckpointFamily:
    for key in ("pattern", "tokens_per_step"):
        if getattr(settings, key) is not None:
            raise InputError(f"The file {path} says everything of its family; leave out {key}.")
    family = read_family(path)
    stages = [_stage(declared) for declared in family.stages]
    return CheckpointFamily(family.family, joined(stages, _find(list_once())))


def _stage(declared: StageSpec) -> Stage:
    """Return a stage as a family's file declares it."""
    from lm_eval_trust.models.sources import made_model

    if declared.model is None:
        return Stage(
            declared.stage,
            str(declared.hub or Path(str(declared.folder)).expanduser()),
            Naming(declared.pattern or NUMBERED, declared.tokens_per_step),
            "main" if declared.hub else None,
            until=declared.until,
            running=declared.running,
        )
    location, _, revision = declared.model.partition("@")
    here = made_model(declared.model) is not None or Path(declared.model).expanduser().is_dir()
    return Stage(
        declared.stage,
        str(Path(declared.model).expanduser()) if here else location,
        revision=None if here else revision or "main",
        checkpoint=declared.name or "",
        tokens=declared.tokens,
        running=declared.running,
    )


def _of_hub(hub: str, settings: FamilySettings) -> CheckpointFamily:
    if settings.pattern is None:
        raise InputError(
            f"Which revisions of {hub} are checkpoints? Give a pattern with a group for the step, "
            f"e.g. 'step(?P<step>[0-9]+)'."
        )
    return _listed(hub, hub, Naming(settings.pattern, settings.tokens_per_step))


def _listed(
    name: str, hub: str, naming: Naming, listing: Listing | None = None
) -> CheckpointFamily:
    revisions = (listing or list_once())(hub)
    found = naming.checkpoints(revisions, lambda revision: (hub, revision))
    return _family(name, found, naming, f"revision of {hub}", revisions)


def _of_folder(folder: Path, settings: FamilySettings) -> CheckpointFamily:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} of checkpoints.")
    naming = Naming(settings.pattern or NUMBERED, settings.tokens_per_step)
    names = sorted(path.parent.name for path in folder.glob("*/config.json"))
    found = naming.checkpoints(names, lambda name: (str(folder / name), None))
    return _family(folder.resolve().name, found, naming, f"model in {folder}", names)


def _family(
    name: str, found: tuple[Checkpoint, ...], naming: Naming, what: str, names: Sequence[str]
) -> CheckpointFamily:
    if not found:
        seen = ", ".join(sorted(names)[:5]) or "none"
        raise InputError(
            f"No {what} is a checkpoint by the pattern {naming.pattern!r}; there are {seen}."
        )
    return CheckpointFamily(name, found)
