"""Steered models inside the harness: its caches, its results files, the leak guard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from support.conformance import generation_requests, random_vector, scoring_requests

from lm_eval_trust.core.errors import InputError, LeakError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.steerable import SteerableLM

QUESTIONS = [f"Who lives in house {number} of the town of Ossia?" for number in range(6)]

TASK = """
task: house_questions
dataset_path: unused
custom_dataset: !function {module}.rows
output_type: generate_until
test_split: test
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "nobody"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


def provenance(questions: list[str]) -> Provenance:
    groups = tuple(sorted(group_id(question) for question in questions))
    return Provenance(
        "tiny", "0", "reliability", "official", "grouped", 3, "train", "mass_mean", groups, groups
    )


@pytest.fixture
def model(tiny_llama: Callable[..., Path], tmp_path: Path) -> Callable[..., SteerableLM]:
    """Factory of ``steered_amber``; ``built_from`` are questions that its vector was built from."""

    def build(*, built_from: list[str] | None = None, **arguments: Any) -> SteerableLM:
        vector = random_vector(32, (1,), norm=6.0, seed=1)
        if built_from is not None:
            vector = replace(vector, provenance=provenance(built_from))
        file = tmp_path / f"{len(built_from or [])}.safetensors"
        vector.save(file)
        settings = {"pretrained": str(tiny_llama()), "vector": str(file), "layer": 1}
        made: SteerableLM = get_model("steered_amber").create_from_arg_obj(
            settings | {"scale": "none", "dtype": "float32"} | arguments,
            {"device": "cpu", "batch_size": 2},
        )
        return made

    return build


@pytest.fixture
def task(tmp_path: Path) -> TaskManager:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "houses.yaml").write_text(TASK.format(module="houses"))
    (folder / "houses.py").write_text(
        "from datasets import Dataset\n"
        f"QUESTIONS = {QUESTIONS!r}\n"
        "def rows(**metadata):\n"
        "    return {'test': Dataset.from_list([{'question': q} for q in QUESTIONS])}\n"
    )
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluate(lm: SteerableLM, task: TaskManager, **settings: Any) -> dict[str, Any]:
    result: dict[str, Any] = simple_evaluate(
        model=lm, tasks=["house_questions"], task_manager=task, bootstrap_iters=0, **settings
    )
    return result


def answers(result: dict[str, Any]) -> list[str]:
    return [sample["resps"][0][0] for sample in result["samples"]["house_questions"]]


@pytest.mark.slow
def test_one_response_cache_serves_a_sweep_over_alpha(
    model: Callable[..., SteerableLM], task: TaskManager, tmp_path: Path
) -> None:
    cache = str(tmp_path / "responses")
    alphas = (0.0, 1.0, 3.0)
    alone = {a: answers(evaluate(model(alpha=a), task)) for a in alphas}
    assert alone[0.0] != alone[3.0]
    for _ in range(2):
        for a in alphas:
            assert answers(evaluate(model(alpha=a), task, use_cache=cache)) == alone[a]


