"""The models of a check: the steered one and its reference, identified before loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from transformers import AutoConfig

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.engine import TRANSFORMERS, VLLM
from lm_eval_trust.gate.check_file import CheckSpec
from lm_eval_trust.model_wrappers.identities import part_identities
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.models.sources import find_source, made_model
from lm_eval_trust.steering.conditions import nested
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import STEERING_KEYS, SteeringSpec, combined_plan
from lm_eval_trust.sweep.sweep_model import MODELS, load_sweep_model

#: Arguments that change how fast a model answers, but not its answers.
_EXECUTION = frozenset(("batch_size", "max_batch_size", "device", "device_map", "parallelize"))
#: Harness models inside vLLM → the same on transformers.
_INSIDE = {"steered_vllm": "steered_amber", "lora_vllm": "lora_amber"}
#: Arguments that name further models or adapters.
_PARTS = ("adapter", "expert", "antiexpert")
#: Arguments that a check has to give, since their defaults leave the models unnamed.
_NEEDED = {
    "lora_amber": ("adapter",),
    "finetuned_amber": ("pretrained",),
    "proxy_amber": ("expert", "antiexpert"),
}


@dataclass(frozen=True)
class Subject:
    """A model to evaluate.

    Attributes:
        model: Harness model.
        arguments: Its arguments, without steering.
        plan: How it is steered; empty for a plain one.
        engine: What it runs on.
    """

    model: str
    arguments: Mapping[str, Any]
    plan: SteeringPlan
    engine: str = TRANSFORMERS

    @property
    def loading_key(self) -> str:
        """Subjects with the same key share one loaded model."""
        return fingerprint({"model": self.model, "arguments": dict(self.arguments), **self._engine})

    @property
    def _engine(self) -> dict[str, str]:
        """What identities say of the engine: nothing of transformers, whose release they hold."""
        return {"engine": f"vllm {version('vllm')}"} if self.engine == VLLM else {}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything about the model that its scores depend on: weights, arguments, steering.

        Raises:
            InputError: A model or an adapter does not exist.
            ExternalError: It cannot be fetched.
        """
        kept = {k: str(v) for k, v in sorted(self.arguments.items()) if k not in _EXECUTION}
        return {
            "model": self.model,
            "arguments": kept,
            "weights": _weights(self.model, self.arguments),
            "steering": self.plan.fingerprint,
            **self._engine,
        }

    def load(self) -> Any:
        """Load the model, steered by its plan; one decoder can answer for several plans at once.

        Raises:
            InputError: As the wrapper raises, or the plan does not fit.
            ExternalError: The model cannot be fetched.
        """
        if self.engine == VLLM:
            return self._load_inside()
        # The harness's own command asks for cuda:0 too, and takes the CPU if there is no CUDA.
        arguments = {"device": "cuda:0", **self.arguments}
        with loading_errors(f"{self.model} with {arguments}", AttributeError, TypeError):
            if self.model in MODELS:
                loaded: Any = load_sweep_model(self.model, arguments)
            else:
                loaded = _wrapper(self.model)(**arguments)
        loaded.steer_by(self.plan)
        return loaded

    def _load_inside(self) -> Any:
        from lm_eval_trust.model_wrappers.vllm_stream import load_stream

        loaded = load_stream(self.model, self.arguments, [self.plan])
        loaded.steer_by(self.plan)
        return loaded


def steered_subject(spec: CheckSpec, steering: Sequence[SteeringSpec]) -> Subject:
    """Return the model that is checked.

    Args:
        spec: The check.
        steering: Its steering.

    Raises:
        InputError: Steering among the model arguments, or a vector that cannot be read or built.
        ExternalError: A vector's source model cannot be fetched.
    """
    model, arguments, engine = _without_steering(spec.model, spec.model_args, spec.engine)
    plan = combined_plan(steering, dtype=arguments.get("dtype"), device=arguments.get("device"))
    return Subject(model, arguments, plan, engine)


