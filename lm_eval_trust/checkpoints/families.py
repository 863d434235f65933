"""Families of checkpoints: one training run, seen at many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lm_eval_trust.checkpoints.checkpoint import NUMBERED, Checkpoint, Naming, chosen
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.registry import Registry

AMBER, AMBER_HUB = "amber", "LLM360/Amber"
#: Liu et al. 2023, arXiv 2312.06550, and the model card: 1,259.13 billion tokens in 360 chunks of
#: one size, a checkpoint after each; the last is ``main``, the others ``ckpt_000`` to ``ckpt_358``.
_AMBER_TOKENS, _AMBER_CHECKPOINTS = 1_259_130_000_000, 360

#: Biderman et al. 2023, arXiv 2304.01373: 2,097,152 tokens a step, 154 checkpoints a model.
_PYTHIA_TOKENS_PER_STEP = 2_097_152
_PYTHIA_STEPS = (0, *(2**i for i in range(10)), *range(1000, 144_000, 1000))
_PYTHIA_SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")


@dataclass(frozen=True)
class HubPreset:
    """A family whose revisions the Hub is asked for.

    Attributes:
        hub: ``OWNER/NAME``.
        naming: Of its revisions.
    """

    hub: str
    naming: Naming


#: Groeneveld et al. 2024 and the model cards: names such as ``step1000-tokens4B``. Of OLMo 2, the
#: first stage: the second goes on from it several times over, on mixtures of its own.
_OLMO = Naming(r"(?:stage1-)?step(?P<step>\d+)-tokens(?P<tokens>\d+B)")
#: Model cards: ``step-240000``, with the tokens of a batch for 135M and 3B only.
_SMOLLM = r"(?:stage\d-)?step-(?P<step>\d+)"

LISTED_BY_HUB = {
    "olmo-1b": HubPreset("allenai/OLMo-1B-0724-hf", _OLMO),
    "olmo-7b": HubPreset("allenai/OLMo-7B-0724-hf", _OLMO),
    "olmo-2-1b": HubPreset("allenai/OLMo-2-0425-1B", _OLMO),
    "olmo-2-7b": HubPreset("allenai/OLMo-2-1124-7B", _OLMO),
    "olmo-2-13b": HubPreset("allenai/OLMo-2-1124-13B", _OLMO),
    "smollm2-135m": HubPreset(
        "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", Naming(_SMOLLM, 1_048_576)
    ),
    "smollm2-360m": HubPreset(
        "HuggingFaceTB/SmolLM2-360M-intermediate-checkpoints", Naming(_SMOLLM)
    ),
    "smollm2-1.7b": HubPreset(
        "HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints", Naming(_SMOLLM)
    ),
    "smollm3-3b": HubPreset("HuggingFaceTB/SmolLM3-3B-checkpoints", Naming(_SMOLLM, 2_359_296)),
}
PYTHIA = tuple(f"pythia-{size}{kind}" for size in _PYTHIA_SIZES for kind in ("", "-deduped"))


def amber() -> tuple[Checkpoint, ...]:
    """Return Amber's 360 checkpoints; their step is their number."""
    last = _AMBER_CHECKPOINTS - 1
    return tuple(
        Checkpoint(
            name=f"ckpt_{i:03d}",
            step=i,
            tokens=round(_AMBER_TOKENS * (i + 1) / _AMBER_CHECKPOINTS),
            location=AMBER_HUB,
            revision="main" if i == last else f"ckpt_{i:03d}",
        )
        for i in range(_AMBER_CHECKPOINTS)
    )


def pythia(name: str) -> tuple[Checkpoint, ...]:
    """Return the 154 checkpoints of a Pythia model, e.g. ``pythia-70m`` or ``…-deduped``."""
    return tuple(
        Checkpoint(
            f"step{step}", step, step * _PYTHIA_TOKENS_PER_STEP, f"EleutherAI/{name}", f"step{step}"
        )
        for step in _PYTHIA_STEPS
    )


__all__ = ["Checkpoint", "CheckpointFamily", "FamilySettings", "family_names", "open_family"]


