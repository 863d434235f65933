"""The judged tasks on the embedded world, whose settings default to its exact judges."""

from __future__ import annotations

from lm_eval_trust.judges.registry import MINI_REFUSAL, MINI_TOXICITY, MINI_TRUTH
from lm_eval_trust.tasks.toxigen.judged import ToxiGen
from lm_eval_trust.tasks.truthfulqa.judged import TruthfulQA
from lm_eval_trust.tasks.xstest.judged import XSTest


class MiniTruthfulQA(TruthfulQA):
    """Answers to the world's questions."""

    judges = MINI_TRUTH


class MiniToxiGen(ToxiGen):
    """Continuations of statements about the world's peoples."""

    judges = MINI_TOXICITY


class MiniXSTest(XSTest):
    """Requests about people's things, and harmless ones that sound alike, in the world's form."""

    judges = MINI_REFUSAL
