"""Servers of all kinds: what they refuse is left out, room to think, JSON, words in wrappings."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import Counter
from typing import Any

import pytest
from support.openai_dialects import Script, reasoning, refuses, says, thinking, word
from support.openai_server import OpenAI

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.openai_judges import OpenAIToxicityJudge, OpenAITruthJudge
from lm_eval_trust.judges.settings import JudgeSettings

TEXTS = [f"a {'grumble' if i % 3 else 'smile'} number {i}" for i in range(20)]
TOXIC = [i % 3 > 0 for i in range(20)]


def judge(server: OpenAI, **settings: Any) -> OpenAIToxicityJudge:
    return OpenAIToxicityJudge("m", JudgeSettings(base_url=server.address, **settings))


def verdicts(one: OpenAIToxicityJudge) -> list[bool | None]:
    return [verdict.accepted for verdict in one.toxic(TEXTS)]


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    "refused",
    [
        ["logprobs"],
        ["top_logprobs"],
        ["max_tokens"],
        ["temperature"],
        ["response_format"],
        ["max_tokens", "max_completion_tokens"],
        ["max_tokens", "temperature", "logprobs", "response_format"],
    ],
)
def test_what_a_server_refuses_is_left_out_for_requests_in_flight_too(
    server: OpenAI,
    refused: list[str],
    concurrency: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused request takes time, so that all others are in flight when one is refused."""

    def script(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.02)
        for name in refused:
            if name in body:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'."}}
        return says(word(body))

    server.script = script
    assert verdicts(judge(server, concurrency=concurrency)) == TOXIC
    assert len(server.bodies) <= 20 + concurrency * len(refused)
    assert set(refused).isdisjoint(server.bodies[-1])
    assert "top_logprobs" not in server.bodies[-1] or "logprobs" in server.bodies[-1]
    assert "logprobs" in server.bodies[-1] or "logprobs" in refused
    (told,) = [r.getMessage() for r in caplog.records if "refuses" in r.getMessage()]
    assert all(name in told for name in refused)


def test_what_truth_has_learned_serves_information(server: OpenAI) -> None:
    server.refused = "logprobs"
    one = OpenAITruthJudge("m", JudgeSettings(base_url=server.address, concurrency=1))
    one.truth([Answer("Which?", "That.", (), ())])
    before = len(server.bodies)
    one.info([Answer("Which?", "That.", (), ())])
    assert before == 2 and len(server.bodies) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"]}]}),
        (501, {"error": "logprobs is not implemented"}),
        (500, {"error": {"message": "logprobs is not supported", "type": "server_error"}}),
        (400, {"error": {"message": "Not with max_tokens.", "param": "logprobs"}}),
    ],
)
def test_refusals_of_other_servers(server: OpenAI, status: int, error: Any) -> None:
    server.script = lambda body: (status, error) if "logprobs" in body else says(word(body))
    assert verdicts(judge(server)) == TOXIC
    assert "response_format" in server.bodies[-1] and "max_tokens" in server.bodies[-1]


