"""Tasks judged by a model through the harness: scores, logs, metadata, and a judge that fails."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from support.harness import Scripted, evaluate, manager
from support.openai_server import ALWAYS, Fault, OpenAI

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.judges.openai_judges import OpenAITruthJudge

pytestmark = pytest.mark.usefixtures("data_dir", "brisk")

TASK = "trust_truthfulqa"


def answer(request: Instance) -> str:
    return f"A: {request.doc['best_answer']}."


def judge_of_odd_questions(prompt: str) -> float:
    """True when the question has an odd number of letters; informative always."""
    question = prompt.split("\n")[0]
    return 0.75 if prompt.endswith("Helpful:") or len(question) % 2 else 0.25


def test_truthfulqa_end_to_end(server: OpenAI) -> None:
    server.yes = judge_of_odd_questions
    metadata = {"truth_judge": "openai:truth+info", "judge_base_url": server.address}
    found = evaluate(Scripted(answer), [TASK], limit=20, **metadata)
    scores = found["results"][TASK]
    samples = found["samples"][TASK]
    odd = [len(f"Q: {sample['doc']['question'].strip()}") % 2 for sample in samples]
    assert 0 < sum(odd) < 20
    assert scores["truth,none"] == scores["truth_info,none"] == sum(odd) / 20
    assert scores["info,none"] == 1.0 and scores["judge_unparsed,none"] == 0.0
    record = found["configs"][TASK]["metadata"]
    for sample, is_odd in zip(samples, odd, strict=True):
        (judged,) = sample["filtered_resps"]
        assert judged["truth"] == bool(is_odd)
        assert judged["truth_score"] == pytest.approx(0.75 if is_odd else 0.25)
        assert judged["judge"] == record["truth_judge_fingerprint"]
    assert record["truth_judge"] == "openai:truth,info"
    assert record["truth_judge_description"]["server"] == server.address
    before = len(server.bodies)
    again = evaluate(Scripted(answer), [TASK], limit=20, **metadata)
    assert len(server.bodies) == before == 40
    assert again["results"][TASK] == scores


def test_what_the_judge_did_not_say_is_no_score(server: OpenAI) -> None:
    """Replies that cannot be read: the answers count as not true, and are counted."""
    server.faults = [Fault(4, says="well")]
    metadata = {
        "truth_judge": "openai:judge",
        "judge_base_url": server.address,
        "judge_concurrency": "1",
    }
    scores = evaluate(Scripted(answer), [TASK], limit=4, **metadata)["results"][TASK]
    assert scores["truth,none"] == scores["trust_score,none"] == 0.5
    assert scores["judge_unparsed,none"] == 0.5


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(ALWAYS, says="well"), "None of the 5 replies of judge.*'well'"),
        (Fault(ALWAYS, sends={"choices": [{"message": None}]}), "message is null"),
        (Fault(ALWAYS, sends=b"<html>"), "not JSON but '<html>'"),
    ],
)
def test_answers_outlive_replies_of_no_use(server: OpenAI, fault: Fault, says: str) -> None:
    server.faults = [fault]
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address, "judge_tries": 2}
    with pytest.raises(ExternalError, match=f"{says}.*5 answers are kept"):
        evaluate(Scripted(answer), [TASK], limit=5, **metadata)


def test_answers_outlive_a_judge_with_a_fault_of_its_own(
    server: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, answers: object) -> None:
        raise AttributeError("no such attribute")

    monkeypatch.setattr(OpenAITruthJudge, "truth", broken)
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address}
    with pytest.raises(ExternalError, match=r"AttributeError: no such attribute.*answers are kept"):
        evaluate(Scripted(answer), [TASK], limit=5, **metadata)


def test_toxigen_is_judged_by_moderation(server: OpenAI) -> None:
    server.yes = lambda text: 0.9 if "grumble" in text else 0.1
    said = ["a grumble", "kind", "a grumble", "kind"]
    metadata = {"toxicity_judge": "openai:omni-moderation", "judge_base_url": server.address}
    model = Scripted(lambda request: said[request.doc_id])
    scores = evaluate(model, ["trust_toxigen"], limit=4, **metadata)["results"]["trust_toxigen"]
    assert scores["toxic_ratio,none"] == 0.5 and scores["judge_unparsed,none"] == 0.0


def test_answers_outlive_a_judge_that_fails(server: OpenAI) -> None:
    server.faults = [Fault(ALWAYS, status=500)]
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address, "judge_tries": 2}
    with pytest.raises(ExternalError, match="answers are kept") as failed:
        evaluate(Scripted(answer), [TASK], limit=5, **metadata)
    folder = Path(re.findall(r"`lm-eval-trust judge (\S+)`", str(failed.value))[0])
    (file,) = folder.glob("samples_*.jsonl")
    samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [s["resps"][0][0] for s in samples] == [
        f"A: {s['doc']['best_answer']}." for s in samples
    ]


def test_answers_outlive_an_interruption(
    server: OpenAI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(self: object, answers: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenAITruthJudge, "info", interrupted)
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Scripted(answer), [TASK], limit=5, **metadata)
    told = next(r.getMessage() for r in caplog.records if "interrupted" in r.getMessage())
    (folder,) = re.findall(r"5 answers are kept.*`lm-eval-trust judge (\S+)`", told)
    assert len(list(Path(folder).glob("samples_*.jsonl"))) == 1


def test_a_wrong_key_is_found_before_the_model_runs(
    server: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-right"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-1234567890")
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address}
    with pytest.raises(ExternalError, match=r"refused the key in OPENAI_API_KEY \(401\)") as failed:
        manager(**metadata).load([TASK])
    assert "sk-wrong" not in str(failed.value)


def test_a_key_in_the_metadata_is_refused_without_being_shown(server: OpenAI) -> None:
    metadata = {"truth_judge": "openai:judge", "judge_api_key": "sk-mine"}
    with pytest.raises(InputError, match="OPENAI_API_KEY") as refused:
        manager(**metadata).load([TASK])
    assert "sk-mine" not in str(refused.value)


def test_what_is_logged_reads_back_from_the_samples_text(server: OpenAI) -> None:
    """The harness writes the filtered response as text; it is a Python literal."""
    metadata = {"truth_judge": "openai:judge", "judge_base_url": server.address}
    (sample,) = evaluate(Scripted(answer), [TASK], limit=1, **metadata)["samples"][TASK]
    written = str(sample["filtered_resps"][0])
    assert ast.literal_eval(written)["judge"] == sample["filtered_resps"][0]["judge"]
