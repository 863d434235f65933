"""Faults of a server: waited for, told of, and never the loss or doubling of a verdict."""

from __future__ import annotations

import json
import random
import time

import pytest
from support.openai_server import ALWAYS, Fault, OpenAI

from lm_eval_trust.core import retry
from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.openai_judges import OpenAIToxicityJudge, OpenAITruthJudge
from lm_eval_trust.judges.settings import JudgeSettings

pytestmark = pytest.mark.usefixtures("brisk")

PASSING = {
    "rate": Fault(status=429),
    "server error": Fault(status=500),
    "overloaded": Fault(status=503),
    "cut": Fault(cut=True),
    "malformed": Fault(malformed=True),
    "hollow": Fault(hollow=True),
    "silent": Fault(silence=1.0),
}


def answers(count: int) -> list[Answer]:
    return [Answer(f"Question {i}?", f"Answer {i}.", (), ()) for i in range(count)]


def judge(server: OpenAI, **settings: object) -> OpenAITruthJudge:
    fixed = {"form": "completions", "timeout": 0.5} | settings
    return OpenAITruthJudge("m", JudgeSettings(base_url=server.address, **fixed))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again(server: OpenAI, name: str) -> None:
    server.faults = [Fault(**{**vars(PASSING[name]), "times": 2})]
    assert [v.accepted for v in judge(server).truth(answers(3))] == [True] * 3
    assert len(server.bodies) == 5


def message(content: object) -> dict[str, object]:
    return {"choices": [{"message": content, "finish_reason": "stop"}]}


