"""What a run says about itself: the model, the settings of its tasks, its seeds and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from lm_eval.utils import simple_parse_args_string

from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.inspect_logs import SETTINGS
from lm_eval_trust.core.saved_runs import CONTROL, JUDGED_FROM, PREFIXES, SavedRun
from lm_eval_trust.judges.registry import CHOICES

#: How a run is executed; answers do not depend on these.
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
#: Arguments that request steering; the saved plan that resulted says more.
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
        "when",
    )
)
#: Where trained weights are given; the first that is present is the trained one.
_TRAINED_ARGUMENTS = ("adapter", "expert", "pretrained")
_SECRETS = frozenset(("token", "api_key", "auth_token", "header", "use_auth_token"))
_HARNESS_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_SEEDS = frozenset(("seed", "split_seed", "data_seed", "perturbation_seed", *_HARNESS_SEEDS))
#: Consequences of seeds, data and library versions.
_FOLLOWING = frozenset(("items", "groups", "fingerprint", "versions", "content"))
#: A run's settings that change a model's answers.
_ANSWERING = (
    "gen_kwargs",
    "model_sha",
    "system_instruction_sha",
    "chat_template_sha",
    "fewshot_as_multiturn",
)


#: Seeds of a task's data; one row may hold several.
DATA_SEEDS = ("split_seed", "data_seed")
_DATA = ("data_source", "split", "part", "perturbation_rate")
DATA_FINGERPRINT = "data_fingerprint"
_SAMPLES, _ITEMS = "number_of_samples", "items_in_the_data"

Settings = dict[str, Any]
#: Task → the settings of all runs of one row.
RowSettings = Mapping[str, tuple[Settings, ...]]
_TORCH = "PyTorch version: "


@dataclass(frozen=True)
class Identity:
    """Which model was evaluated.

    Attributes:
        whole: Hash of everything that answers depend on.
        seedless: The same without seeds and their consequences.
        seeds: Where a seed is used → the seed.
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
    if PREFIXES in config:
        answering[PREFIXES] = config[PREFIXES]
    asked = {k: v for k, v in arguments.items() if k not in EXECUTION_ARGUMENTS}
    kept = {k: v for k, v in asked.items() if k not in _SEEDS}
    if steering.get("steps"):
        kept = {k: v for k, v in kept.items() if k.partition(".")[0] not in STEERING_ARGUMENTS}
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
    """Return the model's arguments as a mapping, however they were given; without API keys."""
    given = (run.results.get("config") or {}).get("model_args") or {}
    told = given if isinstance(given, Mapping) else simple_parse_args_string(given)
    return {name: value for name, value in told.items() if name not in _SECRETS}


def _seedless_steps(steering: Mapping[str, Any]) -> list[Any]:
    """Return a plan's steps, without the vectors' values if it is known what they were built from.

    A vector of another seed has other values; its sources identify it.
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
    # Arguments may hold objects that JSON lacks, such as a dtype; their text identifies them.
    return fingerprint({name: repr(_ordered(value)) for name, value in settings.items()})


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [(k, _ordered(value[k])) for k in sorted(value, key=str)]
    return [_ordered(each) for each in value] if isinstance(value, (list, tuple)) else value


def settings_of(run: SavedRun) -> dict[str, Settings]:
    """Return for each task what its scores depend on besides the model."""
    return {task: _of_task(run, task) for task in run.results["configs"]}


def without_seeds(settings: Settings) -> Settings:
    """Return the settings that all seeds of one row share.

    How many items the data hold follows from the seed of the split where groups differ in size, and
    so does how many are evaluated, unless a limit cuts them.
    """
    dropped = {*DATA_SEEDS, DATA_FINGERPRINT}
    if DATA_FINGERPRINT in settings:
        dropped.add(_ITEMS)
        if settings[_SAMPLES] == settings[_ITEMS]:
            dropped.add(_SAMPLES)
    return {k: v for k, v in settings.items() if k not in dropped}


def _of_task(run: SavedRun, task: str) -> Settings:
    results = run.results
    metadata = (results["configs"][task] or {}).get("metadata") or {}
    counts = (results.get("n-samples") or {}).get(task) or {}
    settings: Settings = {
        "version": (results.get("versions") or {}).get(task),
        _SAMPLES: counts.get("effective"),
        _ITEMS: counts.get("original"),
        "few-shot_number": (results.get("n-shot") or {}).get(task),
    }
    # The harness gives every task all metadata; only judged tasks record their judge's version.
    for name in CHOICES:
        if f"{name}_version" in metadata:
            settings[name] = metadata.get(name)
            settings[f"{name}_version"] = metadata[f"{name}_version"]
    settings |= metadata.get(SETTINGS) or {}
    if DATA_FINGERPRINT in metadata:
        names = (*_DATA, *DATA_SEEDS, DATA_FINGERPRINT)
        settings |= {name: metadata.get(name) for name in names}
    return settings


def provenance_of(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """Return where a row comes from; the model is described by its first run."""
    first = runs[0].results
    config = first.get("config") or {}
    return {
        "model": config.get("model"),
        "model_args": arguments_of(runs[0]),
        "steering": (config.get("steering") or {}).get("steps") or [],
        "steering_fingerprint": (config.get("steering") or {}).get("fingerprint"),
        CONTROL: config.get(CONTROL),
        PREFIXES: config.get(PREFIXES),
        "built_from": (config.get("steering") or {}).get("built_from") or [],
        "trained_on": config.get("trained_on") or [],
        "fingerprints": _fingerprints(runs),
        "dates": [_date(run) for run in runs],
        "files": [str(run.path) for run in runs],
        "versions": _versions(first),
        "git_hash": first.get("git_hash"),
        "judges": judges_of(runs),
        "judged_from": first.get(JUDGED_FROM),
        "seeds": [seeds_of(run) for run in runs],
        "limit": config.get("limit"),
        "gen_kwargs": config.get("gen_kwargs"),
        "chat_template_sha": first.get("chat_template_sha"),
    }


def judges_of(runs: Sequence[SavedRun]) -> dict[str, dict[str, Any]]:
    """Return the judges of the row's tasks: setting → judge, version, calibration."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for config in run.results["configs"].values():
            metadata = (config or {}).get("metadata") or {}
            for name in CHOICES:
                if f"{name}_version" in metadata:
                    found[name] = {
                        "judge": metadata.get(name),
                        "version": metadata[f"{name}_version"],
                        "calibration": metadata.get(f"{name}_calibration"),
                    }
    return found


def seeds_of(run: SavedRun) -> dict[str, Any]:
    """Return a run's seeds: of the harness, of the model and of the data."""
    data = {
        f"data.{name}": settings[name]
        for settings in settings_of(run).values()
        for name in DATA_SEEDS
        if name in settings
    }
    return {**identity_of(run).seeds, **data}


def _versions(results: Mapping[str, Any]) -> dict[str, Any]:
    lines = str(results.get("pretty_env_info") or "").splitlines()
    torch = next((line.removeprefix(_TORCH) for line in lines if line.startswith(_TORCH)), None)
    return {
        "lm_eval": results.get("lm_eval_version"),
        "transformers": results.get("transformers_version"),
        "torch": torch,
    }


def _date(run: SavedRun) -> str:
    seconds = run.results.get("date")
    if not isinstance(seconds, (int, float)):
        return run.date
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _fingerprints(runs: Sequence[SavedRun]) -> list[str]:
    given = ((run.results.get("config") or {}).get("trust_fingerprint") for run in runs)
    return list(dict.fromkeys(str(mark) for mark in given if mark))
