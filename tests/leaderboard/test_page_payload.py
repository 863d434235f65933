"""What the page embeds: texts of samples, chunks, tables of sweeps and checkpoints."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.boards import (
    TRUTH,
    embedded,
    planted_board,
    planted_row,
    planted_run,
    write_measurements,
)

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.page import write_page
from lm_eval_trust.leaderboard.page.payload import analysis_payload, board_payload, sweep_payload
from lm_eval_trust.leaderboard.page.samples import (
    CHUNK,
    Chunks,
    SampleSets,
    answer_of,
    prompt_of,
    read_as,
)
from lm_eval_trust.leaderboard.page.write import SCRIPTS


def board(folder: Path) -> Board:
    def answer(name: str) -> Any:
        return lambda task, item: (f"{name} {item}", float(item % 2 == len(name) % 2))

    rows = [planted_row(name, planted_run(folder / name, answer(name))) for name in ("a", "bb")]
    return planted_board(rows)


@pytest.mark.parametrize(
    ("sample", "prompt", "answer", "read"),
    [
        # Generated text, as this harness saves it, and as older ones did.
        (
            {"arguments": {"g": {"arg_0": "P", "arg_1": {}}}, "resps": [["A "]]},
            "P",
            "A ",
            "",
        ),
        ({"arguments": [["P", {}]], "resps": [["A"]], "filtered_resps": ["1"]}, "P", "A", "1"),
        # A judge's record, printed by the harness; and an answer that only looks like one.
        (
            {
                "arguments": [["P", {}]],
                "resps": [["A"]],
                "filtered_resps": ["{'answer': 'A', 'truth': True, 'score': 0.25, 'judge': 'x'}"],
            },
            "P",
            "A",
            "truth yes, score 0.25",
        ),
        (
            {"arguments": [["P", {}]], "resps": [["{'a"]], "filtered_resps": ["{'a"]},
            "P",
            "{'a",
            "",
        ),
        # Choices: the likeliest is marked.
        (
            {
                "arguments": [["P", " no"], ["P", " yes"]],
                "resps": [[["-2.5", "False"]], [["-1.25", "True"]]],
                "filtered_resps": [["-2.5", "False"], ["-1.25", "True"]],
            },
            "P",
            "  no  -2.500\n▸ yes  -1.250",
            "",
        ),
        (
            {"arguments": [["P", " word"]], "resps": [[["-3", "False"]]]},
            "P",
            "word\nlog-likelihood -3.000",
            "",
        ),
        # The log-likelihood of a whole text has one argument and stands alone.
        (
            {"arguments": {"g": {"arg_0": "T"}}, "resps": [["-141.12686157226562"]]},
            "T",
            "log-likelihood -141.127",
            "",
        ),
        ({"arguments": [["T"]], "resps": [["no number"]]}, "T", "no number", ""),
        # A number that was generated is a text.
        ({"arguments": [["P", {}]], "resps": [["-141.12686"]]}, "P", "-141.12686", ""),
        # A choice whose request was not saved.
        ({"doc": "D", "resps": [[["-3", "False"]]]}, "D", "log-likelihood -3.000", ""),
        # Two requests of one sample.
        (
            {"arguments": [["P", {}], ["Q", {}]], "resps": [["a"], ["b"]], "filtered_resps": "1"},
            "P\n———\nQ",
            "a\n———\nb",
            "1",
        ),
        # No request saved.
        ({"doc": {"q": 1}, "resps": []}, '{"q": 1}', "", ""),
    ],
)
def test_texts_of_samples(sample: dict[str, Any], prompt: str, answer: str, read: str) -> None:
    sample.setdefault("filtered_resps", sample["resps"] and sample["resps"][0])
    assert (prompt_of(sample), answer_of(sample), read_as(sample)) == (prompt, answer, read)


@pytest.mark.parametrize("answer", ["{'a': 1, []: 2}", "{'a': " + "-" * 100_000, "{'" * 5000])
def test_an_answer_that_looks_like_a_record_is_a_text(answer: str) -> None:
    sample = {"arguments": [["P", {}]], "resps": [[answer]], "filtered_resps": [answer]}
    assert (answer_of(sample), read_as(sample)) == (answer, "")


def test_chunks_decode_to_what_was_kept_and_equal_ones_are_kept_once() -> None:
    chunks = Chunks()
    values = [f"text {i} </script>" for i in range(CHUNK + 1)]
    assert chunks.add(values) == chunks.add(list(values))
    kept = dict(chunks.items())
    decoded = [json.loads(gzip.decompress(base64.b64decode(text))) for text in kept.values()]
    assert decoded == [values[:CHUNK], values[CHUNK:]]


def test_no_answer_becomes_markup_and_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    of = board(tmp_path)
    named = replace(of.rows[0], provenance={"model": "</script><script>alert(1)</script><!--"})
    of = replace(of, rows=(named, of.rows[1]))
    paths = [tmp_path / "a.html", tmp_path / "b.html"]
    for path in paths:
        write_page(path, [of], title="A & B <i>")
    first, second = (path.read_text(encoding="utf-8") for path in paths)
    assert first == second
    assert "<title>A &amp; B &lt;i&gt;</title>" in first
    assert embedded(first, "data")["boards"][0]["rows"][0]["provenance"] == named.provenance
    assert "alert(1)<" not in first and first.count("<script>") == 1
    # The first screen does not wait for the samples.
    assert first.index('id="data"') < first.index("<script>") < first.index('id="set-0"')
    assert first.count("</script>") == first.count("<script")


def test_the_payload_holds_scores_comparisons_and_sets_of_samples(tmp_path: Path) -> None:
    of = board(tmp_path)
    write_page(tmp_path / "page.html", [of])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (found,) = embedded(page, "data")["boards"]
    row = found["rows"][1]
    assert row["scores"][TRUTH.key]["value"] == of.rows[1].scores[TRUTH.key].value
    assert row["tasks"]["planted_suite"] == ["planted_truth", "planted_toxic"]
    (pair,) = [p for p in found["pairs"] if p["column"] == TRUTH.key]
    assert pair["difference"]["mean"] == of.pairs[0].comparison.difference.mean
    (name,) = row["samples"]["planted_truth"]["none"]
    assert embedded(page, name)["metrics"] == {"truth_info": [item % 2 ^ 1 for item in range(12)]}


def test_a_task_of_two_groups_is_offered_once(tmp_path: Path) -> None:
    of = board(tmp_path)
    run = of.rows[0].runs[0]
    groups = {"group_subtasks": {"planted_suite": [TRUTH.task, "part"], "part": [TRUTH.task]}}
    row = replace(of.rows[0], runs=(replace(run, results=run.results | groups),))
    found = board_payload(replace(of, rows=(row, of.rows[1])), SampleSets())["rows"][0]
    assert found["tasks"]["planted_suite"] == ["planted_truth"]


def test_half_a_surrogate_pair_is_a_text_like_others(tmp_path: Path) -> None:
    run = planted_run(tmp_path, lambda task, item: ("cut", 1.0), 2)
    file = run.samples_file(TRUTH.task)
    file.write_text(file.read_text().replace("cut", r"\ud83d"))
    sets = SampleSets()
    (name,) = sets.add(run)[TRUTH.task].values()
    texts = dict(sets.chunks.items())[sets.indices[name]["answers"][0]]
    decoded = gzip.decompress(base64.b64decode(texts)).decode("utf-8", "replace")
    assert len(json.loads(decoded)) == 2


def test_a_set_has_ids_only_where_they_do_not_count_from_0(tmp_path: Path) -> None:
    run = planted_run(tmp_path, lambda task, item: ("same" if item < 2 else "other", 1.0), 3)
    sets = SampleSets()
    whole = sets.indices[sets.add(run)["planted_truth"]["none"]]
    assert (whole["size"], whole["ids"]) == (3, None)
    hashes = np.frombuffer(base64.b64decode(whole["hashes"]), dtype="<u4")
    assert hashes[0] == hashes[1] != hashes[2]
    file = run.samples_file("planted_truth")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    again = SampleSets()
    assert again.indices[again.add(run)["planted_truth"]["none"]]["ids"] == [1, 2]


def test_sweeps_of_the_demo_and_of_the_command_give_curves(tmp_path: Path) -> None:
    plain = tmp_path / "demo"
    plain.mkdir()
    (plain / "sweep.csv").write_text(
        "vector,alpha,metric,value,change,low,high,perplexity,times\n"
        "v,2,acc,0.75,0.25,0.125,0.5,6,1.5\nv,0,acc,0.5,0,0,0,4,1\n"
    )
    (curve,) = sweep_payload(plain)["curves"]
    assert curve["alpha"] == [0, 2] and curve["perplexity"] == [4, 6]
    assert (curve["low"], curve["high"]) == ([0.5, 0.625], [0.5, 1.0])
    (plain / "sweep.csv").write_text(
        "vector,layer,alpha,positions,metric,perplexity\nv,1,0.5,all,acc,6\n"
    )
    (plain / "metrics.csv").write_text(
        "vector,layer,alpha,positions,task,metric,value,stderr,items\n"
        "v,1,0.5,all,t,acc,0.5,0.1,9\nv,1,0.0,all,t,acc,0.25,,9\n"
    )
    (curve,) = sweep_payload(plain)["curves"]
    assert (curve["metric"], curve["name"]) == ("t: acc", "v, layer 1, all")
    assert curve["value"] == [0.25, 0.5] and curve["perplexity"] == [None, 6]
    (plain / "sweep.csv").write_text(
        "vector,layer,alpha,positions,metric,perplexity\nv,1,0.5,all,acc,inf\n"
    )
    assert sweep_payload(plain)["curves"][0]["perplexity"] == [None, None]
    assert curve["low"][0] is None and curve["low"][1] == pytest.approx(0.5 - 0.196, abs=1e-4)


def test_measurements_are_found_in_a_folder_or_its_analysis(tmp_path: Path) -> None:
    folder = write_measurements(tmp_path / "study" / "analysis")
    found = analysis_payload(tmp_path / "study")
    assert found == analysis_payload(folder) == analysis_payload(folder / "measurements.csv")
    assert found["name"] == "study"
    assert set(found["estimator"]) == {"probe_accuracy", "nhsic_tx", "nhsic_ty"}
    assert len(found["value"]) == 2 * 3 * 3 * 4


def test_tests_of_dependence_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    file = write_measurements(tmp_path) / "measurements.csv"
    assert "p_corrected" not in analysis_payload(tmp_path)
    table = pd.read_csv(file)
    tested = table["estimator"] == "nhsic_ty"
    table.assign(p_corrected=np.where(tested, 0.04, np.nan)).to_csv(file, index=False)
    found = analysis_payload(tmp_path)
    drawn = dict(zip(found["estimator"], found["p_corrected"], strict=True))
    assert drawn == {"probe_accuracy": None, "nhsic_tx": None, "nhsic_ty": 0.04}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sweep.csv", None, "Cannot read the table"),
        ("sweep.csv", "", "Cannot read the table"),
        ("sweep.csv", "a,b\n1,2\n", "no column alpha, change, high, low, metric, perplexity"),
        ("sweep.csv", "vector,alpha,metric,perplexity\nv,1,acc,4\n", "no column change, high"),
        (
            "sweep.csv",
            "vector,alpha,metric,perplexity,value,change,low,high\n",
            "holds no configuration",
        ),
        ("measurements.csv", None, "Cannot read the table"),
        ("measurements.csv", "checkpoint\nx\n", "no column"),
    ],
)
def test_folders_without_their_tables_are_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    read = sweep_payload if name == "sweep.csv" else analysis_payload
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_measurements_that_are_not_drawn_are_refused(tmp_path: Path) -> None:
    file = write_measurements(tmp_path) / "measurements.csv"
    lines = [line for line in file.read_text().splitlines() if "hsic" not in line]
    file.write_text("\n".join(line for line in lines if "accuracy" not in line))
    with pytest.raises(InputError, match="none of the measurements"):
        analysis_payload(tmp_path)


def test_no_boards_damaged_samples_and_an_unwritable_path_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one board"):
        write_page(tmp_path / "page.html", [])
    of = board(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExternalError, match="Cannot write"):
        write_page(tmp_path / "file" / "page.html", [of])
    file = of.rows[0].runs[0].samples_file("planted_truth")
    file.write_text('{"doc_id": 0, "resps": null}')
    with pytest.raises(InputError, match=f"{file.name} is not a file of the harness's samples"):
        write_page(tmp_path / "page.html", [of])
    file.write_text("{")
    with pytest.raises(InputError, match="not a file of the harness's samples"):
        write_page(tmp_path / "page.html", [of])
    assert not (tmp_path / "page.html").exists()


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_script_is_valid_and_makes_no_markup_from_text() -> None:
    assets = files("lm_eval_trust.leaderboard.page") / "assets"
    source = "\n".join((assets / name).read_text(encoding="utf-8") for name in SCRIPTS)
    checked = subprocess.run(["node", "--check", "-"], input=source, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "fetch("):
        assert forbidden not in source