MALFORMED = {
    "no object": ([1, 2], "not an object but"),
    "null": (b"null", "not an object but null"),
    "HTML": (b"<!DOCTYPE html><html><title>Log in</title>", "not JSON but '<!DOCTYPE html>"),
    "not UTF-8": (b"\xff\xfe\x00", "not JSON but"),
    "deep": (b"[" * 100_000, "not JSON but"),
    "empty": (b"", "not JSON but ''"),
    "no choices": ({}, "without choices"),
    "choices null": ({"choices": None}, "without choices"),
    "choices empty": ({"choices": []}, "without choices"),
    "choices an object": ({"choices": {"0": 1}}, "without choices"),
    "choices of words": ({"choices": ["yes"]}, "without choices"),
    "error": ({"error": {"message": "out of tokens"}}, "out of tokens"),
    "message null": (message(None), "message is null"),
    "message a word": (message("yes"), 'message is "yes"'),
    "content a number": (message({"content": 5}), "content is 5"),
    "content of words": (message({"content": ["yes"]}), 'content is ["yes"]'),
    "huge": (b" " * (17 << 20), "more than 16,777,216 bytes"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_replies_are_named_and_cost_no_verdict(server: OpenAI, name: str) -> None:
    sends, says = MALFORMED[name]
    one = judge(server, form="chat", concurrency=1, tries=2, timeout=10.0)
    one.truth(answers(4))
    server.faults = [Fault(1, sends=sends)]
    assert one.truth(answers(5))[4].accepted is True
    server.faults = [Fault(ALWAYS, sends=sends)]
    with pytest.raises(ExternalError, match="5 of 9 verdicts are kept") as failed:
        one.truth(answers(9))
    assert says in str(failed.value) and "asked 2 times" in str(failed.value)
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize(
    "sends",
    [{}, {"results": []}, {"results": [{"categories": None}]}, {"results": [None]}],
)
def test_malformed_moderations(server: OpenAI, sends: object) -> None:
    server.faults = [Fault(ALWAYS, sends=sends)]
    settings = JudgeSettings(base_url=server.address, tries=2)
    with pytest.raises(ExternalError, match="MalformedReplyError"):
        OpenAIToxicityJudge("moderation", settings).toxic(["a", "b"])


def test_a_moderation_with_broken_scores_has_its_flags(server: OpenAI) -> None:
    result = {"categories": {"hate": True}, "category_scores": {"hate": float("nan")}}
    server.faults = [Fault(ALWAYS, sends={"results": [result]})]
    one = OpenAIToxicityJudge("moderation", JudgeSettings(base_url=server.address))
    (verdict,) = one.toxic(["a"])
    assert verdict.accepted is True and verdict.score is None


@pytest.mark.slow
def test_a_server_that_drips_is_given_up_at_the_deadline(server: OpenAI) -> None:
    """Each byte comes well within the timeout, all of them never."""
    server.faults = [Fault(ALWAYS, drip=0.05)]
    began = time.monotonic()
    with pytest.raises(ExternalError, match=r"no whole reply within 0\.5 seconds.*judge_timeout"):
        judge(server, tries=2).truth(answers(3))
    assert time.monotonic() - began < 10
    server.faults = [Fault(1, drip=0.05)]
    assert [v.accepted for v in judge(server).truth(answers(3))] == [True] * 3


def test_retry_after_has_a_bound_and_a_message(
    server: OpenAI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_WORTH_A_MESSAGE", 0.5)
    server.faults = [Fault(status=429, retry_after="99999999")]
    began = time.monotonic()
    assert [v.accepted for v in judge(server, longest_wait=1).truth(answers(9))] == [True] * 9
    assert 1 <= time.monotonic() - began < 10
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == "The server answers 429 and asks to wait 1e+08 s; the next attempt is in 1 s."


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1_000_000, "completion_tokens": 1},
        {"prompt_tokens": 6, "completion_tokens": -5},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        {"prompt_tokens": 6.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": "6", "completion_tokens": 1},
        {"prompt_tokens": 6},
        {},
        [],
    ],
)
def test_usage_that_cannot_be_is_counted_as_the_most(
    server: OpenAI, usage: object, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [Fault(ALWAYS, sends={"choices": [{"text": " yes"}], "usage": usage})]
    prices = {"price_input": 1e6, "price_output": 1e6}
    with pytest.raises(ExternalError, match=r"budget of 700 .*judge_max_cost"):
        judge(server, max_cost=700.0, concurrency=1, **prices).truth(answers(100))
    most = len("Q: Question 10?\nA: Answer 10.\nTrue:") + 100 + 1
    assert len(server.bodies) == 700 // most
    (told,) = [r.getMessage() for r in caplog.records if "usage" in r.getMessage()]
    assert json.dumps(usage) in told


def test_if_nothing_can_be_read_the_error_says_so_and_shows_a_reply(server: OpenAI) -> None:
    server.faults = [Fault(ALWAYS, says="It is hard to tell. " * 50)]
    with pytest.raises(ExternalError, match="None of the 3 replies of m") as failed:
        judge(server, form="chat", concurrency=1).truth(answers(3))
    assert "'It is hard to tell. It is" in str(failed.value)
    assert len(str(failed.value)) < 600


def test_retry_after_is_waited_for_by_all(server: OpenAI) -> None:
    server.faults = [Fault(status=429, retry_after="1")]
    began = time.monotonic()
    judge(server, concurrency=1).truth(answers(3))
    assert time.monotonic() - began >= 1


def test_what_does_not_pass_is_told_with_what_is_kept(server: OpenAI) -> None:
    one = judge(server, concurrency=1, tries=3)
    one.truth(answers(4))
    server.faults = [Fault(ALWAYS, status=500)]
    with pytest.raises(ExternalError, match=r"asked 3 times: .*4 of 9 verdicts are kept"):
        one.truth(answers(9))
    server.faults = []
    before = len(server.bodies)
    one.truth(answers(9))
    assert len(server.bodies) - before == 5


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(ALWAYS, status=404, message="no model m"), "no model m"),
        (Fault(ALWAYS, status=400, message="too long"), "too long"),
        (Fault(ALWAYS, status=429, code="insufficient_quota"), "no quota left"),
    ],
)
def test_what_another_try_cannot_change_is_not_tried_again(
    server: OpenAI, fault: Fault, says: str
) -> None:
    server.faults = [fault]
    with pytest.raises(ExternalError, match=says):
        judge(server, concurrency=1).truth(answers(1))
    assert len(server.bodies) == 1


def test_each_verdict_is_asked_for_once_whatever_goes_wrong(server: OpenAI) -> None:
    """600 verdicts with one fault in 20 requests; every third answer stands there twice."""
    draw = random.Random(0)
    server.yes = lambda prompt: 0.9 if "7" in prompt.split("?")[0] else 0.1
    kinds = [*(PASSING[name] for name in PASSING if name != "silent"), Fault(bare=True)]
    pattern = [draw.choice(kinds) if draw.random() < 0.05 else Fault() for _ in range(1000)]
    server.faults = [Fault(**vars(fault)) for fault in pattern]
    asked = answers(600)
    one = judge(server, timeout=20.0)
    verdicts = one.truth([*asked, *asked[::3]])
    expected = ["7" in answer.question for answer in asked]
    assert [v.accepted for v in verdicts] == [*expected, *expected[::3]]
    assert set(server.answered.values()) == {1} and len(server.answered) == 600
    assert server.at_once <= 8
    before = len(server.bodies)
    assert one.truth(asked) == verdicts[:600]
    assert len(server.bodies) == before


