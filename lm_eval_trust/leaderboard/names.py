"""Names of rows: the model and how it was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.saved_runs import CONTROL, JUDGED_FROM, PREFIXES, SavedRun
from lm_eval_trust.leaderboard.identity import EXECUTION_ARGUMENTS, arguments_of
from lm_eval_trust.plugin import MODELS

#: Characters of a fingerprint that identify it, at least.
_SHORTEST = 6


def default_name(run: SavedRun) -> str:
    """Return a short name made of a run's model and arguments."""
    config = run.results.get("config") or {}
    arguments = arguments_of(run)
    parts = [_model(run, arguments)]
    parts.extend(_changes(arguments, config))
    parts.extend(_steering(config.get("steering") or {}))
    notes = []
    kind = str(config.get("model"))
    if kind not in MODELS and not _in_memory(run):  # ours already say how they were changed
        notes.append(kind)
    if run.results.get("chat_template_sha"):
        notes.append("chat template")
    if JUDGED_FROM in run.results:
        notes.append("judged again")
    if control := config.get(CONTROL):
        notes.append(f"control {control['arm']}")
    elif config.get(PREFIXES):
        notes.append("text before prompts")
    if run.results.get("system_instruction_sha"):
        notes.append("system instruction")
    return " + ".join(parts) + (f" ({', '.join(notes)})" if notes else "")


def unique_names(rows: Sequence[tuple[str, Sequence[SavedRun]]]) -> list[str]:
    """Return unique names: where several rows share one, with the arguments that differ.

    If no arguments differ, the rows are numbered.

    Args:
        rows: Wanted name and runs of each row.
    """
    names = [name for name, _ in rows]
    for name in {name for name in names if names.count(name) > 1}:
        places = [i for i, other in enumerate(names) if other == name]
        told = _differing([rows[i][1][0] for i in places])
        if len(set(told)) < len(told):
            told = [f"#{number}" for number in range(1, len(places) + 1)]
        for i, text in zip(places, told, strict=True):
            names[i] = f"{name} [{text}]"
    return (
        names
        if len(set(names)) == len(names)
        else unique_names(list(zip(names, (r for _, r in rows), strict=True)))
    )


def given_names(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``fingerprint-or-path=NAME``.

    Raises:
        InputError: A pair has another form, or one place gets two names.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        place, _, name = pair.rpartition("=")
        if not place or not name.strip():
            raise InputError(f"--names {pair!r} is not of the form FINGERPRINT-OR-PATH=NAME.")
        if found.setdefault(place, name.strip()) != name.strip():
            raise InputError(f"--names gives {place} two names, {found[place]} and {name.strip()}.")
    return found


def chosen_name(runs: Sequence[SavedRun], given: Mapping[str, str]) -> tuple[str, set[str]]:
    """Return a row's name, and the given places that fit the row.

    Raises:
        InputError: The given places have different names.
    """
    by = {place for place in given if any(_is(run, place) for run in runs)}
    names = {given[place] for place in by}
    if len(names) > 1:
        raise InputError(f"--names gives the row of {runs[0].path} several names: {sorted(names)}.")
    return (names.pop() if names else default_name(runs[0])), by


def _is(run: SavedRun, place: str) -> bool:
    mark = str((run.results.get("config") or {}).get("trust_fingerprint") or "")
    if len(place) >= _SHORTEST and mark.startswith(place):
        return True
    path = Path(place)
    return path.exists() and (
        path.resolve() == run.path.resolve() or path.resolve() in run.path.resolve().parents
    )


def _model(run: SavedRun, arguments: Mapping[str, Any]) -> str:
    given = arguments.get("pretrained") or arguments.get("model") or run.results.get("model_name")
    if _in_memory(run):
        given = (run.results.get("config") or {}).get("model")
    name = PurePath(str(given)).name if given else str(run.results.get("model_source") or "model")
    at = arguments.get("revision") or (
        _checkpoint(str(arguments["checkpoint"])) if "checkpoint" in arguments else None
    )
    return f"{name}@{at}" if at and at != "main" else name


def _in_memory(run: SavedRun) -> bool:
    """Tell whether a loaded model was evaluated; the harness gives it a random name."""
    config = run.results.get("config") or {}
    return run.results.get("model_source") == "CUSTOM" and not config.get("model_args")


def _checkpoint(given: str) -> str:
    """Return a checkpoint's name, which may be given by its number alone."""
    return f"ckpt_{int(given):03d}" if given.isdecimal() else given


def _changes(arguments: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[str]:
    dimensions = [str(made.get("dimension")) for made in config.get("trained_on") or ()]
    if adapter := arguments.get("adapter") or arguments.get("peft"):
        yield f"LoRA({', '.join(dimensions) or PurePath(str(adapter)).name})"
    if "expert" in arguments or "antiexpert" in arguments:
        sides = (PurePath(str(arguments.get(s, "default"))).name for s in ("expert", "antiexpert"))
        alpha = float(arguments.get("proxy_alpha", 1))
        yield f"proxy({' − '.join(sides)}, α {alpha:g})"


def _steering(steering: Mapping[str, Any]) -> Iterable[str]:
    """Yield one part for each vector, with all its layers."""
    made = [str(built.get("dimension")) for built in steering.get("built_from") or ()]
    by_vector: dict[tuple[Any, ...], list[str]] = {}
    for step in steering.get("steps") or ():
        settings = (
            step.get("origin"),
            step.get("alpha"),
            step.get("action"),
            step.get("positions"),
        )
        by_vector.setdefault(settings, []).append(str(step.get("layer")))
    for (origin, alpha, action, positions), layers in by_vector.items():
        only = made[0] if len(set(made)) == 1 else PurePath(str(origin)).stem
        words = [only, f"layer {'+'.join(layers)}", f"α {float(alpha):g}"]
        words.extend(word for word in (action, positions) if word not in ("add", "generated"))
        yield f"v({', '.join(words)})"


def _differing(runs: Sequence[SavedRun]) -> list[str]:
    arguments = [
        {k: v for k, v in arguments_of(run).items() if k not in EXECUTION_ARGUMENTS} for run in runs
    ]
    names = sorted({name for each in arguments for name in each})
    other = [name for name in names if len({str(each.get(name)) for each in arguments}) > 1]
    return [", ".join(f"{name} {each.get(name, '–')}" for name in other) for each in arguments]
