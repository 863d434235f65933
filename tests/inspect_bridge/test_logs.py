from __future__ import annotations

import builtins
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.inspect_tasks import harbour, lamps

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.inspect_logs import read_log
from lm_eval_trust.gate.check_file import read_check
from lm_eval_trust.gate.run import plan, run_check, update_baseline
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.reading import read_runs

Logged = Callable[..., Path]
GOOD = ["Orla does", "salt and eels", "the Venn", "at noon"]
HALF = ["Orla does", "sand", "the Venn", "at dawn"]


def test_scores_samples_and_standard_error(logged: Logged) -> None:
    run = read_log(logged(lamps(), HALF))
    assert run.tasks == ["lamps"]
    figures = run.results["results"]["lamps"]
    assert figures["accuracy,none"] == 0.5
    # Of the mean of four values, two of them 1, as inspect_ai computes it.
    assert math.isclose(figures["accuracy_stderr,none"], math.sqrt(1 / 3 / 4), rel_tol=1e-9)
    samples = run.samples("lamps")
    assert sorted(sample["accuracy"] for sample in samples) == [0, 0, 1, 1]
    by_id = {sample["doc"]["id"]: sample for sample in samples}
    assert by_id["q1"]["resps"] == [["sand"]]
    assert by_id["q1"]["target"] == "salt"
    assert run.results["n-samples"]["lamps"] == {"original": 4, "effective": 4}


def test_two_logs_are_compared_item_by_item(logged: Logged, tmp_path: Path) -> None:
    logged(lamps(), GOOD)
    logged(lamps(), HALF, temperature=0.5)
    samples = Samples()
    runs, _ = read_runs([tmp_path / "logs"], samples)
    (board,) = build_boards(runs, samples=samples)
    (column,) = board.columns
    assert column.title == "lamps"
    assert sorted(row.scores[column.key].value for row in board.rows) == [0.5, 1.0]
    assert abs(board.pairs[0].comparison.difference.mean) == 0.5
    assert board.pairs[0].comparison.items == 4


def test_the_command_line(logged: Logged, tmp_path: Path) -> None:
    log = logged(lamps(), GOOD)
    out = tmp_path / "board"
    assert main(["leaderboard", str(log), "--out", str(out), "--format", "json", "html"]) == 0
    board = json.loads((out / "leaderboard.json").read_text())
    assert "lampman" in json.dumps(board)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "settings", "reason"),
    [
        (lamps(strict=True), {}, "scorers"),
        (lamps(), {"epochs": 2}, "epochs"),
        (lamps(), {"limit": 3}, "number of samples 3"),
    ],
)
def test_what_does_not_compare_is_kept_apart(
    logged: Logged, tmp_path: Path, other: Any, settings: dict[str, Any], reason: str
) -> None:
    logged(lamps(), GOOD)
    logged(other, HALF * settings.get("epochs", 1), temperature=0.5, **settings)
    samples = Samples()
    runs, _ = read_runs([tmp_path / "logs"], samples)
    boards = build_boards(runs, samples=samples)
    assert len(boards) == 2
    assert reason in boards[0].kept_apart[0]


def test_epochs_count_once(logged: Logged) -> None:
    # Four questions twice: each answered well in one of the two epochs.
    log = logged(lamps(), [*GOOD, "", "", "", ""], epochs=2)
    run = read_log(log)
    samples = run.samples("lamps")
    assert len(samples) == 4
    assert sum(sample["accuracy"] for sample in samples) / 4 == 0.5
    assert run.results["results"]["lamps"]["accuracy,none"] == 0.5


def test_choices_and_numbers_of_samples(logged: Logged) -> None:
    run = read_log(logged(harbour(), ["ANSWER: A", "ANSWER: B"]))
    first, second = run.samples("harbour")
    assert (first["doc_id"], second["doc_id"]) == (0, 1)
    assert (first["accuracy"], second["accuracy"]) == (1.0, 0.0)
    assert first["doc"]["choices"] == ["eel", "oak"]


@pytest.mark.slow
def test_a_second_log_of_one_model_with_other_scores_is_refused(
    logged: Logged, tmp_path: Path
) -> None:
    from inspect_ai.log import read_eval_log, write_eval_log

    for path in (logged(lamps(), GOOD), logged(lamps(), HALF)):
        log = read_eval_log(str(path))
        log.eval.model_args = {}
        write_eval_log(log, str(path))
    runs, _ = read_runs([tmp_path / "logs"], Samples())
    with pytest.raises(InputError, match=r"accuracy 1 in the one and 0\.5 in the other"):
        build_boards(runs)


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("not a log")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("header.json", "{}")


@pytest.mark.parametrize("how", ["short", "text", "empty", "other zip"])
def test_damaged_logs_are_refused(logged: Logged, how: str) -> None:
    path = logged(lamps(), GOOD)
    damaged(path, how)
    with pytest.raises(InputError, match="is not a whole log of inspect_ai"):
        read_log(path)
    with pytest.raises(InputError, match="--skip-damaged"):
        read_runs([path], Samples())


