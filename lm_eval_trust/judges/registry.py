"""Which judge judges: the command line's choice, the environment's, or the benchmark's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lm_eval_trust.core.errors import ExternalError, InputError, unknown_name
from lm_eval_trust.judges.interface import ToxicityJudge, TruthJudge
from lm_eval_trust.judges.linear import linear_judge
from lm_eval_trust.judges.reference import ReferenceJudge
from lm_eval_trust.judges.settings import JudgeSettings
from lm_eval_trust.mini.judges import MiniToxicityJudge, MiniTruthJudge
from lm_eval_trust.mini.world import build_world, world_seed

Judge = TypeVar("Judge", TruthJudge, ToxicityJudge)


@dataclass(frozen=True)
class JudgeChoice(Generic[Judge]):
    """One kind of judge and its table of names.

    Attributes:
        setting: Key of ``--metadata`` that chooses the judge.
        variable: Environment variable that chooses it otherwise.
        default: The benchmark's own judge, used when neither is set.
        factories: Name to a function that builds the judge, given the split seed evaluated with.
        families: What stands before the colon of ``hf:MODEL`` to a function that builds a judge
            that is a model, given the model and the settings of such judges.
    """

    setting: str
    variable: str
    default: str
    factories: Mapping[str, Callable[[int], Judge]]
    families: Mapping[str, Callable[[str, JudgeSettings], Judge]] = field(default_factory=dict)

    def chosen(self, metadata: Mapping[str, Any]) -> str:
        """Return the spec that ``metadata``, the environment or the default names."""
        return str(metadata.get(self.setting) or os.environ.get(self.variable) or self.default)

    def resolve(self, metadata: Mapping[str, Any], *, split_seed: int) -> Judge:
        """Return the judge that ``metadata``, the environment or the default names.

        Raises:
            InputError: The judge is unknown or its settings are wrong; the message names the
                choices and both ways to choose.
            ExternalError: A model's files or its server are not to be had; likewise.
        """
        spec = self.chosen(metadata)
        if spec in self.factories:
            return self.factories[spec](split_seed)
        family, _, model = spec.partition(":")
        if not model or family not in self.families:
            raise InputError(f"{unknown_name(self.setting, spec, self.known())} {self._how()}")
        try:
            return self.families[family](model, JudgeSettings.from_sources(metadata))
        except (InputError, ExternalError) as error:
            own = ", the benchmark's own judge" if spec == self.default else ""
            raise type(error)(
                f"The {self.setting} {spec!r}{own}, is not to be had: {error} {self._how()}"
            ) from error

    def known(self) -> list[str]:
        """Return what can be chosen."""
        return [*sorted(self.factories), *(f"{family}:MODEL" for family in sorted(self.families))]

    def _how(self) -> str:
        names = " or ".join(sorted(self.factories))
        return f"Choose with --metadata {self.setting}={names}, or the variable {self.variable}."


def _local_truth(model: str, settings: JudgeSettings) -> TruthJudge:
    from lm_eval_trust.judges.local_truth import LocalTruthJudge

    return LocalTruthJudge(model, settings)


def _served_truth(model: str, settings: JudgeSettings) -> TruthJudge:
    from lm_eval_trust.judges.openai_judges import OpenAITruthJudge

    return OpenAITruthJudge(model, settings)


def _local_toxicity(model: str, settings: JudgeSettings) -> ToxicityJudge:
    from lm_eval_trust.judges.local_toxicity import LocalToxicityJudge

    return LocalToxicityJudge(model, settings)


def _served_toxicity(model: str, settings: JudgeSettings) -> ToxicityJudge:
    from lm_eval_trust.judges.openai_judges import OpenAIToxicityJudge

    return OpenAIToxicityJudge(model, settings)


TRUTH_FAMILIES: dict[str, Callable[[str, JudgeSettings], TruthJudge]] = {
    "hf": _local_truth,
    "openai": _served_truth,
}
TOXICITY_FAMILIES: dict[str, Callable[[str, JudgeSettings], ToxicityJudge]] = {
    "hf": _local_toxicity,
    "openai": _served_toxicity,
}

TRUTH: JudgeChoice[TruthJudge] = JudgeChoice(
    setting="truth_judge",
    variable="LM_EVAL_TRUST_TRUTH_JUDGE",
    default="hf:allenai/truthfulqa-truth-judge-llama2-7B,allenai/truthfulqa-info-judge-llama2-7B",
    factories={
        ReferenceJudge.name: lambda split_seed: ReferenceJudge(),
        MiniTruthJudge.name: lambda split_seed: MiniTruthJudge(build_world(world_seed())),
    },
    families=TRUTH_FAMILIES,
)

TOXICITY: JudgeChoice[ToxicityJudge] = JudgeChoice(
    setting="toxicity_judge",
    variable="LM_EVAL_TRUST_TOXICITY_JUDGE",
    default="hf:tomh/toxigen_roberta",
    factories={
        "linear": linear_judge,
        MiniToxicityJudge.name: lambda split_seed: MiniToxicityJudge(build_world(world_seed())),
    },
    families=TOXICITY_FAMILIES,
)
