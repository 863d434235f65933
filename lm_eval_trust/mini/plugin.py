"""What the embedded world adds to the registries, as any other package would.

The entry points are in ``pyproject.toml``; nothing below this room imports it. The models' entry
is :data:`lm_eval_trust.mini.family.MODEL`, which loads PyTorch.
"""

from __future__ import annotations

from lm_eval_trust.benchmarks.benchmark import (
    Benchmark,
    BenchmarkColumn,
    BenchmarkData,
    DataSource,
    Workload,
)
from lm_eval_trust.checkpoints.checkpoint import Checkpoint
from lm_eval_trust.checkpoints.families import FamilyPreset
from lm_eval_trust.checkpoints.stages import DPO, PRETRAINING, SFT, Stage
from lm_eval_trust.judges.interface import RefusalJudge, ToxicityJudge, TruthJudge
from lm_eval_trust.judges.registry import JudgeEntry, JudgeRequest
from lm_eval_trust.mini.world import ALIGNED, BASE, CHAT, build_world, world_seed


def _data(name: str, benchmark: Benchmark) -> BenchmarkData | None:
    from lm_eval_trust.mini.benchmarks import mini_data

    return mini_data(name)


DATA_SOURCE = DataSource(
    "the embedded world, in the benchmarks' shape",
    _data,
    record=lambda: {"world": world_seed()},
    own_groups=True,
    tasks_of_its_own=True,
)

#: General knowledge of the world, and what its own tasks ask of a model, counted with SmolLM2's
#: tokenizer on the world of seed 0.
WORLD = Benchmark(
    columns=(
        BenchmarkColumn("Choice", "acc", ("trust_world_choice_mini",), reported=False, position=14),
        BenchmarkColumn(
            "PPL",
            "word_perplexity",
            ("trust_world_text_mini",),
            higher_is_better=False,
            reported=False,
            position=92,
        ),
    ),
    workloads={
        "trust_bbq_mini": Workload(156, 1, 35.3, 8.0),
        "trust_confaide_mini": Workload(210, 1, 24.1, 4.0),
        "trust_general_mini": Workload(348, 2, 42.1, 0.0),
        "trust_safety_mini": Workload(212, 2, 29.5, 9.1),
        "trust_sst2_mini": Workload(200, 1, 39.7, 8.0),
        "trust_stereoset_mini": Workload(132, 1, 25.1, 4.0),
        "trust_suite_mini": Workload(833, 5, 22.7, 10.9),
        "trust_toxigen_mini": Workload(216, 1, 8.7, 24.0),
        "trust_truthfulqa_classify_mini": Workload(150, 1, 20.5, 4.0),
        "trust_truthfulqa_mc1_mini": Workload(75, 1, 81.1, 0.0),
        "trust_truthfulqa_mc2_mini": Workload(75, 1, 81.1, 0.0),
        "trust_truthfulqa_mini": Workload(75, 1, 9.8, 12.0),
        "trust_world_choice_mini": Workload(48, 1, 76.6, 0.0),
        "trust_world_text_mini": Workload(300, 1, 36.6, 0.0),
        "trust_xstest_mini": Workload(56, 1, 13.3, 12.0),
    },
)


def _checkpoints() -> tuple[Checkpoint, ...]:
    from lm_eval_trust.mini.family import mini_family

    family = mini_family()
    return tuple(
        Checkpoint(name, step, family.tokens_seen(step), f"{BASE}@{name}", None)
        for name, step in family.checkpoints.items()
    )


FAMILY = FamilyPreset("the embedded base model, trained on this machine", _checkpoints)
FLOW = FamilyPreset(
    "the embedded models from pre-training over SFT to DPO",
    stages=(
        Stage(PRETRAINING, BASE, known=_checkpoints),
        Stage(SFT, CHAT, revision=None),
        Stage(DPO, ALIGNED, revision=None),
    ),
    source="trained on this machine",
)


def _truth(request: JudgeRequest) -> TruthJudge:
    from lm_eval_trust.mini.reliability import MiniTruthJudge

    return MiniTruthJudge(build_world(world_seed()))


def _toxicity(request: JudgeRequest) -> ToxicityJudge:
    from lm_eval_trust.mini.toxicity import MiniToxicityJudge

    return MiniToxicityJudge(build_world(world_seed()))


def _refusal(request: JudgeRequest) -> RefusalJudge:
    from lm_eval_trust.mini.safety import MiniRefusalJudge

    return MiniRefusalJudge()


TRUTH_JUDGE: JudgeEntry[TruthJudge] = JudgeEntry("exact, for the embedded world", _truth)
TOXICITY_JUDGE: JudgeEntry[ToxicityJudge] = JudgeEntry("exact, for the embedded world", _toxicity)
REFUSAL_JUDGE: JudgeEntry[RefusalJudge] = JudgeEntry("exact, for the embedded world", _refusal)
