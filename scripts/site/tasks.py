"""Tables of tasks and metrics, read from the tasks' YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layout import ROOT
from lm_eval.tasks._yaml_loader import load_yaml

_HEAD = (
    "| task | tag | the model | shots | metrics (aggregation, if not the mean) |",
    "|---|---|---|---:|---|",
)
_KINDS = {
    "generate_until": "generates",
    "multiple_choice": "compares log-likelihoods",
    "loglikelihood": "scores a continuation",
    "loglikelihood_rolling": "scores a text",
}


def table(folder: str) -> str:
    """Return the table of the tasks whose YAML files lie in a folder of ``tasks/``."""
    rows = [_row(task) for task in read_tasks(ROOT / "tasks" / folder)]
    return "\n".join([*_HEAD, *rows])


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """Return the settings of a folder's tasks, included files and all, sorted by name."""
    files = (path for path in folder.rglob("*.yaml") if not path.name.startswith("_"))
    settings = (load_yaml(path, resolve_func=False, recursive=True) for path in files)
    return sorted(
        (s for s in settings if "task" in s and "group" not in s), key=lambda s: s["task"]
    )


def _row(task: dict[str, Any]) -> str:
    return (
        f"| `{task['task']}` | {_code(task.get('tag'))} | {_what(task)} "
        f"| {_shots(task)} | {', '.join(map(_metric, task['metric_list']))}{_breakdown(task)} |"
    )


def _what(task: dict[str, Any]) -> str:
    kind = _KINDS[task["output_type"]]
    tokens = (task.get("generation_kwargs") or {}).get("max_gen_toks")
    return f"{kind} up to {tokens} tokens" if tokens else kind


def _shots(task: dict[str, Any]) -> str:
    """Return the number of examples, those that a prompt holds itself included."""
    written = str(task["doc_to_text"]).count("\nA: ")
    return str(written or task.get("num_fewshot") or 0)


def _metric(metric: dict[str, Any]) -> str:
    arrow = "↑" if metric.get("higher_is_better", True) else "↓"
    aggregation = str(metric.get("aggregation", "")).rsplit(".", 1)[-1]
    return f"`{metric['metric']}` {arrow}" + (
        f" ({aggregation})" if aggregation not in ("", "mean", metric["metric"]) else ""
    )


def _breakdown(task: dict[str, Any]) -> str:
    breakdown = (task.get("dataset_kwargs") or {}).get("breakdown")
    if not breakdown:
        return ""
    return f"; `{breakdown['metric']}` by {breakdown.get('by', 'category').replace('_', ' ')}"


def _code(names: str | list[str] | None) -> str:
    names = [names] if isinstance(names, str) else names or []
    return ", ".join(f"`{name}`" for name in names)
