"""What a sweep leaves behind: tables, figures, the chosen steering, and what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.cost_figures import CostPanel, Point, cost_curves
from lm_eval_trust.analysis.effects import Effects, effect_bars
from lm_eval_trust.analysis.figures import configuration_heatmap, save_figure, strength_curves
from lm_eval_trust.analysis.statistics import few_groups
from lm_eval_trust.analysis.tables import write_table
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.evaluate.controls import LEAST, AgainstRandom, against_random
from lm_eval_trust.evaluate.evaluator import Outcome
from lm_eval_trust.evaluate.item_effects import item_effects
from lm_eval_trust.evaluate.paired_items import Item, common_items, compare_items, values_of
from lm_eval_trust.steering.hub_names import label
from lm_eval_trust.steering.spec import SteeringSpec, steering_yaml
from lm_eval_trust.sweep.grid import SweepSettings
from lm_eval_trust.sweep.search import Found, Trial, score_of

STEERING_FILE = "steering.yaml"


def write_report(found: Found, settings: SweepSettings, folder: Path) -> pd.DataFrame:
    """Write all tables, figures, examples and the chosen steering.

    Returns:
        The table of all configurations.
    """
    table = table_of(found, settings)
    write_table(table, folder / "sweep")
    write_table(table[table["pareto"]], folder / "pareto")
    metrics = pd.DataFrame(list(_metric_rows(found)))
    write_table(metrics, folder / "metrics")
    _draw(table, settings, folder / "figures")
    _write(folder / "examples.md", _examples(found))
    chosen = found.chosen.configuration if found.chosen else None
    steering = folder / STEERING_FILE
    if chosen is None:
        steering.unlink(missing_ok=True)
        for name in ("test", "effects", "controls"):
            _remove_table(folder / name)
        for file in (folder / "figures").glob("effects.*"):
            file.unlink()
        return table
    comment = "Chosen on the validation part; see sweep.csv and test.csv."
    _write(steering, steering_yaml([chosen], folder, comment=comment))
    tested = [*test_rows(found, settings), *kept_rows(found)]
    write_table(pd.DataFrame(tested), folder / "test")
    effects = list(chosen_effects(found, settings))
    write_table(
        pd.DataFrame([{"task": t, **each.row()} for t, each in effects]), folder / "effects"
    )
    labels = [(f"{task}, {each.category}".rstrip(", "), each) for task, each in effects]
    save_figure(effect_bars(labels), folder / "figures", "effects")
    if found.controls:
        write_table(pd.DataFrame(list(control_rows(found, settings))), folder / "controls")
    else:
        _remove_table(folder / "controls")
    return table


def table_of(found: Found, settings: SweepSettings) -> pd.DataFrame:
    """Return a row for each configuration: its settings, cost and score."""
    return pd.DataFrame(list(_rows(found, settings)))


def _remove_table(path: Path) -> None:
    """Remove what an earlier sweep in the folder wrote, which says nothing of this one."""
    for ending in (".csv", ".parquet"):
        path.with_suffix(ending).unlink(missing_ok=True)


def test_rows(found: Found, settings: SweepSettings) -> Iterator[dict[str, Any]]:
    """Yield unsteered against chosen on the test half, a row per task, with a paired interval."""
    if found.before is None or found.after is None:
        return
    metric = settings.metric
    for task, before in found.before.items.items():
        after = found.after.items[task]
        compared = compare_items(before, after, metric)
        if compared is not None:
            scores = _mean(before, metric), _mean(after, metric)
            yield _test_row(task, metric, len(before), compared, *scores)


def kept_rows(found: Found) -> Iterator[dict[str, Any]]:
    """Yield the same of what is to be kept."""
    if found.kept is None:
        return
    for task, metric in found.unsteered.kept:
        before, after = (outcome.measurements[task] for outcome in found.kept)
        name = before.metric(metric)
        compared = compare_items(before.items, after.items, name)
        if compared is not None:
            scores = before.scores[name], after.scores[name]
            yield _test_row(task, metric, len(before.ids), compared, *scores)


def _test_row(
    task: str, metric: str, items: int, compared: Comparison, unsteered: float, steered: float
) -> dict[str, Any]:
    change = compared.difference
    return {
        "task": task,
        "metric": metric,
        "items": compared.items,
        "without_value": items - compared.items,
        "groups": compared.groups,
        "unsteered": unsteered,
        "steered": steered,
        "change": change.mean,
        "low": change.low,
        "high": change.high,
    }


def _mean(items: Sequence[Item], metric: str) -> float:
    """Return the mean over the items that have a value."""
    values = values_of(items, metric).values()
    return sum(values) / len(values)


def chosen_effects(found: Found, settings: SweepSettings) -> Iterator[tuple[str, Effects]]:
    """Yield each task with the choice's effects on its items of the test half, by category."""
    if found.before is None or found.after is None:
        return
    for task, before in found.before.measurements.items():
        after = found.after.measurements[task]
        if any(common_items(before.items, after.items, settings.metric)):
            for effects in item_effects(before, after, settings.metric):
                yield task, effects