def test_a_changed_score_is_noticed(logged: Logged) -> None:
    from inspect_ai.log import read_eval_log, write_eval_log

    path = logged(lamps(), HALF)
    log = read_eval_log(str(path))
    assert log.results is not None
    log.results.scores[0].metrics["accuracy"].value = 0.9
    write_eval_log(log, str(path))
    with pytest.raises(InputError, match=r"accuracy 0\.9 .* its samples give 0\.5"):
        read_runs([path], Samples())


@pytest.mark.slow
def test_an_evaluation_that_did_not_end_is_refused(logged: Logged) -> None:
    with pytest.raises(InputError, match=r"it has no scores.*inspect score"):
        read_log(logged(lamps(), GOOD, score=False))
    with pytest.raises(InputError, match="holds no samples"):
        read_log(logged(lamps(), GOOD, log_samples=False))
    with pytest.raises(InputError, match="its status is 'error'"):
        read_log(logged(lamps(), GOOD[:2]))


def test_without_inspect_ai(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = logged(lamps(), GOOD), builtins.__import__

    def missing(name: str, *given: Any, **further: Any) -> Any:
        if name.startswith("inspect_ai"):
            raise ImportError(name)
        return real(name, *given, **further)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"pip install 'lm_eval_trust\[inspect\]'"):
        read_log(path)


@pytest.fixture
def check(logged: Logged, tmp_path: Path) -> Callable[..., Path]:
    def write(answers: list[str], **rule: Any) -> Path:
        steered, reference = logged(lamps(), answers, temperature=0.5), logged(lamps(), HALF)
        content = {
            "log": str(steered.relative_to(tmp_path)),
            "reference": {"log": str(reference.relative_to(tmp_path))},
            "rules": {"lamps": {"accuracy": rule}},
        }
        path = tmp_path / "check.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.mark.slow
def test_a_gate_on_logs(check: Callable[..., Path]) -> None:
    path = check(GOOD, min=0.9, max_drop=0.1)
    result = run_check(read_check(path))
    held, compared = result.verdicts
    assert held.value == 1.0
    assert (compared.value, compared.reference, compared.items) == (1.0, 0.5, 4)
    assert compared.change is not None
    assert compared.change.mean == 0.5
    assert main(["check", str(path), "--validate"]) == 0
    assert list(plan(read_check(path)))[1] == "  lamps: 4 items, with its reference"


@pytest.mark.slow
def test_a_baseline_from_a_log(check: Callable[..., Path], logged: Logged, tmp_path: Path) -> None:
    path = check(GOOD, max_drop=0.1, against="baseline")
    assert update_baseline(read_check(path))
    worse = logged(lamps(), ["", "", "", ""], temperature=0.5)
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"log": str(worse.relative_to(tmp_path))}))
    result = run_check(read_check(path))
    assert result.verdicts[0].change is not None
    assert result.verdicts[0].change.mean == -1.0
    assert result.verdicts[0].reference == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"log": "gone.eval"}, "there is no log"),
        ({"rules": {"lanterns": {"accuracy": {"min": 0.1}}}}, "Did you mean|similar|lamps"),
        ({"rules": {"lamps": {"acuracy": {"min": 0.1}}}}, "Did you mean 'accuracy'"),
        ({"rules": {"lamps": {"accuracy": {"beats": {"random": 8}}}}}, "control arms"),
        ({"reference": None}, "name its log"),
        ({"steering": [{"vector": "v", "layer": 1}]}, "belongs to a model that is run"),
        ({"limit": 3}, "belongs to a model that is run"),
    ],
)
def test_checks_of_logs_that_are_wrong(
    check: Callable[..., Path], changed: dict[str, Any], said: str
) -> None:
    path = check(GOOD, max_drop=0.1)
    content = yaml.safe_load(path.read_text()) | changed
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    with pytest.raises(InputError, match=said) as raised:
        run_check(read_check(path))
    assert "check.yaml" in str(raised.value)


@pytest.mark.slow
def test_logs_of_other_items_are_not_compared(
    check: Callable[..., Path], logged: Logged, tmp_path: Path
) -> None:
    path = check(GOOD, max_drop=0.1)
    other = logged(lamps(), GOOD, limit=2, temperature=0.1)
    content = yaml.safe_load(path.read_text())
    content["reference"] = {"log": str(other.relative_to(tmp_path))}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="data_fingerprint"):
        run_check(read_check(path))


def test_a_reference_log_needs_a_log(check: Callable[..., Path]) -> None:
    path = check(GOOD, max_drop=0.1)
    content = yaml.safe_load(path.read_text())
    del content["log"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="a log compares with a log"):
        run_check(read_check(path))
