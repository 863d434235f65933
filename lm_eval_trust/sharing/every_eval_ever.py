"""Scores in the schema of Every Eval Ever, the shared database of the EvalEval Coalition.

Follows ``every_eval_ever/schemas/eval.schema.json`` version 0.2.2 of evaleval/every_eval_ever
(commit 21b3d1a, read on 2026-11-28): a record for each model and benchmark, at
``data/BENCHMARK/DEVELOPER/MODEL/UUID.json``. The project's later validator also asks for
``deployment_type`` and ``model_availability``, and for metric ids that name a quantity; records
have both.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.leaderboard.board import Board, Column, Row, Score
from lm_eval_trust.sharing.hub_results import row_slug, scores_of, slug
from lm_eval_trust.steering.hub_names import hub_name

SCHEMA = "0.2.2"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
#: Metrics that are shares from 0 to 1.
_SHARES = ("acc", "acc_norm", "accuracy", "exact_match", "trust_score")
#: Our names of metrics that have a common one.
_COMMON = {"acc": "accuracy", "accuracy": "accuracy", "exact_match": "exact_match"}
_LOCAL = "local"


@dataclass(frozen=True)
class Evaluator:
    """Who evaluated.

    Attributes:
        organization: Name.
        relationship: To the model, one of :data:`RELATIONSHIPS`.

    Raises:
        InputError: Another relationship.
    """

    organization: str
    relationship: str = "other"

    def __post_init__(self) -> None:
        if self.relationship not in RELATIONSHIPS:
            raise unknown_name("relationship", self.relationship, RELATIONSHIPS)


def every_eval_ever(
    boards: Sequence[Board], evaluator: Evaluator, *, now: float | None = None
) -> dict[str, str]:
    """Return name of a file → its JSON; the same scores give the same names.

    Args:
        boards: The scores.
        evaluator: Who evaluated.
        now: Seconds since 1970 at which records are made; by default the present.
    """
    made, found = str(int(time.time() if now is None else now)), {}
    for row, column, score in scores_of(boards):
        record = _record(row, column, score, evaluator, made)
        developer, _, model = record["model_info"]["id"].rpartition("/")
        said = {
            k: v for k, v in record.items() if k not in ("retrieved_timestamp", "evaluation_id")
        }
        name = uuid.uuid5(uuid.NAMESPACE_URL, fingerprint(said))
        path = "/".join(slug(part) for part in (column.task, developer, model))
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        found[f"data/{path}/{name}.json"] = text + "\n"
    return found


def _record(
    row: Row, column: Column, score: Score, evaluator: Evaluator, made: str
) -> dict[str, Any]:
    model = _model(row)
    dates = row.provenance.get("dates") or ()
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{slug(column.task)}/{model['id'].replace('/', '_')}/{made}",
        **({"evaluation_timestamp": str(dates[0])} if dates else {}),
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_name": "lm_eval_trust",
            "source_type": "evaluation_run",
            "source_organization_name": evaluator.organization,
            "evaluator_relationship": evaluator.relationship,
        },
        "eval_library": _library(row),
        "model_info": model,
        "evaluation_results": [_result(row, column, score)],
    }


def _library(row: Row) -> dict[str, Any]:
    release = (row.provenance.get("versions") or {}).get("lm_eval")
    inspect = row.runs[0].results.get("inspect_ai_version") if row.runs else None
    name = "inspect_ai" if inspect else "lm_eval"
    return {
        "name": name,
        "version": str(inspect or release or "unknown"),
        "additional_details": {"lm_eval_trust": version("lm_eval_trust")},
    }


def _model(row: Row) -> dict[str, Any]:
    arguments = row.provenance.get("model_args") or {}
    given = str(arguments.get("pretrained") or arguments.get("model") or row.name)
    known = hub_name(given)
    name = known.repository if known else f"{_LOCAL}/{slug(given.rstrip('/').rpartition('/')[2])}"
    details = {
        "deployment_type": "unknown",
        "model_availability": "unknown",
        "row": row.name,
        "model_args": json.dumps(arguments, sort_keys=True, default=str),
    }
    for key in ("steering", "built_from", "trained_on"):
        if row.provenance.get(key):
            details[key] = json.dumps(row.provenance[key], sort_keys=True, default=str)
    return {
        # A steered model is another model than its base.
        "name": row.name,
        "id": f"{name}--{row_slug(row)}" if "steering" in details else name,
        "developer": name.partition("/")[0],
        "additional_details": details,
    }


def _result(row: Row, column: Column, score: Score) -> dict[str, Any]:
    metric = {
        "metric_id": _COMMON.get(column.metric, f"{slug(column.task)}.{column.metric}"),
        "metric_name": column.metric,
        "lower_is_better": column.higher_is_better is False,
    }
    if column.metric in _SHARES:
        metric |= {"score_type": "continuous", "min_score": 0, "max_score": 1}
    if column.filter != "none":
        metric["additional_details"] = {"filter": column.filter}
    uncertainty: dict[str, Any] = {}
    if score.stderr is not None:
        uncertainty["standard_error"] = {"value": score.stderr}
    if score.items is not None:
        uncertainty["num_samples"] = score.items
    return {
        "evaluation_name": column.task,
        "source_data": _source(row, column, score),
        "metric_config": metric,
        "score_details": {
            "score": score.value,
            **({"uncertainty": uncertainty} if uncertainty else {}),
        },
    }


def _source(row: Row, column: Column, score: Score) -> dict[str, Any]:
    """Return which data a task was evaluated on, as far as its configuration says."""
    configs = (run.results["configs"].get(column.task) for run in row.runs)
    config: Mapping[str, Any] = next((found for found in configs if found), {})
    path, metadata = config.get("dataset_path"), config.get("metadata") or {}
    if isinstance(path, str) and hub_name(path):
        further = {"hf_config": config.get("dataset_name"), "hf_split": config.get("test_split")}
        return {
            "dataset_name": path.rpartition("/")[2],
            "source_type": "hf_dataset",
            "hf_repo": path,
            **{key: str(value) for key, value in further.items() if value},
            **({} if score.items is None else {"samples_number": score.items}),
        }
    mark = metadata.get("data_fingerprint")
    return {
        "dataset_name": str(metadata.get("data_source") or column.task),
        "source_type": "other",
        **({"source_version": str(mark)} if mark else {}),
    }
