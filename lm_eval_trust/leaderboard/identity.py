"""Which model a run evaluated, with and without the seeds that went into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.utils import simple_parse_args_string

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.saved_runs import SavedRun

#: How a run is executed; no answer depends on it.
EXECUTION_ARGUMENTS = frozenset(
    (
        "batch_size",
        "max_batch_size",
        "device",
        "device_map",
        "parallelize",
        "max_memory_per_gpu",
        "num_concurrent",
        "tensor_parallel_size",
        "data_parallel_size",
        "gpu_memory_utilization",
        "proxy_record",
    )
)
#: What asks for steering; the plan that came of it says more.
STEERING_ARGUMENTS = frozenset(
    (
        "steering",
        "vector",
        "dimension",
        "source",
        "layer",
        "alpha",
        "action",
        "positions",
        "target",
        "split_seed",
    )
)
#: What a model was trained into; the first one given is it.
_TRAINED_ARGUMENTS = ("adapter", "expert", "pretrained")
_SECRETS = frozenset(("token", "api_key", "auth_token", "header", "use_auth_token"))
_HARNESS_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_SEEDS = frozenset(("seed", "split_seed", "data_seed", "perturbation_seed", *_HARNESS_SEEDS))
#: Follow from seeds, data and libraries.
_FOLLOWING = frozenset(("items", "groups", "fingerprint", "versions", "content"))
#: Settings of a run that change what a model answers.
_ANSWERING = (
    "gen_kwargs",
    "model_sha",
    "system_instruction_sha",
    "chat_template_sha",
    "fewshot_as_multiturn",
)


@dataclass(frozen=True)
class Identity:
    """Which model was evaluated.

    Attributes:
        whole: Identity of everything that answers depend on.
        seedless: The same without seeds, and without what follows from them.
        seeds: Where it comes in → seed.
    """

    whole: str
    seedless: str
    seeds: Mapping[str, Any]


def identity_of(run: SavedRun) -> Identity:
    """Return which model a run evaluated."""
    config = run.results.get("config") or {}
    arguments = arguments_of(run)
    steering, trained = config.get("steering") or {}, config.get("trained_on") or []
    answering = {name: config.get(name, run.results.get(name)) for name in _ANSWERING}
    asked = {k: v for k, v in arguments.items() if k not in EXECUTION_ARGUMENTS}
    kept = {k: v for k, v in asked.items() if k not in _SEEDS}
    if steering.get("steps"):
        kept = {k: v for k, v in kept.items() if k not in STEERING_ARGUMENTS}
    if trained:
        made = next((name for name in _TRAINED_ARGUMENTS if name in kept), None)
        kept = {k: v for k, v in kept.items() if k != made}
    model = {"model": config.get("model"), **answering}
    whole = {
        "arguments": asked,
        "seeds": {name: config.get(name) for name in _HARNESS_SEEDS},
        "trust": config.get("trust_fingerprint"),
    }
    seedless = {
        "arguments": kept,
        "steering": _seedless_steps(steering),
        "made_from": _seedless([*steering.get("built_from", ()), *trained]),
    }
    seeds = {
        **{name: config[name] for name in _HARNESS_SEEDS if name in config},
        **{f"model.{k}": v for k, v in asked.items() if k in _SEEDS},
        **_seeds_within([*steering.get("built_from", ()), *trained], "made_from"),
    }
    return Identity(
        _printed({**model, **whole}), _printed({**model, **seedless}), dict(sorted(seeds.items()))
    )


def arguments_of(run: SavedRun) -> dict[str, Any]:
    """Return the model's arguments, however the harness was given them; keys are left out."""
    given = (run.results.get("config") or {}).get("model_args") or {}
    told = given if isinstance(given, Mapping) else simple_parse_args_string(given)
    return {name: value for name, value in told.items() if name not in _SECRETS}


def _seedless_steps(steering: Mapping[str, Any]) -> list[Any]:
    """Return a plan's steps; where it is known what vectors were built from, without their values.

    Vectors of another seed have other values, and are told by what they were built from.
    """
    made = {"vector", "norm", "target", "origin"} if steering.get("built_from") else {"origin"}
    steps: Iterable[Mapping[str, Any]] = steering.get("steps", ())
    return [{k: v for k, v in step.items() if k not in made} for step in steps]


def _seedless(value: Any) -> Any:
    if isinstance(value, Mapping):
        dropped = _SEEDS | _FOLLOWING
        return {k: _seedless(v) for k, v in value.items() if k not in dropped}
    return [_seedless(each) for each in value] if isinstance(value, (list, tuple)) else value


def _seeds_within(value: Any, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    for name, inner in pairs:
        if name in _SEEDS:
            found[f"{where}.{name}"] = inner
        found.update(_seeds_within(inner, f"{where}.{name}"))
    return found


def _printed(settings: Mapping[str, Any]) -> str:
    # Arguments may hold what JSON does not know, such as a dtype; its text tells it.
    return fingerprint({name: repr(_ordered(value)) for name, value in settings.items()})


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [(k, _ordered(value[k])) for k in sorted(value, key=str)]
    return [_ordered(each) for each in value] if isinstance(value, (list, tuple)) else value
