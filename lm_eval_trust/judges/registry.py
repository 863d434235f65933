"""Which judge decides: the one named on the command line or in the environment, or the default.

A spec is the name of an entry, or ``NAME:MODEL`` for judges that are models. Other packages add
judges by the entry points ``lm_eval_trust.truth_judges``, ``lm_eval_trust.toxicity_judges``,
``lm_eval_trust.refusal_judges`` and ``lm_eval_trust.harm_judges``. Judges are
imported when they are made, so listing them loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from lm_eval_trust.core.errors import ExternalError, InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.registry import Registry
from lm_eval_trust.judges.interface import HarmJudge, RefusalJudge, ToxicityJudge, TruthJudge
from lm_eval_trust.judges.settings import JudgeSettings

Judge = TypeVar("Judge", TruthJudge, ToxicityJudge, RefusalJudge, HarmJudge)
#: What a judged score is: the share of texts that the judge accepts, of those that it does not, or
#: another figure from its verdicts, which is not corrected: no labels measure such verdicts, or it
#: is no share of all texts.
ACCEPTED, REJECTED, UNMEASURED = "accepted", "rejected", "unmeasured"


@dataclass(frozen=True)
class JudgeRequest:
    """What a judge is made from.

    Attributes:
        model: The part of the spec after the colon; empty for judges that are not models.
        metadata: The harness's ``--metadata``.
        split_seed: Seed of the split that is evaluated; a judge trained on a benchmark may use
            the development half only.
    """

    model: str
    metadata: Mapping[str, Any]
    split_seed: int

    @property
    def settings(self) -> JudgeSettings:
        """The settings of judges that are models.

        Raises:
            InputError: One of them is wrong.
        """
        return JudgeSettings.from_sources(self.metadata)


@dataclass(frozen=True)
class JudgeEntry(Generic[Judge]):
    """A judge that can be chosen by name.

    Attributes:
        summary: A few words for help pages.
        make: Builds the judge.
        takes_model: Whether the spec is ``NAME:MODEL``.
        offline: Whether it works without downloading a model and without a server.
        identity: Returns what the verdicts depend on besides the text, without loading a model;
            by default the judge is made and its name, version and settings are used.
    """

    summary: str
    make: Callable[[JudgeRequest], Judge]
    takes_model: bool = False
    offline: bool = True
    identity: Callable[[JudgeRequest], str] | None = None


@dataclass(frozen=True)
class JudgeChoice(Generic[Judge]):
    """How a task's judge is chosen.

    Attributes:
        setting: Key of ``--metadata`` that names the judge.
        variable: Environment variable that names it if the key is not given.
        default: The benchmark's own judge, used if neither is given.
        judges: The judges to choose from.
        methods: What a judge of this kind has to have; the first is what calibrations measure.
        scores: Metric of its tasks → the share of texts that it is: ``accepted``, ``rejected`` or
            ``unmeasured``; other metrics are no shares of verdicts.
    """

    setting: str
    variable: str
    default: str
    judges: Registry[JudgeEntry[Judge]]
    methods: tuple[str, ...]
    scores: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, metadata: Mapping[str, Any]) -> str:
        """Return the spec that ``metadata``, the environment or the default names."""
        return str(metadata.get(self.setting) or os.environ.get(self.variable) or self.default)

    def resolve(self, metadata: Mapping[str, Any], *, split_seed: int) -> Judge:
        """Return the judge that ``metadata``, the environment or the default names.

        Raises:
            InputError: The judge is unknown or its settings are wrong; the message lists the
                choices and both ways to choose.
            ExternalError: A model's files or its server are not available.
        """
        spec = self.chosen(metadata)
        entry, request = self._parsed(spec, metadata, split_seed)
        with self._explained(spec, entry):
            judge = entry.make(request)
        missing = [name for name in self.methods if not hasattr(judge, name)]
        if missing:
            raise InputError(
                f"The {self.setting} {spec!r} has no method {missing[0]}(); a judge of this kind "
                f"has {' and '.join(self.methods)}."
            )
        return judge

    def identity(self, metadata: Mapping[str, Any], *, split_seed: int) -> str:
        """Return 16 hexadecimal digits that differ wherever the judge's verdicts may differ.

        They cover the judge and those of its settings that verdicts may depend on, its server's
        address included; no model is downloaded for them.

        Raises:
            InputError: As for :meth:`resolve`.
            ExternalError: As for :meth:`resolve`.
        """
        spec = self.chosen(metadata)
        entry, request = self._parsed(spec, metadata, split_seed)
        with self._explained(spec, entry):
            if entry.identity is not None:
                found = entry.identity(request)
                return fingerprint({"kind": self.judges.kind, "judge": spec, "identity": found})
        judge = self.resolve(metadata, split_seed=split_seed)
        settings = request.settings.of_verdicts if entry.takes_model else {}
        found = f"{judge.name} {judge.version}"
        return fingerprint({"kind": self.judges.kind, "judge": spec, "identity": found, **settings})

    def known(self) -> list[str]:
        """Return the specs that can be chosen, those of models as ``NAME:MODEL``."""
        return [f"{n}:MODEL" if entry.takes_model else n for n, entry in self._usable()]

    def offline(self) -> list[str]:
        """Return the judges that need no download and no server."""
        return [name for name, entry in self._usable() if entry.offline]

    def is_offline(self, spec: str) -> bool:
        """Return whether a judge is known and needs no download and no server."""
        try:
            entry, _ = self._parsed(spec, {}, 0)
        except InputError:
            return False
        return entry.offline

    def how(self) -> str:
        """Return both ways to choose a judge, in a sentence."""
        names = " or ".join(self.offline())
        return f"Choose with --metadata {self.setting}={names}, or the variable {self.variable}."

    def _parsed(
        self, spec: str, metadata: Mapping[str, Any], split_seed: int
    ) -> tuple[JudgeEntry[Judge], JudgeRequest]:
        name, _, model = spec.partition(":")
        if name not in self.judges or self.judges[name].takes_model != bool(model):
            raise InputError(f"{unknown_name(self.setting, spec, self.known())} {self.how()}")
        return self.judges[name], JudgeRequest(model, metadata, split_seed)

    def _usable(self) -> Iterator[tuple[str, JudgeEntry[Judge]]]:
        """Yield the judges whose packages can be imported; a broken one is no reason to fail."""
        for name in sorted(self.judges):
            try:
                yield name, self.judges[name]
            except InputError:
                continue

    @contextmanager
    def _explained(self, spec: str, entry: JudgeEntry[Judge]) -> Iterator[None]:
        """Add to errors about models which judge was asked for, and how to choose another."""
        try:
            yield
        except (InputError, ExternalError) as error:
            if entry.offline:
                raise
            own = ", the benchmark's own judge," if spec == self.default else ""
            raise type(error)(
                f"The {self.setting} {spec!r}{own} is not available: {error} {self.how()}"
            ) from error


def _of_model(module: str, name: str) -> Callable[[JudgeRequest], Any]:
    """Return what hands a request's model and settings to something of a module of this room."""

    def call(request: JudgeRequest) -> Any:
        found = importlib.import_module(f"lm_eval_trust.judges.{module}")
        return getattr(found, name)(request.model, request.settings)

    return call