def control_rows(found: Found, settings: SweepSettings) -> Iterator[dict[str, Any]]:
    """Yield what each control arm gives on the test half, a row per task.

    ``change`` is against the unsteered model; ``behind`` is by how much the choice beats the arm,
    paired by item, with its interval. An arm without an item that can be compared has no row.
    """
    assert found.before is not None
    assert found.after is not None
    metric = settings.metric
    for control in found.controls:
        for task, items in control.outcome.items.items():
            change = compare_items(found.before.items[task], items, metric)
            behind = compare_items(items, found.after.items[task], metric)
            if change is None or behind is None:
                continue
            known = len(values_of(items, metric))
            yield {
                "arm": control.arm.name,
                "kind": control.arm.kind,
                "task": task,
                "metric": metric,
                "items": known,
                "without_value": len(items) - known,
                "value": _mean(items, metric),
                "change": change.difference.mean,
                "change_low": change.difference.low,
                "change_high": change.difference.high,
                "behind": behind.difference.mean,
                "behind_low": behind.difference.low,
                "behind_high": behind.difference.high,
                "perplexity": control.perplexity,
                "kl": control.divergence,
            }


def beside_random(found: Found, settings: SweepSettings) -> AgainstRandom | None:
    """Compare the choice with its random directions on the test half.

    Returns:
        ``None`` where the models, or fewer directions than a spread needs, have a score.
    """
    if found.before is None or found.after is None:
        return None

    def score(outcome: Outcome) -> float:
        return score_of(outcome, settings.tasks, settings.metric)

    random = [c.outcome for c in found.controls if c.arm.kind == "random"]
    random = [outcome for outcome in random if math.isfinite(score(outcome))]
    unsteered, chosen = score(found.before), score(found.after)
    if len(random) < LEAST["random"] or not math.isfinite(chosen - unsteered):
        return None
    tried = sum(trial.score is not None for trial in found.trials)
    step = found.before.step([found.after, *random], settings.metric)
    gains = [score(outcome) - unsteered for outcome in random]
    return against_random(chosen - unsteered, gains, tried=tried, step=step)


