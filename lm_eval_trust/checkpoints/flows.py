"""Open model flows: the stages of today's models, with the names that the Hub has for them.

The names and numbers were looked up in stored copies of model cards, papers and public code, not on
the Hub itself: which revisions there are is asked when a family is opened, and whether one still
exists shows when it is fetched. What could not be found out is left out: the names of K2's 140
checkpoints and of Apertus-70B's, intermediate revisions of tuned models, and the tokens that tuned
models saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_trust.checkpoints.checkpoint import Naming
from lm_eval_trust.checkpoints.runs import AMBER_HUB, OLMO, amber
from lm_eval_trust.checkpoints.stages import (
    DPO,
    LONG_CONTEXT,
    MIDTRAINING,
    PRETRAINING,
    RLVR,
    SFT,
    Stage,
)

#: When the names and numbers below were looked up.
LOOKED_UP = "2026-11-28"
_B = 10**9


@dataclass(frozen=True)
class Flow:
    """A model's stages.

    Attributes:
        source: Where its names and numbers come from.
        stages: In their order.
    """

    source: str
    stages: tuple[Stage, ...]


def _tuned(prefix: str, last: str) -> tuple[Stage, ...]:
    """Return SFT, DPO and RLVR as the Allen Institute names their repositories."""
    return Stage(SFT, f"{prefix}-SFT"), Stage(DPO, f"{prefix}-DPO"), Stage(RLVR, last)


def _olmo_2(base: str) -> Flow:
    """The second stage is run several times; ``main`` is the mean of the runs' last weights."""
    ingredient = Naming(r"stage2-ingredient1-step(?P<step>\d+)-tokens(?P<tokens>\d+B)")
    return Flow(
        f"model card of {base} and OLMo et al. 2025, arXiv 2501.00656",
        (
            Stage(PRETRAINING, base, OLMO),
            Stage(MIDTRAINING, base, ingredient),
            Stage(MIDTRAINING, base, checkpoint="soup"),
            *_tuned(base, f"{base}-Instruct"),
        ),
    )


#: 5.93T, 100B and 50B tokens in 1,413,814, 47,684 and 11,921 steps: batches of 4, 2 and 4 Mi
#: tokens. The last of the third stage is ``main``.
_OLMO_3_7B = (
    Stage(PRETRAINING, "allenai/Olmo-3-1025-7B", Naming(r"stage1-step(?P<step>\d+)", 4 << 20)),
    Stage(MIDTRAINING, "allenai/Olmo-3-1025-7B", Naming(r"stage2-step(?P<step>\d+)", 2 << 20)),
    Stage(LONG_CONTEXT, "allenai/Olmo-3-1025-7B", Naming(r"stage3-step(?P<step>\d+)", 4 << 20)),
)
#: 5.50T tokens in 656,000 steps: batches of 8 Mi tokens. Those of later stages were not found.
_OLMO_3_32B = (
    Stage(PRETRAINING, "allenai/Olmo-3-1125-32B", Naming(r"stage1-step(?P<step>\d+)", 8 << 20)),
    Stage(MIDTRAINING, "allenai/Olmo-3-1125-32B", Naming(r"stage2-ingredient1-step(?P<step>\d+)")),
    Stage(LONG_CONTEXT, "allenai/Olmo-3-1125-32B", Naming(r"stage3-step(?P<step>\d+)")),
    Stage(LONG_CONTEXT, "allenai/Olmo-3-1125-32B", checkpoint="base"),
)
_OLMO_3_SOURCE = (
    "model cards of Olmo-3-1025-7B and Olmo-3.1-32B-Instruct, arXiv 2512.13961, and public code "
    "that lists the branches"
)

_SMOLLM3 = "HuggingFaceTB/SmolLM3-3B-checkpoints"
_SMOLLM3_BATCH = 2_359_296
_MARIN = "marin-community/marin-8b-base"


def _smollm3(stage: str, pattern: str, *, running: bool = False) -> Stage:
    return Stage(stage, _SMOLLM3, Naming(pattern, _SMOLLM3_BATCH), running=running)


def _marin(stage: str, name: str, tokens: int) -> Stage:
    """Return a phase by the tokens that were seen at its end; its steps had no one batch size."""
    return Stage(stage, _MARIN, revision=name, checkpoint=name, tokens=tokens * _B, running=True)