def _reference(request: JudgeRequest) -> TruthJudge:
    from lm_eval_trust.judges.reference import ReferenceJudge

    return ReferenceJudge()


def _linear(request: JudgeRequest) -> ToxicityJudge:
    from lm_eval_trust.judges.linear import linear_judge

    return linear_judge(request.split_seed)


def _linear_identity(request: JudgeRequest) -> str:
    from lm_eval_trust.judges.linear import linear_version

    return linear_version(request.split_seed)


def _prefix(request: JudgeRequest) -> RefusalJudge:
    from lm_eval_trust.judges.refusal import PrefixJudge

    return PrefixJudge()


def _linear_refusal(request: JudgeRequest) -> RefusalJudge:
    from lm_eval_trust.judges.refusal import linear_refusal_judge

    return linear_refusal_judge()


def _not_refused(request: JudgeRequest) -> HarmJudge:
    from lm_eval_trust.judges.refusal import NotRefusedJudge

    return NotRefusedJudge()


TRUTH_JUDGES: Registry[JudgeEntry[TruthJudge]] = Registry(
    kind="judge of truth",
    group="lm_eval_trust.truth_judges",
    entry_type=JudgeEntry,
    builtin={
        "reference": JudgeEntry("nearest reference answer by ROUGE-1", _reference),
        "hf": JudgeEntry(
            "fine-tuned models of the Hub or a folder",
            _of_model("local_judges", "LocalTruthJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("local_judges", "truth_identity"),
        ),
        "openai": JudgeEntry(
            "models behind an OpenAI-compatible server",
            _of_model("openai_judges", "OpenAITruthJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("openai_judges", "truth_identity"),
        ),
    },
)

TOXICITY_JUDGES: Registry[JudgeEntry[ToxicityJudge]] = Registry(
    kind="judge of toxicity",
    group="lm_eval_trust.toxicity_judges",
    entry_type=JudgeEntry,
    builtin={
        "linear": JudgeEntry(
            "linear classifier trained on ToxiGen", _linear, identity=_linear_identity
        ),
        "hf": JudgeEntry(
            "a text classifier of the Hub or a folder",
            _of_model("local_judges", "LocalToxicityJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("local_judges", "toxicity_identity"),
        ),
        "openai": JudgeEntry(
            "a model behind an OpenAI-compatible server",
            _of_model("openai_judges", "OpenAIToxicityJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("openai_judges", "toxicity_identity"),
        ),
    },
)

REFUSAL_JUDGES: Registry[JudgeEntry[RefusalJudge]] = Registry(
    kind="judge of refusal",
    group="lm_eval_trust.refusal_judges",
    entry_type=JudgeEntry,
    builtin={
        "prefix": JudgeEntry("XSTest's string match of how answers begin", _prefix),
        "linear": JudgeEntry("linear classifier trained on XSTest's answers", _linear_refusal),
        "hf": JudgeEntry(
            "a guard such as allenai/wildguard, or a text classifier",
            _of_model("local_judges", "LocalRefusalJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("local_judges", "refusal_identity"),
        ),
        "openai": JudgeEntry(
            "a model behind an OpenAI-compatible server",
            _of_model("openai_judges", "OpenAIRefusalJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("openai_judges", "refusal_identity"),
        ),
    },
)

HARM_JUDGES: Registry[JudgeEntry[HarmJudge]] = Registry(
    kind="judge of harm",
    group="lm_eval_trust.harm_judges",
    entry_type=JudgeEntry,
    builtin={
        "prefix": JudgeEntry("all answers that do not begin as refusals do", _not_refused),
        "openai": JudgeEntry(
            "a model behind an OpenAI-compatible server",
            _of_model("openai_judges", "OpenAIHarmJudge"),
            takes_model=True,
            offline=False,
            identity=_of_model("openai_judges", "harm_identity"),
        ),
    },
)

TRUTH: JudgeChoice[TruthJudge] = JudgeChoice(
    setting="truth_judge",
    variable="LM_EVAL_TRUST_TRUTH_JUDGE",
    default="hf:allenai/truthfulqa-truth-judge-llama2-7B,allenai/truthfulqa-info-judge-llama2-7B",
    judges=TRUTH_JUDGES,
    methods=("truth", "info"),
    scores={
        "truth": ACCEPTED,
        "info": UNMEASURED,
        "truth_info": UNMEASURED,
        "trust_score": UNMEASURED,
    },
)

TOXICITY: JudgeChoice[ToxicityJudge] = JudgeChoice(
    setting="toxicity_judge",
    variable="LM_EVAL_TRUST_TOXICITY_JUDGE",
    default="hf:tomh/toxigen_roberta",
    judges=TOXICITY_JUDGES,
    methods=("toxic",),
    scores={
        "toxic_ratio": ACCEPTED,
        "trust_score": REJECTED,
        "toxic_generations": UNMEASURED,
    },
)

REFUSAL: JudgeChoice[RefusalJudge] = JudgeChoice(
    setting="refusal_judge",
    variable="LM_EVAL_TRUST_REFUSAL_JUDGE",
    default="prefix",
    judges=REFUSAL_JUDGES,
    methods=("refusal",),
    scores={
        "refusal_of_unsafe": ACCEPTED,
        "answers_to_safe": REJECTED,
        "refusal": UNMEASURED,
        "partial_refusal": UNMEASURED,
        "trust_score": UNMEASURED,
    },
)

HARM: JudgeChoice[HarmJudge] = JudgeChoice(
    setting="harm_judge",
    variable="LM_EVAL_TRUST_HARM_JUDGE",
    default="openai:gpt-4o-mini",
    judges=HARM_JUDGES,
    methods=("jailbreak", "strongreject"),
    scores=dict.fromkeys(
        ("jailbroken", "strongreject", "refused", "convincing", "specific", "trust_score"),
        UNMEASURED,
    ),
)

#: The embedded world's tasks have settings of their own: their default is the judge that knows
#: the world, whatever the real benchmarks are judged by.
MINI_TRUTH: JudgeChoice[TruthJudge] = replace(
    TRUTH,
    setting="mini_truth_judge",
    variable="LM_EVAL_TRUST_MINI_TRUTH_JUDGE",
    default="world",
)
MINI_TOXICITY: JudgeChoice[ToxicityJudge] = replace(
    TOXICITY,
    setting="mini_toxicity_judge",
    variable="LM_EVAL_TRUST_MINI_TOXICITY_JUDGE",
    default="world",
)
MINI_REFUSAL: JudgeChoice[RefusalJudge] = replace(
    REFUSAL,
    setting="mini_refusal_judge",
    variable="LM_EVAL_TRUST_MINI_REFUSAL_JUDGE",
    default="world",
)

#: Every choice of a judge by its setting; a judged task notes ``SETTING_version`` beside it.
CHOICES: Mapping[str, JudgeChoice[Any]] = {
    choice.setting: choice
    for choice in (TRUTH, MINI_TRUTH, TOXICITY, MINI_TOXICITY, REFUSAL, MINI_REFUSAL, HARM)
}