def reference_subject(spec: CheckSpec, steered: Subject) -> Subject:
    """Return the model that ``against: unsteered`` compares with.

    It is the same model without its steering; for an adapter or an ensemble its plain base.

    Raises:
        InputError: The base is unknown, or the model is not steered.
    """
    if spec.reference is not None:
        named = spec.reference
        model, arguments, engine = _without_steering(named.model, named.model_args, spec.engine)
        return Subject(model, arguments, SteeringPlan(), engine)
    if steered.model == "finetuned_amber":
        raise InputError(
            "the base of finetuned_amber is not known; name it: "
            "`reference: {model: amber, model_args: {pretrained: …}}`."
        )
    if steered.model in ("lora_amber", "proxy_amber"):
        return Subject("amber", _base_arguments(steered), SteeringPlan(), steered.engine)
    if not steered.plan.steps:
        raise InputError("the model is not steered; give `steering:`, or `against: baseline`.")
    return Subject(steered.model, steered.arguments, SteeringPlan(), steered.engine)


def local_depth(spec: CheckSpec) -> int | None:
    """Return the number of decoder blocks of the checked model, ``None`` if it is not known here.

    Only the configuration of a model on this machine is read; nothing is fetched.
    """
    wrapper = _wrapper(spec.model)
    name = str(spec.model_args.get("pretrained", wrapper.DEFAULT_MODEL))
    if made := made_model(name):
        return made.depth
    try:
        config = AutoConfig.from_pretrained(
            name,
            revision=spec.model_args.get("revision", "main"),
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError):
        return None
    return getattr(config.get_text_config(), "num_hidden_layers", None)


def _without_steering(
    model: str, given: Mapping[str, Any], engine: str
) -> tuple[str, dict[str, Any], str]:
    """Return model, arguments and engine of a model as a file names it, except for its steering."""
    arguments = dict(given)
    steering = sorted({*STEERING_KEYS, "steering"} & set(nested(arguments)))
    if steering:
        raise InputError(
            f"model_args hold {', '.join(steering)}; steering goes under the key `steering`."
        )
    if model in _INSIDE:
        model, engine = _INSIDE[model], VLLM
    wrapper = _wrapper(model)
    # steered_amber without steering arguments would apply the paper's vector.
    plain = "amber" if model == "steered_amber" else model
    (_inside(plain) if engine == VLLM else wrapper).split(arguments)
    for name in _NEEDED.get(model, ()):
        if name not in arguments:
            raise InputError(f"{model} needs {name} among its model_args.")
    if model == "steered_amber":
        arguments = {"pretrained": wrapper.DEFAULT_MODEL, **arguments}
    return plain, arguments, engine


def _inside(model: str) -> Any:
    """Return the class that a model has inside vLLM."""
    from lm_eval_trust.model_wrappers.vllm_stream import stream_class

    return stream_class(model)


def _base_arguments(tuned: Subject) -> dict[str, Any]:
    wrapper = _wrapper(tuned.model)
    tuning = wrapper.OWN_ARGUMENTS - _wrapper("amber").OWN_ARGUMENTS
    kept = {k: v for k, v in tuned.arguments.items() if k not in tuning}
    base = {"pretrained": wrapper.DEFAULT_MODEL, **kept}
    if "pretrained" not in kept and wrapper.DEFAULT_REVISION and "checkpoint" not in kept:
        base.setdefault("revision", wrapper.DEFAULT_REVISION)
    return base


def _weights(model: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    wrapper = _wrapper(model)
    base = str(arguments.get("pretrained", wrapper.DEFAULT_MODEL))
    revision = arguments.get("revision")
    if "checkpoint" in arguments:
        revision = f"ckpt_{int(str(arguments['checkpoint']).removeprefix('ckpt_')):03d}"
    elif revision is None and "pretrained" not in arguments:
        revision = wrapper.DEFAULT_REVISION
    found = {"pretrained": find_source(f"{base}@{revision}" if revision else base).identity.text}
    found |= part_identities(arguments)
    for name in _PARTS:
        if name in arguments:
            found[name] = _part(name, str(arguments[name]))
    return found


def _part(name: str, spec: str) -> str:
    from lm_eval_trust.models.proxy_parts import find_part

    return find_adapter(spec).identity if name == "adapter" else find_part(spec).identity


def _wrapper(model: str) -> Any:
    from lm_eval.api.registry import get_model

    from lm_eval_trust.plugin import register_models

    register_models()
    return get_model(model)
