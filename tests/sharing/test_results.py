from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from jsonschema import Draft7Validator
from support.boards import DATE, planted_sample

from lm_eval_trust.cli import main
from lm_eval_trust.core.saved_runs import write_run

STEP = {
    "layer": 3,
    "alpha": 2.0,
    "action": "add",
    "positions": "generated",
    "vector": "ab",
    "origin": "velmi/honest@c0ffee:honest.safetensors",
}
#: What Every Eval Ever's schema 0.2.2 demands of the parts that we write, in our words: required
#: keys, types, choices, and that texts alone go into details.
_DETAILS = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}


def _object(required: str, *, closed: bool = False, **properties: Any) -> dict[str, Any]:
    found = {"type": "object", "required": required.split(), "properties": properties}
    return found | ({"additionalProperties": False} if closed else {})


_METRIC = _object(
    "lower_is_better",
    metric_id=_TEXT,
    lower_is_better={"type": "boolean"},
    score_type={"enum": ["binary", "continuous", "levels"]},
    min_score=_NUMBER,
    max_score=_NUMBER,
    additional_details=_DETAILS,
) | {
    "if": {"required": ["score_type"], "properties": {"score_type": {"const": "continuous"}}},
    "then": {"required": ["min_score", "max_score"]},
}
_SOURCES = [
    _object("dataset_name source_type url", source_type={"const": "url"}),
    _object(
        "dataset_name source_type hf_repo",
        source_type={"const": "hf_dataset"},
        hf_config=_TEXT,
        hf_split=_TEXT,
        samples_number={"type": "integer"},
    ),
    _object("dataset_name source_type", source_type={"const": "other"}, source_version=_TEXT),
]
_RESULT = _object(
    "evaluation_name source_data metric_config score_details",
    source_data={"oneOf": _SOURCES},
    metric_config=_METRIC,
    score_details=_object(
        "score",
        score=_NUMBER,
        uncertainty=_object(
            "", standard_error=_object("value", value=_NUMBER), num_samples={"type": "integer"}
        ),
    ),
)
SCHEMA = _object(
    "schema_version evaluation_id retrieved_timestamp source_metadata model_info eval_library "
    "evaluation_results",
    closed=True,
    schema_version={"const": "0.2.2"},
    evaluation_id=_TEXT,
    evaluation_timestamp=_TEXT,
    retrieved_timestamp=_TEXT,
    source_metadata=_object(
        "source_type source_organization_name evaluator_relationship",
        source_type={"enum": ["documentation", "evaluation_run"]},
        evaluator_relationship={"enum": ["first_party", "third_party", "collaborative", "other"]},
    ),
    eval_library=_object("name version", name=_TEXT, version=_TEXT, additional_details=_DETAILS),
    model_info=_object("name id", name=_TEXT, id=_TEXT, additional_details=_DETAILS),
    evaluation_results={"type": "array", "items": _RESULT},
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A plain and a steered run of one task of the Hub and one of ours."""
    folder = tmp_path / "runs"
    for name, steps, right in (("plain", [], 2), ("steered", [STEP], 3)):
        samples = {
            "arc_easy": [planted_sample(i, "acc", "x", float(i < right)) for i in range(4)],
            "trust_truthfulqa": [planted_sample(i, "truth", "x", 1.0) for i in range(4)],
        }
        results = {
            "results": {
                "arc_easy": {"acc,none": right / 4, "acc_stderr,none": 0.25},
                "trust_truthfulqa": {"truth,none": 1.0},
            },
            "configs": {
                "arc_easy": {
                    "dataset_path": "allenai/ai2_arc",
                    "dataset_name": "ARC-Easy",
                    "test_split": "test",
                },
                "trust_truthfulqa": {
                    "metadata": {"data_fingerprint": "f1", "data_source": "official"}
                },
            },
            "n-samples": {t: {"original": 4, "effective": 4} for t in samples},
            "config": {
                "model": "amber",
                "model_args": "pretrained=velmi/tides",
                "steering": {"steps": steps, "fingerprint": name},
            },
            "lm_eval_version": "0.4.13",
            "date": 1767323045.0,
        }
        write_run(folder / name, DATE, results, samples)
    return folder


def exported(runs: Path, out: Path, *options: str) -> dict[str, str]:
    assert main(["export-results", str(runs), "--out", str(out), *options]) == 0
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_text() for path in files}


def test_eval_results_are_what_the_hub_reads(runs: Path, tmp_path: Path) -> None:
    files = exported(
        runs,
        tmp_path / "out",
        *("--format", "eval_results", "--benchmark", "arc_easy=allenai/ai2_arc:arc_easy"),
        *("--source-url", "https://example.org/logs", "--source-name", "Logs"),
    )
    assert len(files) == 2
    assert all("/.eval_results/arc_easy.yaml" in name for name in files)
    entries = [parse_eval_result_entries(yaml.safe_load(text))[0] for text in files.values()]
    assert sorted(entry.value for entry in entries) == [0.5, 0.75]
    for entry in entries:
        assert (entry.dataset_id, entry.task_id) == ("allenai/ai2_arc", "arc_easy")
        assert entry.dataset_revision is None
        assert (entry.source_url, entry.source_name) == ("https://example.org/logs", "Logs")
        assert entry.date is not None
        assert entry.date.startswith("2026-01-02T03:04:05")
        assert "acc by lm_eval_trust; 4 items; standard error 0.25" in str(entry.notes)
    steered = next(entry for entry in entries if entry.value == 0.75)
    assert "steered by velmi/honest@c0ffee:honest.safetensors" in str(steered.notes)


def test_a_benchmarks_revision(runs: Path, tmp_path: Path) -> None:
    files = exported(
        runs,
        tmp_path / "out",
        *("--format", "eval_results", "--benchmark", "arc_easy=allenai/ai2_arc@c0ffee:easy"),
    )
    entry = yaml.safe_load(next(iter(files.values())))[0]
    assert entry["dataset"] == {
        "id": "allenai/ai2_arc",
        "task_id": "easy",
        "revision": "c0ffee",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "eval_results"), "Tasks here: arc_easy, trust_truthfulqa"),
        (("--format", "eval_results", "--benchmark", "arc_easy=ai2"), "TASK=owner/name:task_id"),
        (("--format", "eval_results", "--benchmark", "arc=a/b:c"), "Unknown task 'arc'"),
        (("--format", "eval_results", "--source-name", "x"), "needs --source-url"),
        (("--format", "every_eval_ever"), "--organization"),
        (
            ("--format", "every_eval_ever", "--organization", "Velmi", "--relationship", "friend"),
            "Unknown relationship 'friend'",
        ),
    ],
)
def test_what_is_missing_is_said(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert main(["export-results", str(runs), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_eval_evers_schema_is_kept(runs: Path, tmp_path: Path) -> None:
    options = ("--format", "every_eval_ever", "--organization", "Velmi")
    files = exported(runs, tmp_path / "out", *options)
    assert len(files) == 4
    for name, text in files.items():
        record = json.loads(text)
        assert list(Draft7Validator(SCHEMA).iter_errors(record)) == []
        result = record["evaluation_results"][0]
        top, benchmark, developer, model, _ = name.split("/")
        assert (top, benchmark, developer) == ("data", result["evaluation_name"], "velmi")
        assert record["model_info"]["id"] == f"velmi/{model}"
    plain = [json.loads(t) for n, t in files.items() if n.startswith("data/arc_easy/velmi/tides/")]
    assert len(plain) == 1
    (result,) = plain[0]["evaluation_results"]
    assert result["source_data"] == {
        "dataset_name": "ai2_arc",
        "source_type": "hf_dataset",
        "hf_repo": "allenai/ai2_arc",
        "hf_config": "ARC-Easy",
        "hf_split": "test",
        "samples_number": 4,
    }
    assert result["metric_config"]["metric_id"] == "accuracy"
    assert result["score_details"] == {
        "score": 0.5,
        "uncertainty": {"standard_error": {"value": 0.25}, "num_samples": 4},
    }
    ours = next(json.loads(t) for n, t in files.items() if n.startswith("data/trust_truthfulqa/"))
    (result,) = ours["evaluation_results"]
    assert result["source_data"]["source_version"] == "f1"
    assert result["metric_config"]["metric_id"] == "trust_truthfulqa.truth"


def test_a_steered_model_is_another_model(runs: Path, tmp_path: Path) -> None:
    options = ("--format", "every_eval_ever", "--organization", "Velmi")
    records = [json.loads(text) for text in exported(runs, tmp_path / "out", *options).values()]
    steered = [r for r in records if "steering" in r["model_info"]["additional_details"]]
    assert len(steered) == 2
    for record in steered:
        assert record["model_info"]["id"].startswith("velmi/tides--")
        steps = json.loads(record["model_info"]["additional_details"]["steering"])
        assert steps[0]["origin"] == STEP["origin"]


def test_the_same_scores_give_the_same_files(runs: Path, tmp_path: Path) -> None:
    options = ("--format", "every_eval_ever", "--organization", "Velmi")
    first = exported(runs, tmp_path / "first", *options)
    assert sorted(exported(runs, tmp_path / "second", *options)) == sorted(first)