def _rows(found: Found, settings: SweepSettings) -> Iterator[dict[str, Any]]:
    front = pareto_front(found.trials)
    for trial in found.trials:
        assert trial.configuration is not None
        yield _columns(trial.configuration) | {
            "perplexity": trial.perplexity,
            "times": trial.perplexity / found.unsteered.perplexity,
            "kl": trial.divergence,
            "allowed": trial.allowed,
            "nonfinite": trial.nonfinite,
            "score": trial.score,
            "change": None if trial.score is None else trial.score - (found.unsteered.score or 0.0),
            "ability": trial.ability,
            **{
                f"loss of {task}, {metric}": trial.loss((task, metric), found.unsteered)
                for task, metric in found.unsteered.kept
            },
            "pareto": trial in front,
            "chosen": found.chosen is not None
            and trial.configuration == found.chosen.configuration,
            "tasks": "+".join(settings.tasks),
            "metric": settings.metric,
        }


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the scored trials that no other beats in score without a higher perplexity."""
    scored = [t for t in trials if t.score is not None]
    front: list[Trial] = []
    for trial in sorted(scored, key=lambda t: (t.perplexity, -(t.score or 0.0))):
        if not front or (trial.score or 0.0) > (front[-1].score or 0.0):
            front.append(trial)
    return front


def _metric_rows(found: Found) -> Iterator[dict[str, Any]]:
    """Yield every metric of every task and configuration."""
    for trial in (found.unsteered, *found.trials):
        if trial.outcome is None:
            continue
        configuration = trial.configuration or _nothing(found)
        for task, scores in trial.outcome.scores.items():
            for name, value in scores.items():
                metric = name.split(",")[0]
                error = scores.get(name.replace(metric, f"{metric}_stderr", 1))
                if isinstance(value, (int, float)) and "," in name and "_stderr" not in name:
                    yield _columns(configuration) | {
                        "task": task,
                        "metric": metric,
                        "value": value,
                        "stderr": error if isinstance(error, (int, float)) else None,
                        "items": len(trial.outcome.items.get(task, ())) or None,
                    }


def _columns(spec: SteeringSpec) -> dict[str, Any]:
    return {
        "vector": label(str(spec.vector)),
        "layer": spec.layer_text,
        "alpha": spec.alpha,
        "positions": spec.positions,
        "action": spec.action,
        "scale": spec.scale,
    }


def _nothing(found: Found) -> SteeringSpec:
    first = found.trials[0].configuration
    assert first is not None
    return first.at(0.0)


def _examples(found: Found) -> str:
    """Return how answers of a few prompts change with a rising α (arXiv 2402.19465, Table 4)."""
    shown = found.answers
    of = shown[-1].configuration
    assert of is not None
    lines = ["# Answers at rising strength", ""]
    lines += [f"{label(str(of.vector))}, layer {of.layer_text}, {of.positions}.", ""]
    outcomes = [trial.outcome for trial in shown if trial.outcome is not None]
    for task, examples in outcomes[0].examples.items():
        for number, example in enumerate(examples):
            lines += [f"## {task}", "", _quoted(example["prompt"]), ""]
            lines += ["| α | perplexity | answer |", "|---:|---:|---|"]
            for trial, outcome in zip(shown, outcomes, strict=True):
                answer = _cell(outcome.examples[task][number]["answer"])
                lines.append(f"| {_strength(trial):g} | {trial.perplexity:.2f} | {answer} |")
            lines.append("")
    return "\n".join(lines)


def _strength(trial: Trial) -> float:
    return trial.configuration.alpha if trial.configuration else 0.0


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text[-600:].splitlines())


def _cell(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("|", "\\|") or "(empty)"


def _draw(table: pd.DataFrame, settings: SweepSettings, folder: Path) -> None:
    scored = table.dropna(subset=["score"])
    if scored.empty:
        return
    label = settings.metric.replace("_", " ")
    save_figure(configuration_heatmap(scored, "score", label=label), folder, "heatmap")
    curves = [
        {
            "vector": f"{row['vector']}, layer {row['layer']}, {row['positions']}",
            "alpha": row["alpha"],
            "metric": label,
            "value": row["score"],
            "perplexity": row["perplexity"],
        }
        for row in scored.to_dict("records")
    ]
    save_figure(strength_curves(curves), folder, "strength")
    save_figure(cost_curves(list(_cost_panels(scored, label))), folder, "cost")


def _cost_panels(scored: pd.DataFrame, label: str) -> Iterator[CostPanel]:
    """Yield score against KL, a panel for each vector and kind of positions."""
    for (vector, positions), rows in scored.groupby(["vector", "positions"], sort=False):
        lines = {
            f"layer {layer}": [
                Point(row["kl"], row["score"]) for row in of_layer.to_dict("records")
            ]
            for layer, of_layer in rows.groupby("layer", sort=False)
        }
        unsteered = float((rows["score"] - rows["change"]).iloc[0])
        yield CostPanel(f"{vector}, {positions}", label, lines, {"unsteered": unsteered})


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def summary(found: Found, settings: SweepSettings) -> list[str]:
    """Return what the sweep found, in lines for the terminal."""
    tried = sum(trial.score is not None for trial in found.trials)
    lines = [
        f"{len(found.trials)} configurations, {sum(t.allowed for t in found.trials)} within the "
        f"limits, {tried} scored; unsteered: score {found.unsteered.score:.3f}, perplexity "
        f"{found.unsteered.perplexity:.2f} (validation part)."
    ]
    if found.chosen is None or found.chosen.configuration is None:
        return [*lines, "None within the limits scores higher than the unsteered model."]
    of = found.chosen.configuration
    lines.append(
        f"Chosen: {label(str(of.vector))}, layer {of.layer_text}, α = {of.alpha:g}, "
        f"{of.positions}: score {found.chosen.score:.3f}, perplexity {found.chosen.perplexity:.2f}."
    )
    tested = {row["task"]: row for row in test_rows(found, settings)}
    for row in tested.values():
        few = few_groups(row["groups"])
        lines.append(
            f"Test half, {row['task']}: {row['unsteered']:.3f} → {row['steered']:.3f}, change "
            f"{row['change']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {_items(row)}"
            f"{few and '; '}{few}."
        )
    lines += [
        f"Test half, {task}: no item has a value of {settings.metric} from both models, so there "
        f"is nothing to compare."
        for task in (found.before.items if found.before else ())
        if task not in tested
    ]
    for row in kept_rows(found):
        lines.append(
            f"Kept, {row['task']}: {row['metric']} {row['unsteered']:.3f} → {row['steered']:.3f}, "
            f"change {row['change']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {_items(row)}."
        )
    for task, effects in chosen_effects(found, settings):
        if not effects.category:
            lines.append(f"On {task} it {effects.sentence}.")
    return [*lines, *_control_lines(found, settings)]


def _items(row: dict[str, Any]) -> str:
    """Return how many items a change is of, in words."""
    whole = row["items"] + row["without_value"]
    if whole == row["items"]:
        return f"{whole} items"
    return f"{row['items']} of {whole} items (the others lack a value)"


def _control_lines(found: Found, settings: SweepSettings) -> Iterator[str]:
    for row in control_rows(found, settings) if found.controls else ():
        if row["kind"] != "random":
            yield (
                f"Control {row['arm']}, {row['task']}: {row['value']:.3f}; the choice is ahead by "
                f"{row['behind']:+.3f} [{row['behind_low']:+.3f}, {row['behind_high']:+.3f}]."
            )
    beside = beside_random(found, settings)
    if beside is None:
        return
    yield f"It {beside.sentence}."
    if not beside.is_more:
        yield "So it is not shown to do more than a random direction of the same length does."