def test_a_budget_of_requests_stops_in_order(server: OpenAI) -> None:
    with pytest.raises(ExternalError, match=r"budget of 10 requests.*10 of 30 verdicts are kept"):
        judge(server, max_requests=10).truth(answers(30))
    assert len(server.bodies) == 10
    judge(server, max_requests=20).truth(answers(30))
    assert len(server.bodies) == 30


def test_a_budget_of_money_is_never_exceeded(server: OpenAI) -> None:
    """Six words are sent and one comes back: 8 a request at these prices."""
    prices = {"price_input": 1e6, "price_output": 2e6}
    server.usage = True
    with pytest.raises(ExternalError, match=r"budget of 400 .*judge_max_cost") as stopped:
        judge(server, max_cost=400.0, **prices).truth(answers(100))
    kept = len(server.answered)
    assert f"{kept} of 100 verdicts are kept" in str(stopped.value)
    assert 20 < kept * 8 <= 400


#: What a request of ``answers(1)`` can cost at most, at a price of 1 a token.
MOST = len("Q: Question 0?\nA: Answer 0.\nTrue:") + 100 + 1
A_TOKEN = {"price_input": 1e6, "price_output": 1e6}


@pytest.mark.parametrize("fault", [Fault(ALWAYS, cut=True), Fault(ALWAYS, silence=0.3)])
def test_a_request_without_a_reply_costs_the_most_that_it_may_have_cost(
    server: OpenAI, fault: Fault
) -> None:
    """Nobody says whether the model has worked for it."""
    server.faults = [fault]
    settings = {"concurrency": 1, "tries": 9, "timeout": 0.1}
    with pytest.raises(ExternalError, match=f"{3 * MOST:.4g} is spent. Raise judge_max_cost"):
        judge(server, max_cost=3.5 * MOST, **A_TOKEN, **settings).truth(answers(1))
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [429, 500])
def test_a_request_that_was_refused_costs_nothing(server: OpenAI, status: int) -> None:
    server.faults = [Fault(4, status=status)]
    one = judge(server, max_cost=1.5 * MOST, concurrency=1, **A_TOKEN)
    assert one.truth(answers(1))[0].accepted and len(server.bodies) == 5


@pytest.mark.parametrize(("form", "lengths"), [("completions", 1), ("chat", 2)])
def test_a_reply_that_nothing_bounds_is_set_aside_whole(
    server: OpenAI, form: str, lengths: int
) -> None:
    """A server that refuses every limit on the length may send as much as the settings allow."""

    def script(body: dict[str, object]) -> tuple[int, object]:
        for name in ("max_tokens", "max_completion_tokens"):
            if name in body:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'."}}
        return 200, {"choices": [{"text": " yes", "message": {"content": "yes"}}]}

    server.script = script
    settings = {"form": form, "concurrency": 1, "price_input": 0.0, "price_output": 1e6}
    asked = answers(1)
    with pytest.raises(ExternalError, match=r"does not cover another request of up to 8\.2e\+03"):
        judge(server, max_cost=8191.0, **settings).truth(asked)
    assert len(server.bodies) == lengths
    assert judge(server, max_cost=8192.0, **settings).truth(asked)[0].accepted is True


@pytest.mark.slow
def test_a_wait_for_all_is_told_once(
    server: OpenAI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_WORTH_A_MESSAGE", 0.5)
    server.faults = [Fault(8, status=429, retry_after="1", silence=0.4)]
    assert all(v.accepted for v in judge(server, concurrency=8, timeout=20.0).truth(answers(8)))
    (told,) = [record.getMessage() for record in caplog.records]
    assert "answers 429 and asks to wait 1 s" in told


def test_repeated_requests_count_as_well(server: OpenAI) -> None:
    server.faults = [Fault(3, status=500)]
    with pytest.raises(ExternalError, match="budget of 4 requests"):
        judge(server, max_requests=4, concurrency=1).truth(answers(2))
    assert len(server.bodies) == 4
