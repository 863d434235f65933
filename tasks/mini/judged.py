"""The judged tasks on the embedded world, with its exact judges."""

from __future__ import annotations

from lm_eval_trust.judges.interface import ToxicityJudge, TruthJudge
from lm_eval_trust.judges.reference import ReferenceJudge
from lm_eval_trust.judges.registry import TOXICITY_FAMILIES, TRUTH_FAMILIES, JudgeChoice
from lm_eval_trust.mini.judges import MiniToxicityJudge, MiniTruthJudge
from lm_eval_trust.mini.world import build_world, world_seed
from lm_eval_trust.tasks.toxigen.judged import ToxiGen
from lm_eval_trust.tasks.truthfulqa.judged import TruthfulQA

_TRUTH: JudgeChoice[TruthJudge] = JudgeChoice(
    setting="mini_truth_judge",
    variable="LM_EVAL_TRUST_MINI_TRUTH_JUDGE",
    default=MiniTruthJudge.name,
    factories={
        MiniTruthJudge.name: lambda split_seed: MiniTruthJudge(build_world(world_seed())),
        ReferenceJudge.name: lambda split_seed: ReferenceJudge(),
    },
    families=TRUTH_FAMILIES,
)

_TOXICITY: JudgeChoice[ToxicityJudge] = JudgeChoice(
    setting="mini_toxicity_judge",
    variable="LM_EVAL_TRUST_MINI_TOXICITY_JUDGE",
    default=MiniToxicityJudge.name,
    factories={
        MiniToxicityJudge.name: lambda split_seed: MiniToxicityJudge(build_world(world_seed()))
    },
    families=TOXICITY_FAMILIES,
)


class MiniTruthfulQA(TruthfulQA):
    """Answers to the world's questions."""

    judges = _TRUTH


class MiniToxiGen(ToxiGen):
    """Continuations of what is said of the world's peoples."""

    judges = _TOXICITY