@dataclass(frozen=True)
class CheckpointFamily:
    """A training run.

    Attributes:
        name: Of the preset, the Hub's repository, or the folder.
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
    """Which family; exactly one of ``name``, ``hub`` and ``folder`` is given.

    Attributes:
        name: A preset, see :func:`family_names`.
        hub: ``OWNER/NAME`` of a repository whose revisions are checkpoints.
        folder: A local folder whose sub-folders are checkpoints.
        pattern: Regular expression of a revision's or folder's name, with a group ``step`` and,
            if the name tells it, ``tokens``. A folder needs none if the names end in a number.
        tokens_per_step: Tokens of a batch, where the names do not tell the tokens.
    """

    name: str | None = None
    hub: str | None = None
    folder: str | None = None
    pattern: str | None = None
    tokens_per_step: int | None = None


@dataclass(frozen=True)
class FamilyPreset:
    """A family that is known by name.

    Attributes:
        summary: One line for help pages.
        checkpoints: Returns them without the network; ``None`` if the Hub has to be asked.
        hub: ``OWNER/NAME`` of the repository whose revisions are asked for.
        naming: Of its revisions.
    """

    summary: str
    checkpoints: Callable[[], tuple[Checkpoint, ...]] | None = None
    hub: str = ""
    naming: Naming | None = None


def _listed_presets() -> dict[str, FamilyPreset]:
    return {
        name: FamilyPreset(f"revisions of {preset.hub}", None, preset.hub, preset.naming)
        for name, preset in LISTED_BY_HUB.items()
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
    },
)


def family_names() -> tuple[str, ...]:
    """Return the names of the presets."""
    return tuple(FAMILIES)


def open_family(settings: FamilySettings) -> CheckpointFamily:
    """Return a family with its checkpoints; downloads none of them and trains nothing.

    Amber, Pythia and the embedded family are known without the network. The revisions of others
    are asked of the Hub, those of a folder are looked up in it.

    Raises:
        InputError: Settings that contradict each other, an unknown preset, repository or folder,
            or one that holds no checkpoint.
        ExternalError: The Hub cannot be reached.
    """
    given = [key for key in ("name", "hub", "folder") if getattr(settings, key) is not None]
    if len(given) != 1:
        raise InputError(
            f"A family needs exactly one of name, hub and folder; "
            f"given are {' and '.join(given) or 'none'}."
        )
    if settings.tokens_per_step is not None and settings.tokens_per_step < 1:
        raise InputError(f"tokens_per_step is {settings.tokens_per_step}; expected at least 1.")
    if settings.name is not None:
        return _preset(settings.name, settings)
    if settings.hub is not None:
        return _of_hub(settings.hub, settings)
    return _of_folder(Path(str(settings.folder)).expanduser(), settings)


def _preset(name: str, settings: FamilySettings) -> CheckpointFamily:
    if settings.pattern is not None:
        raise InputError(f"The family {name} has names of its own; leave out the pattern.")
    preset = FAMILIES[name]
    if preset.checkpoints is None:
        assert preset.naming is not None
        per_step = settings.tokens_per_step or preset.naming.tokens_per_step
        return _listed(name, preset.hub, replace(preset.naming, tokens_per_step=per_step))
    if settings.tokens_per_step is not None:
        raise InputError(f"The tokens of {name} are known; leave out tokens_per_step.")
    return CheckpointFamily(name, preset.checkpoints())


def _of_hub(hub: str, settings: FamilySettings) -> CheckpointFamily:
    if settings.pattern is None:
        raise InputError(
            f"Which revisions of {hub} are checkpoints? Give a pattern with a group for the step, "
            f"e.g. 'step(?P<step>[0-9]+)'."
        )
    return _listed(hub, hub, Naming(settings.pattern, settings.tokens_per_step))


def _listed(name: str, hub: str, naming: Naming) -> CheckpointFamily:
    from lm_eval_trust.checkpoints.listing import list_revisions

    revisions = list_revisions(hub)
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
