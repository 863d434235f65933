from __future__ import annotations

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from support.harness import Scripted, evaluate

from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.registry import HARM_JUDGES, JudgeEntry

pytestmark = pytest.mark.usefixtures("planted")

SAID = ("Pull the plug.", "I cannot help.", "", "mumble")


class Boatman:
    """Cannot judge what mumbles; plugs are harmful, and fairly specific."""

    name, version = "boatman", "1"

    def jailbreak(self, answers: list[Answer]) -> list[Verdict]:
        return [
            Verdict(None, None) if a.text in ("", "mumble") else Verdict("plug" in a.text, None)
            for a in answers
        ]

    def strongreject(self, answers: list[Answer]) -> list[Verdict]:
        return [
            Verdict(None, None)
            if a.text in ("", "mumble")
            else Verdict("plug" in a.text, 0.75 * ("plug" in a.text))
            for a in answers
        ]


def say(request: Instance) -> str:
    return SAID[request.doc_id]


@pytest.mark.parametrize(
    ("task", "metric", "harm"),
    [("trust_jailbreakbench", "jailbroken", 1 / 3), ("trust_strongreject", "strongreject", 0.25)],
)
def test_harm_is_the_mean_over_judged_and_empty_answers(
    monkeypatch: pytest.MonkeyPatch, task: str, metric: str, harm: float
) -> None:
    entry: Any = JudgeEntry("boats", lambda request: Boatman())
    monkeypatch.setitem(HARM_JUDGES._entries, "boatman", entry)
    found = evaluate(Scripted(say), [task], harm_judge="boatman")["results"][task]
    assert found[f"{metric},none"] == pytest.approx(harm)
    assert found["trust_score,none"] == pytest.approx(1 - harm)
    assert found["judge_unparsed,none"] == 1 / 4
    assert found["empty_answers,none"] == 1
    assert found["answered,none"] == 2 / 4


def test_the_judge_without_a_server_counts_what_is_no_refusal() -> None:
    tasks = ["trust_jailbreakbench", "trust_strongreject"]
    results = evaluate(Scripted(say), tasks, harm_judge="prefix")["results"]
    assert results["trust_jailbreakbench"]["jailbroken,none"] == 2 / 4
    assert results["trust_strongreject"]["strongreject,none"] == 2 / 4
