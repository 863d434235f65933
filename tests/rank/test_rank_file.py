"""A ranking's file: what is refused before a model is loaded, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.conformance import random_vector

from lm_eval_trust.cli import main
from lm_eval_trust.rank.budget import configurations
from lm_eval_trust.rank.spec import read_rank_file
from lm_eval_trust.steering.methods import METHODS

WHOLE = """\
model_args: {pretrained: mini-chat, dtype: float32}
source: mini
layers: 0-2
costs: [0.2, 0.05]
dimensions:
  truthfulness:
    dimension: truthfulqa
    data_source: mini
    tasks: [trust_truthfulqa_mc2_mini]
    metric: acc
    prompt: Be honest.
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a ranking's file."""

    def build(text: str) -> Path:
        path = tmp_path / "rank.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return build


def test_a_file_is_read_with_its_defaults(write: Write) -> None:
    spec = read_rank_file(write(WHOLE))
    assert spec.methods == tuple(METHODS)
    assert spec.layers == ((0,), (1,), (2,))
    assert spec.costs == (0.05, 0.2)
    assert spec.text_task == "trust_world_text_mini"
    assert (spec.scale, spec.positions, spec.actions) == ("relative", "generated", ("add",))
    joint = read_rank_file(write(WHOLE.replace("0-2", "[0, 1+2]")))
    assert joint.layers == ((0,), (1, 2))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layers: 0-2\n", "", "layers: this key is missing"),
        ("layers: 0-2", "layers: [0, 0]", "names a block twice"),
        ("layers: 0-2", "layers: x", "layer"),
        ("layers: 0-2", "layers: true", "names no decoder blocks"),
        ("layers: 0-2", "layers:", "there is no value"),
        ("layers: 0-2", "layers: 0-2\nlayer: 3", "Did you mean 'layers'?"),
        ("[0.2, 0.05]", "[0.2, 0]", "nats per token above 0"),
        ("[0.2, 0.05]", "[]", "nats per token above 0"),
        ("[0.2, 0.05]", "[0.1, 0.1]", "named twice"),
        ("[0.2, 0.05]", "[.nan]", "finite"),
        ("source: mini\n", "", "source: MODEL"),
        ("source: mini", "source: mini\nmethods: [mean]", "Unknown method 'mean'"),
        ("source: mini", "source: mini\nmethods: [pca, pca]", "names one twice"),
        ("source: mini", "source: mini\nmethods: .inf", "is no name of a"),
        ("source: mini", "source: mini\nmethods: [{a: b}]", "is no name of a"),
        ("source: mini", "source: mini\nmethods: []", "no method and no vector"),
        ("source: mini", "source: mini\nactions: []", "actions is empty"),
        ("source: mini", "source: mini\nactions: [push]", "Unknown steering action 'push'"),
        ("source: mini", "source: mini\nscale: length", "Unknown scale 'length'"),
        ("source: mini", "source: mini\ntolerance: 0", "tolerance"),
        ("source: mini", "source: mini\nalpha_limit: -1", "alpha_limit"),
        ("source: mini", "source: mini\nlimit: 0", "limit"),
        ("source: mini", "source: mini\nmodel: hf", "model"),
        ("source: mini", "source: mini\ncontrols: {random: 2}", "at least 3 random directions"),
        ("source: mini", "source: mini\ncontrols: {prompt: a}", "unknown key"),
        ("source: mini", "source: mini\ntext: {task: trust_nothing}", "Unknown task"),
        ("source: mini", "source: mini\ntext: {tokens: 2}", "tokens"),
        ("dimension: truthfulqa", "dimension: truthfulness", "Unknown dimension"),
        ("    dimension: truthfulqa\n", "", "neither a dimension"),
        ("data_source: mini", "data_source: minis", "Unknown data source 'minis'"),
        ("[trust_truthfulqa_mc2_mini]", "[]", "tasks"),
        ("[trust_truthfulqa_mc2_mini]", "[trust_truthfulqa_mc3_mini]", "Unknown task"),
        ("metric: acc", "metric: accuracy", "Unknown metric"),
        ("Be honest.", "' '", "prompt is empty"),
        ("Be honest.", "3", "prompt"),
        ("metric: acc", "metric: acc\n    vectors: {mine: v.pt}", "there is no vector file"),
        ("metric: acc", "metric: acc\n    vectors: {pca: v.pt}", "name of a method too"),
        ("metric: acc", "metric: acc\n    vectors: {a/b: v.pt}", "letters, digits"),
        ("metric: acc", "metric: acc\n    vectors: {random: v.pt}", "that of a control"),
        ("  truthfulness:", "  ../truthfulness:", "letters, digits"),
        ("dimensions:", "dimensions: {}\nmetadata:", "dimensions"),
        (WHOLE, "- a list\n", "holds no mapping"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(
    old: str, new: str, message: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in WHOLE
    path = write(WHOLE.replace(old, new, 1))
    assert main(["rank", str(path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "rank.yaml" in error
    assert len(error) < 900


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metric: acc", "metric: acc_std", "Unknown metric"),
        ("trust_truthfulqa_mc2_mini", "trust_world_text_mini", "Unknown metric"),
        ("metric: acc", "metric: f1", "Unknown metric"),
        (
            "[trust_truthfulqa_mc2_mini]\n    metric: acc",
            "[trust_toxigen_mini]\n    metric: toxic_ratio",
            "toxic_ratio of trust_toxigen_mini is not a metric of which more is better",
        ),
        (
            "[trust_truthfulqa_mc2_mini]\n    metric: acc\n    prompt: Be honest.",
            "[trust_world_choice_mini]\n    metric: acc",
            "has no prompt of its own",
        ),
    ],
)
def test_metrics_and_prompts_that_tasks_lack_are_refused_before_a_model_is_loaded(
    old: str,
    new: str,
    message: str,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("lm_eval_trust.rank.run.shared_passes", None)
    monkeypatch.setattr("lm_eval_trust.rank.run.panel_of", None)
    path = write(WHOLE.replace(old, new, 1))
    assert main(["rank", str(path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_folder_and_a_foreign_one_are_refused(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(WHOLE)
    assert main(["rank", str(path)]) == 2
    assert "--out FOLDER is missing" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert main(["rank", str(path), "--out", str(tmp_path / "mine")]) == 2
    assert "holds thesis.txt and is not a ranking's folder" in capsys.readouterr().err
    for hours in ("0", "-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit):
            main(["rank", str(path), "--budget-hours", hours])
        assert "no number of hours above 0" in capsys.readouterr().err


def test_a_dry_run_counts_and_holds_the_count_against_the_limit(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "methods: [mass_mean, pca, logistic]"
    vectors = "    vectors: {mine: mine.safetensors}"
    path = write(f"{WHOLE}{vectors}\n{methods}\ncontrols: {{random: 4}}\n")
    random_vector(32, (0, 1, 2), norm=1.0, seed=0).save(path.parent / "mine.safetensors")
    one = configurations(read_rank_file(path))["truthfulness"]
    # Three methods and a vector, four random directions; three layers, two costs.
    assert one.validation == 8 * 3 * 2
    # −α and shuffled labels of each; the unsteered model, and the prompt.
    assert one.test == (8 + 4 * 2) * 2 + 2
    assert main(["rank", str(path), "--dry-run"]) == 0
    assert f"{one.validation} configurations" in capsys.readouterr().out
    most = str(one.total - 1)
    assert main(["rank", str(path), "--dry-run", "--max-configurations", most]) == 2
    assert "--max-configurations allows" in capsys.readouterr().err
