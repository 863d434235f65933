"""Verdicts on disk: several writers, a process that is killed, and no key anywhere."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from support.openai_server import ALWAYS, Fault, OpenAI
from support.saved_runs import save_run

from lm_eval_trust import cli
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.openai_judges import OpenAITruthJudge
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.settings import JudgeSettings
from lm_eval_trust.judges.verdicts import VerdictStore, verdicts_file

TRUTH = "trust_truthfulqa_mini"


def test_verdicts_come_back_as_they_went(tmp_path: Path) -> None:
    given = {
        Prompt("a"): Verdict(True, 0.75, {"bleu": 1.5}),
        Prompt("b", "system"): Verdict(False, None),
        Prompt("b"): Verdict(None, None),
    }
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        for prompt, verdict in given.items():
            store.put(prompt, verdict)
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        assert store.get([*given, Prompt("c")]) == given
    with VerdictStore("another", tmp_path / "v.sqlite") as store:
        assert store.get(list(given)) == {}


def test_verdicts_of_earlier_versions_are_found(tmp_path: Path) -> None:
    """Written as those versions did: a table of its own, in write-ahead logging."""
    old, damaged = Prompt("b", "system"), tmp_path / "damaged.sqlite"
    for path, content in (
        (tmp_path / "v.sqlite", '{"accepted": true, "score": 0.75, "details": {"bleu": 1.5}}'),
        (damaged, '{"accepted": '),
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode=WAL")
            file.execute(
                "CREATE TABLE verdicts (judge TEXT NOT NULL, prompt TEXT NOT NULL, verdict TEXT "
                "NOT NULL, PRIMARY KEY (judge, prompt)) WITHOUT ROWID"
            )
            key = hashlib.sha256(b"system\x1fb").hexdigest()[:16]
            file.execute("INSERT INTO verdicts VALUES ('judge', ?, ?)", (key, content))
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        assert store.get([old, Prompt("b")]) == {old: Verdict(True, 0.75, {"bleu": 1.5})}
        store.put(old, Verdict(False, None))
        assert store.get([old]) == {old: Verdict(False, None)}
    with VerdictStore("another", tmp_path / "v.sqlite") as store:
        assert store.get([old]) == {}
    with (
        VerdictStore("judge", damaged) as store,
        pytest.raises(ExternalError, match=r"damaged\.sqlite.*Move the file away"),
    ):
        store.get([old])


@pytest.mark.usefixtures("brisk")
def test_a_verdict_that_was_changed_is_asked_for_again(
    server: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    server.yes = lambda prompt: 0.9 if "7" in prompt else 0.1
    judge = OpenAITruthJudge("m", JudgeSettings(base_url=server.address))
    answers = [Answer(f"Question {i}?", "Answer.", (), ()) for i in range(9)]
    before = judge.truth(answers)
    with closing(sqlite3.connect(verdicts_file())) as file:
        file.execute("UPDATE entries SET value = replace(value, 'true', 'false')")
        file.commit()
    asked = len(server.bodies)
    assert judge.truth(answers) == before
    assert len(server.bodies) == asked + 1
    assert "among the verdicts" in caplog.text and "was changed" in caplog.text


@pytest.mark.parametrize("score", ["NaN", "Infinity", '"high"', "true"])
def test_kept_scores_that_are_none_are_asked_for_again(tmp_path: Path, score: str) -> None:
    """Earlier versions kept what servers and models sent."""
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        store.put(Prompt("a"), Verdict(True, 0.5))
    fields = {"accepted": True, "score": json.loads(score)}
    with KeyedStore(tmp_path / "v.sqlite", "judge") as kept:
        kept.put(content_id("", "a"), fields)
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        assert store.get([Prompt("a")]) == {}


def test_a_score_is_finite_or_none() -> None:
    for score in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="has to be finite"):
            Verdict(True, score)


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        with VerdictStore("judge", tmp_path / "v.sqlite") as store:
            for i in range(50):
                store.put(Prompt(f"{writer} {i}"), Verdict(True, i / 50))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with VerdictStore("judge", tmp_path / "v.sqlite") as store:
        assert len(store.get([Prompt(f"{w} {i}") for w in range(6) for i in range(50)])) == 300


@pytest.mark.parametrize(
    "rounds", [5, pytest.param(200, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_new_file_opened_by_twelve_at_once_never_fails(tmp_path: Path, rounds: int) -> None:
    """Switching a new file to write-ahead logging does not wait for other connections."""

    def opened(path: Path) -> Path:
        with VerdictStore("judge", path) as store:
            return store.path

    with ThreadPoolExecutor(12) as pool:
        for number in range(rounds):
            path = tmp_path / f"{number}.sqlite"
            assert list(pool.map(opened, [path] * 12)) == [path] * 12


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_bytes(b"not a database " * 99)
    with pytest.raises(ExternalError, match=r"v\.sqlite.*move the file away"):
        VerdictStore("judge", tmp_path / "v.sqlite")


JUDGING = """
import sys
from lm_eval_trust.judges.openai_judges import OpenAIToxicityJudge
from lm_eval_trust.judges.settings import JudgeSettings