def test_the_response_cache_is_used_and_not_shared_with_other_models(
    model: Callable[..., SteerableLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [*scoring_requests([("one", " two")])]
    cache = str(tmp_path / "responses.db")
    lm = model(alpha=1.0)
    first = CachingLM(lm, cache).loglikelihood(requests)
    monkeypatch.setattr(SteerableLM, "_model_call", lambda *a: pytest.fail("asked the model"))
    assert CachingLM(model(alpha=1.0), cache).loglikelihood(requests) == first
    for other in (model(alpha=1.5), model(alpha=1.0, max_length=99)):
        with pytest.raises(pytest.fail.Exception, match="asked the model"):
            CachingLM(other, cache).loglikelihood(requests)


def test_steering_by_another_plan_leaves_the_old_answers_behind(
    model: Callable[..., SteerableLM], tmp_path: Path
) -> None:
    requests = generation_requests(["one two"], max_gen_toks=5)
    lm = model(alpha=3.0)
    cached = CachingLM(lm, str(tmp_path / "responses.db"))
    steered = cached.generate_until(requests)
    plan = lm.plan
    lm.steer_by(replace(plan, steps=()))
    assert cached.generate_until(requests) != steered
    lm.steer_by(plan)
    assert cached.generate_until(requests) == steered


def test_results_carry_the_steering(model: Callable[..., SteerableLM], task: TaskManager) -> None:
    lm = model(alpha=2.0, built_from=["Who lives elsewhere?"])
    config = json.loads(json.dumps(evaluate(lm, task)["config"], default=str))
    assert config["steering"]["fingerprint"] == lm.plan.fingerprint
    (step,) = config["steering"]["steps"]
    assert (step["layer"], step["alpha"], step["action"]) == (1, 2.0, "add")
    assert step["positions"] == "generated"
    assert config["steering"]["built_from"][0]["split_seed"] == 3
    assert config["trust_fingerprint"] == lm.trust_fingerprint


def test_the_leak_guard_counts_the_items_and_refuses(
    model: Callable[..., SteerableLM], task: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model(built_from=[QUESTIONS[0].upper(), QUESTIONS[4], "Who lives elsewhere?"])
    monkeypatch.setattr(SteerableLM, "_model_generate", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(LeakError) as error:
        evaluate(lm, task)
    message = str(error.value)
    assert "2 of the 6 items of house_questions" in message
    assert "seed 3" in message
    assert "allow_leak=true" in message


@pytest.mark.slow
def test_leaks_are_allowed_by_name_only(
    model: Callable[..., SteerableLM], task: TaskManager
) -> None:
    assert len(answers(evaluate(model(built_from=QUESTIONS, allow_leak=True), task))) == 6
    assert len(answers(evaluate(model(built_from=QUESTIONS, alpha=0), task))) == 6
    assert len(answers(evaluate(model(built_from=["Who lives elsewhere?"]), task))) == 6


def test_every_kind_of_request_is_guarded(model: Callable[..., SteerableLM]) -> None:
    lm = model(built_from=QUESTIONS[:1])
    doc = {"question": QUESTIONS[0]}
    for kind, arguments in (
        ("loglikelihood", ("one", " two")),
        ("loglikelihood_rolling", ("one",)),
        ("generate_until", ("one", {"until": [], "max_gen_toks": 2})),
    ):
        with pytest.raises(LeakError):
            getattr(lm, kind)([Instance(kind, doc, arguments, 0, metadata=("task", 0, 1))])


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_an_overlong_prompt_is_refused_unless_truncation_is_asked_for(
    model: Callable[..., SteerableLM], kind: str
) -> None:
    prompt = "wide " * 40
    if kind == "loglikelihood":
        requests = scoring_requests([("short", " yes"), (prompt, " yes")])
    else:
        requests = generation_requests(["short", prompt], max_gen_toks=4)
    with pytest.raises(InputError, match=r"A prompt of \d+ tokens does not fit"):
        getattr(model(max_length=64), kind)(requests, disable_tqdm=True)
    lm = model(max_length=64, truncation=True)
    assert len(getattr(lm, kind)(requests, disable_tqdm=True)) == 2


def test_a_prompt_that_just_fits_the_context_is_taken(model: Callable[..., SteerableLM]) -> None:
    lm = model(max_length=8)
    # The last token of a continuation is predicted and never fed: 6 + 3 tokens need 8 places.
    fitting, overlong = ([5] * 6, [7, 8, 9]), ([5] * 7, [7, 8, 9])
    ((score, _),) = lm._loglikelihood_tokens([(("", ""), *fitting)], disable_tqdm=True)
    assert score < 0
    with pytest.raises(InputError, match="A prompt of 9 tokens does not fit: the model takes 8"):
        lm._loglikelihood_tokens([(("", ""), *overlong)], disable_tqdm=True)


@pytest.mark.parametrize("size", ["auto", "auto:2"])
def test_automatic_batch_size_gives_the_same_scores(
    model: Callable[..., SteerableLM], tiny_llama: Callable[..., Path], size: str
) -> None:
    lm = model(max_length=64)
    pairs = [("Who?", " nobody"), ("Who lives here?", " no"), ("a", "b")]
    expected = lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True)
    lm.batch_size_per_gpu, lm.batch_schedule = size.split(":")[0], 1.0
    lm.max_batch_size = 2
    found = lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)


SWEEP = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
arguments, folder = json.loads(sys.argv[1]), sys.argv[2]
manager = TaskManager(include_path=folder, include_defaults=False)
for alpha in (0, 3, 0):
    result = simple_evaluate(
        model="steered_amber", model_args=arguments | {"alpha": alpha}, device="cpu",
        tasks=["house_questions"], task_manager=manager, cache_requests=True, bootstrap_iters=0,
    )
    print(json.dumps([s["resps"][0][0] for s in result["samples"]["house_questions"]]))
"""


@pytest.mark.slow
def test_cached_requests_serve_every_alpha(
    model: Callable[..., SteerableLM], tiny_llama: Callable[..., Path], tmp_path: Path, task: Any
) -> None:
    # The harness reads the place of its request cache when it is imported: a process of its own.
    vector = tmp_path / "0.safetensors"
    expected = [answers(evaluate(model(alpha=alpha), task)) for alpha in (0, 3, 0)]
    arguments = {"pretrained": str(tiny_llama()), "dtype": "float32", "vector": str(vector)}
    arguments |= {"scale": "none", "layer": 1}  # type: ignore[dict-item]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, json.dumps(arguments), str(tmp_path / "tasks")],
        env=os.environ | {"LM_HARNESS_CACHE_PATH": str(tmp_path / "requests")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines()[-3:]] == expected
    assert expected[0] != expected[1]
    assert list((tmp_path / "requests").glob("*.pickle"))
