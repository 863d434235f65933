"""Which judge judges: the command line's choice, the environment's, or the benchmark's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lm_eval_trust.errors import InputError
from lm_eval_trust.judges.interface import ToxicityJudge, TruthJudge
from lm_eval_trust.judges.linear import linear_judge
from lm_eval_trust.judges.reference import ReferenceJudge

Judge = TypeVar("Judge", TruthJudge, ToxicityJudge)


@dataclass(frozen=True)
class JudgeChoice(Generic[Judge]):
    """One kind of judge and its table of names.

    Attributes:
        setting: Key of ``--metadata`` that chooses the judge.
        variable: Environment variable that chooses it otherwise.
        default: The benchmark's own judge, used when neither is set.
        factories: Name to a function that builds the judge, given the split seed evaluated with.
    """

    setting: str
    variable: str
    default: str
    factories: Mapping[str, Callable[[int], Judge]]

    def resolve(self, metadata: Mapping[str, Any], *, split_seed: int) -> Judge:
        """Return the judge that ``metadata``, the environment or the default names.

        Raises:
            InputError: The judge is unknown or not available; the message names the choices and
                both ways to choose.
        """
        spec = str(metadata.get(self.setting) or os.environ.get(self.variable) or self.default)
        if spec in self.factories:
            return self.factories[spec](split_seed)
        raise self._unavailable(spec)

    def _unavailable(self, spec: str) -> InputError:
        known = " or ".join(sorted(self.factories))
        how = f"Choose with --metadata {self.setting}={known}, or the variable {self.variable}."
        if spec.startswith("hf:"):
            default = "the benchmark's own judge, " if spec == self.default else ""
            return InputError(
                f"The {self.setting} {spec!r} ({default}a model from the Hugging Face Hub) is not "
                f"available in this release, which has {known}. {how}"
            )
        return InputError(f"Unknown {self.setting} {spec!r}; known: {known}. {how}")


TRUTH: JudgeChoice[TruthJudge] = JudgeChoice(
    setting="truth_judge",
    variable="LM_EVAL_TRUST_TRUTH_JUDGE",
    default="hf:allenai/truthfulqa-truth-judge-llama2-7B",
    factories={ReferenceJudge.name: lambda split_seed: ReferenceJudge()},
)

TOXICITY: JudgeChoice[ToxicityJudge] = JudgeChoice(
    setting="toxicity_judge",
    variable="LM_EVAL_TRUST_TOXICITY_JUDGE",
    default="hf:tomh/toxigen_roberta",
    factories={"linear": linear_judge},
)