judge = OpenAIToxicityJudge("m", JudgeSettings(base_url=sys.argv[1]))
print([verdict.accepted for verdict in judge.toxic([f"text {i}" for i in range(200)])])
"""


@pytest.mark.slow
def test_a_run_killed_twenty_times_goes_on_where_it_stopped(server: OpenAI, tmp_path: Path) -> None:
    """Only what was under way in a kill, 8 at most, is asked for again."""
    server.yes = lambda prompt: 0.9 if "7" in prompt else 0.1
    server.faults = [Fault(ALWAYS, silence=0.02)]
    command = [sys.executable, "-c", JUDGING, server.address]
    environment = {**os.environ, "LM_EVAL_TRUST_CACHE": str(tmp_path / "cache")}
    for moment in sorted(random.Random(0).sample(range(200), 20)):
        process = subprocess.Popen(command, env=environment)
        while len(server.answered) < moment:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(["7" in str(i) for i in range(200)])
    assert len(server.answered) == 200
    assert 200 <= server.answered.total() <= 200 + 8 * 20


def answer(request: Instance) -> str:
    return "A: something."


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
def test_the_key_stands_nowhere(
    server: OpenAI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Results, samples, caches, figures, logs at their loudest, errors with their tracebacks."""
    caplog.set_level(logging.DEBUG)
    right, wrong = "sk-the-right-key-123456", "sk-a-wrong-key-654321"
    server.key = right
    monkeypatch.setenv("OPENAI_API_KEY", right)
    asked = {"mini_truth_judge": "openai:judge", "judge_base_url": server.address}
    path, _ = save_run(tmp_path / "run", [TRUTH], answer, limit=4, **asked)
    calibrate = ["judge", "calibrate", "--truth-judge", "openai:judge", "--data", "mini"]
    calibrate += ["--limit", "20", "--out", str(tmp_path / "calibration")]
    assert cli.main(calibrate) == 0
    server.faults = [Fault(ALWAYS, status=500, message=f"your key is {right}")]
    settings = ["--metadata", "judge_tries=2", "--truth-judge", "openai:other"]
    assert cli.main(["judge", str(path), *settings, "--debug"]) == 3
    monkeypatch.setenv("OPENAI_API_KEY", wrong)
    assert cli.main(["judge", str(path), *settings, "--debug"]) == 3
    printed = capfd.readouterr()
    assert "refused the key" in printed.err and "Traceback" in printed.err
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".json", ".jsonl", ".csv", ".sqlite", ".png"}
    written = [file.read_bytes() for file in files]
    for text in (*written, printed.out.encode(), printed.err.encode(), caplog.text.encode()):
        assert right.encode() not in text and wrong.encode() not in text