FLOWS = {
    "amber-flow": Flow(
        "Liu et al. 2023, arXiv 2312.06550, and the model cards",
        (
            Stage(PRETRAINING, AMBER_HUB, known=amber),
            Stage(SFT, "LLM360/AmberChat"),
            Stage(DPO, "LLM360/AmberSafe"),
        ),
    ),
    "olmo-2-1b-flow": _olmo_2("allenai/OLMo-2-0425-1B"),
    "olmo-2-7b-flow": _olmo_2("allenai/OLMo-2-1124-7B"),
    "olmo-2-13b-flow": _olmo_2("allenai/OLMo-2-1124-13B"),
    "olmo-3-7b-think": Flow(
        _OLMO_3_SOURCE,
        (*_OLMO_3_7B, *_tuned("allenai/Olmo-3-7B-Think", "allenai/Olmo-3-7B-Think")),
    ),
    "olmo-3-7b-instruct": Flow(
        _OLMO_3_SOURCE,
        (*_OLMO_3_7B, *_tuned("allenai/Olmo-3-7B-Instruct", "allenai/Olmo-3-7B-Instruct")),
    ),
    "olmo-3-32b-think": Flow(
        _OLMO_3_SOURCE,
        (*_OLMO_3_32B, *_tuned("allenai/Olmo-3-32B-Think", "allenai/Olmo-3-32B-Think")),
    ),
    "olmo-3-32b-instruct": Flow(
        _OLMO_3_SOURCE,
        (*_OLMO_3_32B, *_tuned("allenai/Olmo-3.1-32B-Instruct", "allenai/Olmo-3.1-32B-Instruct")),
    ),
    # ``main`` was annealed from step 1,200,000 on 100B tokens; the few later checkpoints were not
    # used. What is called Instruct is the model after DPO.
    "olmoe-1b-7b": Flow(
        "model cards of OLMoE-1B-7B-0924, -SFT and -Instruct, arXiv 2409.02060",
        (
            Stage(PRETRAINING, "allenai/OLMoE-1B-7B-0924", OLMO, until=1_200_000),
            Stage(MIDTRAINING, "allenai/OLMoE-1B-7B-0924", tokens=100 * _B),
            Stage(SFT, "allenai/OLMoE-1B-7B-0924-SFT"),
            Stage(DPO, "allenai/OLMoE-1B-7B-0924-Instruct"),
        ),
    ),
    # Instruct was tuned by SFT and QRPO; no model between them was found.
    "apertus-8b": Flow(
        "model card of Apertus-8B-2509, arXiv 2509.14233, and public code that lists revisions",
        (
            Stage(
                PRETRAINING,
                "swiss-ai/Apertus-8B-2509",
                Naming(r"step(?P<step>\d+)-tokens(?P<tokens>\d+[BT])"),
            ),
            Stage(LONG_CONTEXT, "swiss-ai/Apertus-8B-2509"),
            Stage("qrpo", "swiss-ai/Apertus-8B-Instruct-2509"),
        ),
    ),
    "apertus-70b": Flow(
        "model card of Apertus-70B-2509, arXiv 2509.14233",
        (
            Stage(LONG_CONTEXT, "swiss-ai/Apertus-70B-2509"),
            Stage("qrpo", "swiss-ai/Apertus-70B-Instruct-2509"),
        ),
    ),
    "marin-8b": Flow(
        "model card of marin-8b-base, docs/reports/marin-8b-retro.md of marin-community/marin, and "
        "public code that lists revisions",
        (
            _marin(PRETRAINING, "kestrel", 2_700),
            _marin(PRETRAINING, "ocelot", 3_780),
            _marin("first-cooldown", "jellyfish", 4_780),
            _marin("reheated", "phoenix", 11_100),
            _marin("second-cooldown", "starling", 12_750),
            _marin("second-cooldown", "deeper-starling", 13_700),
            Stage(SFT, "marin-community/marin-8b-instruct"),
        ),
    ),
    "k2-65b": Flow(
        "model card of LLM360/K2, arXiv 2501.07124",
        (
            Stage(PRETRAINING, "LLM360/K2", tokens=1_400 * _B),
            Stage("chat", "LLM360/K2-Chat"),
        ),
    ),
    # The names of the three stages of pre-training count through; those of the extensions do not.
    "smollm3-3b-flow": Flow(
        "model card of SmolLM3-3B-checkpoints, and public code that lists its branches",
        (
            _smollm3(PRETRAINING, r"stage1-step-(?P<step>\d+)"),
            _smollm3(PRETRAINING, r"stage2-step-(?P<step>\d+)", running=True),
            _smollm3(PRETRAINING, r"stage3-step-(?P<step>\d+)", running=True),
            _smollm3(LONG_CONTEXT, r"lc-4k-to-32k-step-(?P<step>\d+)"),
            _smollm3(LONG_CONTEXT, r"lc-32k-to-64k-step-(?P<step>\d+)"),
            Stage("reasoning", _SMOLLM3, revision="it-mid-training"),
            Stage(SFT, _SMOLLM3, revision="it-SFT"),
            Stage("apo", _SMOLLM3, revision="it-soup-APO"),
            Stage("merged", "HuggingFaceTB/SmolLM3-3B"),
        ),
    ),
}
