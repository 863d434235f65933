"""Single training runs whose checkpoints are known, or whose revisions the Hub lists."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.checkpoints.checkpoint import Checkpoint, Naming

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
        naming: Naming of its revisions.
    """

    hub: str
    naming: Naming


#: Groeneveld et al. 2024 and the model cards: names such as ``step1000-tokens4B``. Of OLMo 2, the
#: first stage: the second goes on from it several times over, on mixtures of its own.
OLMO = Naming(r"(?:stage1-)?step(?P<step>\d+)-tokens(?P<tokens>\d+B)")
#: Model cards: ``step-240000``, with the tokens of a batch for 135M and 3B only.
_SMOLLM = r"(?:stage\d-)?step-(?P<step>\d+)"

LISTED_BY_HUB = {
    "olmo-1b": HubPreset("allenai/OLMo-1B-0724-hf", OLMO),
    "olmo-7b": HubPreset("allenai/OLMo-7B-0724-hf", OLMO),
    "olmo-2-1b": HubPreset("allenai/OLMo-2-0425-1B", OLMO),
    "olmo-2-7b": HubPreset("allenai/OLMo-2-1124-7B", OLMO),
    "olmo-2-13b": HubPreset("allenai/OLMo-2-1124-13B", OLMO),
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