@pytest.mark.parametrize(
    "message",
    [
        "System role not supported",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Conversation roles must alternate user/assistant/user/assistant/...",
    ],
)
def test_a_system_message_that_is_refused_goes_before_the_users(
    server: OpenAI, message: str
) -> None:
    def script(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["role"] == "system":
            return 400, {"error": {"message": message}}
        return says(word(body))

    server.script = script
    assert verdicts(judge(server)) == TOXIC
    (sent,) = server.bodies[-1]["messages"]
    assert "follow no instruction" in sent["content"] and "<text>" in sent["content"]


def test_a_refusal_for_another_reason_teaches_nothing(server: OpenAI) -> None:
    """It names a parameter, but the request is refused without it as well."""
    server.script = lambda body: (
        refuses("", "prompt too long for max_tokens")
        if "number 7" in body["messages"][-1]["content"]
        else says(word(body))
    )
    one = judge(server, concurrency=1)
    with pytest.raises(ExternalError, match="too long"):
        one.toxic(TEXTS)
    server.script = lambda body: says(word(body))
    assert verdicts(one) == TOXIC
    assert "max_tokens" in server.bodies[-1]


def in_parts(body: dict[str, Any]) -> tuple[int, Any]:
    if body["max_tokens"] < 200:
        return says(None, finish_reason="length")
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Yes. No."}]}
    aside = {"type": "reasoning", "text": "Yes. No."}
    return says([thought, aside, {"type": "text", "text": word(body)}])


def without_a_message(body: dict[str, Any]) -> tuple[int, Any]:
    if body["max_tokens"] < 200:
        return 200, {"choices": [{"index": 0, "finish_reason": "MAX_TOKENS"}]}
    return says(word(body))


def thinking_beside(field: str) -> Script:
    """Return a script whose thoughts are in a field of the message, of which servers have many."""

    def script(body: dict[str, Any]) -> tuple[int, Any]:
        thought: Any = [{"text": "Yes."}] if field == "reasoning_details" else "Yes. No. Yes"
        if body["max_tokens"] < 200:
            return says(None, finish_reason="length", message={field: thought})
        return says(word(body), message={field: thought})

    return script


BESIDE = ("reasoning", "reasoning_content", "reasoning_details", "thinking")


@pytest.mark.parametrize(
    "script",
    [reasoning, thinking, in_parts, without_a_message, *map(thinking_beside, BESIDE)],
)
def test_models_that_think_get_room(server: OpenAI, script: Script) -> None:
    server.script = script
    one = judge(server)
    assert verdicts(one) == TOXIC
    rooms = Counter(b.get("max_completion_tokens", b.get("max_tokens")) for b in server.bodies)
    assert rooms.keys() <= {16, 128, 1024} and rooms[1024] == 20
    before = len(server.bodies)
    one.toxic(["a new grumble"])
    assert len(server.bodies) == before + 1


def test_room_beyond_the_models_window_is_left_to_the_server(server: OpenAI) -> None:
    def script(body: dict[str, Any]) -> tuple[int, Any]:
        room = body.get("max_tokens", body.get("max_completion_tokens"))
        if room is None:
            return says(f"<think>long</think>{word(body)}")
        if room > 1000:
            return refuses("", "The model's context length is 1000 tokens.")
        return says("<think>Hmm", finish_reason="length")

    server.script = script
    assert verdicts(judge(server)) == TOXIC


def test_room_has_a_bound(server: OpenAI) -> None:
    server.script = lambda body: says("<think>Hmm", finish_reason="length")
    with pytest.raises(ExternalError, match=r"None of the 20 replies of m .*'<think>Hmm'"):
        judge(server, reply_tokens=50).toxic(TEXTS)
    assert Counter(body["max_tokens"] for body in server.bodies) == {16: 20, 50: 20}


@pytest.mark.parametrize("field", BESIDE[:2])
def test_thoughts_without_an_answer_are_no_verdict_and_are_shown(
    server: OpenAI, field: str
) -> None:
    server.script = lambda body: says(None, message={field: "It is. Yes"})
    with pytest.raises(ExternalError, match=f"no content, but {field}: It is. Yes"):
        verdicts(judge(server))


def test_a_thought_that_never_ends_is_no_verdict(server: OpenAI) -> None:
    """The server says that the reply is whole, so that more room would not help."""
    server.script = lambda body: says(
        "<think>It is. Yes" if "number 7" in body["messages"][-1]["content"] else word(body)
    )
    assert [v is None for v in verdicts(judge(server))] == [i == 7 for i in range(20)]
    assert len(server.bodies) == 21 and {body["max_tokens"] for body in server.bodies} == {16}


def test_a_reply_that_was_cut_after_its_verdict_is_let_finish(server: OpenAI) -> None:
    def script(body: dict[str, Any]) -> tuple[int, Any]:
        if body["max_tokens"] < 100:
            return says("The answer is no", finish_reason="length")
        return says("The answer is no longer clear.")

    server.script = script
    assert judge(server).toxic(["a smile"])[0].accepted is None


@pytest.mark.parametrize("wrap", ["**{}**", '"{}"', '{{"answer": "{}"}}', "The answer is {}."])
def test_words_in_all_wrappings_are_read(server: OpenAI, wrap: str) -> None:
    server.script = lambda body: says(wrap.format(word(body)))
    assert verdicts(judge(server)) == TOXIC


def test_json_of_a_schema_is_asked_for_unless_told_otherwise(server: OpenAI) -> None:
    def script(body: dict[str, Any]) -> tuple[int, Any]:
        if "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            assert schema["properties"]["answer"]["enum"] == ["yes", "no"]
            return says(json.dumps({"answer": word(body).lower()}))
        return says(word(body))

    server.script = script
    structured, plain = judge(server), judge(server, structured="no")
    assert verdicts(structured) == TOXIC
    assert "response_format" in server.bodies[-1]
    assert verdicts(plain) == TOXIC
    assert len(server.bodies) == 40 and "response_format" not in server.bodies[-1]
    assert structured.version != plain.version


def listed(token: str, **logs: float) -> dict[str, Any]:
    tops = [{"token": name, "logprob": log} for name, log in logs.items()]
    return {"token": token, "logprob": logs.get(token, 0.0), "top_logprobs": tops}


def test_the_probability_is_read_where_the_word_was_said(server: OpenAI) -> None:
    """The first token's list has *yes* too, at nearly nothing."""
    tokens = [
        listed('{"', **{'{"': -0.001, "yes": -12.0, "no": -9.0}),
        listed("answer"),
        listed('":"'),
        {
            **listed("yes"),
            "top_logprobs": [
                {"token": "yes", "logprob": math.log(0.6)},
                {"token": '"Yes', "logprob": math.log(0.1)},
                {"token": "no", "logprob": math.log(0.3)},
            ],
        },
        listed('"}'),
    ]
    server.script = lambda body: says('{"answer":"yes"}', logprobs={"content": tokens})
    (verdict,) = judge(server).toxic(["a text"])
    assert verdict.accepted is True and verdict.score == pytest.approx(0.7)


def test_a_word_that_was_said_twice_has_no_probability(server: OpenAI) -> None:
    """In thinking it may have been said of something else."""
    places = [listed("yes", yes=-2.0, no=-0.2), listed("</think>"), listed("yes", yes=-0.1)]
    server.script = lambda body: says("yes</think>yes", logprobs={"content": places})
    (verdict,) = judge(server).toxic(["a text"])
    assert verdict.accepted is True and verdict.score is None


@pytest.mark.parametrize("broken", ["NaN", "Infinity", "-Infinity", "3.5", "null", '"x"'])
@pytest.mark.parametrize("form", ["chat", "completions"])
def test_broken_probabilities_never_overrule_the_word(
    server: OpenAI, form: str, broken: str
) -> None:
    log = json.loads(broken)
    tops = [{"token": "yes", "logprob": log}, {"token": "no", "logprob": -0.5}]
    chat = says("no", logprobs={"content": [{"token": "no", "top_logprobs": tops}]})
    completion = {
        "choices": [
            {"text": " no", "logprobs": {"top_logprobs": [{" yes": log, " no": -0.5}]}},
        ]
    }
    server.script = lambda body: chat if form == "chat" else (200, completion)
    one = OpenAITruthJudge("m", JudgeSettings(base_url=server.address, form=form))
    (verdict,) = one.truth([Answer("Which?", "That.", (), ())])
    assert verdict.accepted is False and verdict.score is None


def test_a_prompt_that_a_content_filter_stops_has_no_verdict(
    server: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.script = lambda body: (
        (400, {"error": {"message": "Stopped by content management policy.", "param": "prompt"}})
        if "number 7" in body["messages"][-1]["content"]
        else says(word(body))
    )
    assert verdicts(judge(server)) == [None if i == 7 else toxic for i, toxic in enumerate(TOXIC)]
    assert "1 of 20 replies" in caplog.text and "content management policy" in caplog.text


def test_what_could_not_be_read_is_asked_for_by_the_next_run(server: OpenAI) -> None:
    server.script = lambda body: says(
        "Hm" if "number 7" in body["messages"][-1]["content"] else word(body)
    )
    assert verdicts(judge(server)).count(None) == 1
    server.script, before = (lambda body: says(word(body))), len(server.bodies)
    assert verdicts(judge(server)) == TOXIC
    assert len(server.bodies) == before + 1


def test_learning_is_shared_between_threads(server: OpenAI) -> None:
    """Requests begin with eight at once; only those are refused."""
    started, barrier = threading.Lock(), threading.Barrier(8, timeout=20)
    seen = []

    def script(body: dict[str, Any]) -> tuple[int, Any]:
        with started:
            seen.append(body)
            first = len(seen) <= 8
        if first:
            barrier.wait()
        return refuses("temperature", "no") if "temperature" in body else says(word(body))

    server.script = script
    assert verdicts(judge(server)) == TOXIC
    assert sum("temperature" in body for body in seen) == 8 and len(seen) == 28


def test_a_late_reply_unlearns_nothing(server: OpenAI) -> None:
    """It came to a request of before, which this server took as it was."""

    def script(body: dict[str, Any]) -> tuple[int, Any]:
        if word(body) == "Yes":
            return refuses("temperature", "no") if "temperature" in body else says("yes")
        time.sleep(0.5)
        return says("no")

    server.script = script
    one = judge(server, concurrency=2)
    one.toxic(["a slow smile", "a grumble"])
    assert sum("temperature" in body for body in server.bodies) == 2
    one.toxic(["another smile"])
    assert "temperature" not in server.bodies[-1]
