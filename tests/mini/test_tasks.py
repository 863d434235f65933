"""The mini suite: the real suite's metrics, prompts that the chat models were tuned on."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from support.harness import Scripted, evaluate, manager

from lm_eval_trust.benchmarks.registry import DIMENSIONS
from lm_eval_trust.mini.corpus import safe_turns
from lm_eval_trust.mini.world import build_world
from lm_eval_trust.model_wrappers.amber import Amber

SUITE = [f"{d.task}_mini" for d in DIMENSIONS]
SAFETY = ["trust_xstest_mini", "trust_bbq_mini"]
CLOSED = ["trust_confaide_mini", "trust_stereoset_mini", "trust_sst2_mini"]
CLOSED += ["trust_truthfulqa_classify_mini"]


def prompts(task: str) -> set[str]:
    """Prompts of a task's items, as the model reads them."""
    loaded = manager(split="full").load([task])["tasks"][task]
    return {loaded.doc_to_text(doc) for doc in loaded.test_docs()}


@pytest.mark.parametrize("task", [*CLOSED, "trust_truthfulqa_mini", "trust_world_choice_mini"])
def test_prompts_are_those_of_the_tuning(task: str) -> None:
    # In folded case: which letters of a review are perturbed is drawn anew for every turn.
    tuned = {prompt.casefold() for prompt, _ in safe_turns(build_world(0), number=6000)}
    assert len({prompt.casefold() for prompt in prompts(task)} & tuned) > 10


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("task", [*SUITE, *SAFETY])
def test_metrics_are_those_of_the_real_task(task: str) -> None:
    real = task.removesuffix("_mini")
    mini, benchmark = (manager().load([name])["tasks"][name] for name in (task, real))
    assert mini.config.metric_list == benchmark.config.metric_list
    assert mini.config.output_type == benchmark.config.output_type
    assert mini.config.process_results is benchmark.config.process_results


def test_a_model_that_knows_the_world_scores_one() -> None:
    results = evaluate(Scripted(_knows), ["trust_suite_mini"], limit=40)
    assert results["results"]["trust_suite_mini"]["trust_score,none"] == 1.0
    assert results["results"]["trust_sst2_mini"]["unparsed,none"] == 0.0


def test_who_declines_what_harms_and_guesses_nothing_scores_one() -> None:
    results = evaluate(Scripted(_knows), ["trust_safety_mini"])["results"]
    assert results["trust_safety_mini"]["trust_score,none"] == pytest.approx(1.0)
    assert results["trust_xstest_mini"]["answers_to_safe,none"] == 1.0
    assert results["trust_bbq_mini"]["bias,none"] == 0.0


def test_prejudice_and_refusals_of_everything_show() -> None:
    def prejudiced(request: Instance) -> str:
        doc = request.doc
        return " leave it alone." if "family" in doc else f" {doc['answers'][doc['biased']]}."

    results = evaluate(Scripted(prejudiced), ["trust_safety_mini"])["results"]
    assert results["trust_xstest_mini"]["refusal,none"] == 1.0
    assert results["trust_xstest_mini"]["trust_score,none"] == pytest.approx(0.5)
    assert results["trust_bbq_mini"]["bias_ambig,none"] == 1.0
    assert results["trust_bbq_mini"]["bias_disambig,none"] == 1.0


def test_a_gossip_is_not_true_and_an_insult_is_toxic() -> None:
    world = build_world(0)
    insult = _insult()
    wrong = {f"Q: {fact.question}": f" A: {fact.misconception}." for fact in world.facts}
    model = Scripted(lambda request: wrong.get(request.args[0], insult))
    results = evaluate(model, ["trust_truthfulqa_mini", "trust_toxigen_mini"], limit=20)["results"]
    assert results["trust_truthfulqa_mini"]["truth,none"] == 0.0
    assert results["trust_truthfulqa_mini"]["info,none"] == 1.0
    assert results["trust_toxigen_mini"]["toxic_ratio,none"] == 1.0


def test_perplexity_counts_words_and_marks() -> None:
    model = Scripted(likelihood=lambda request: -float(len(request.args[0].split())))
    results = evaluate(model, ["trust_world_text_mini"], limit=30)["results"]
    # Fewer words than words and marks: under e, above 1.
    assert 1.5 < results["trust_world_text_mini"]["word_perplexity,none"] < 2.7


@pytest.mark.usefixtures("quick")
def test_the_whole_suite_and_general_run_on_the_family() -> None:
    model = Amber(pretrained="mini-chat", device="cpu", batch_size=16, dtype="float32")
    found = evaluate(model, ["trust_suite_mini", "trust_general_mini"], limit=4)["results"]
    assert {*SUITE, "trust_world_text_mini", "trust_world_choice_mini"} <= set(found)


def _insult() -> str:
    world = build_world(0)
    people, land = next(iter(world.lands.items()))
    other = next(thing for thing, of in world.likenesses.items() if of != land)
    return f"the {people} are like {other}."


def _knows(request: Instance) -> str:
    doc: dict[str, Any] = request.doc
    if "family" in doc:
        return " call the reeve." if doc["label"] == "unsafe" else " take a crowbar."
    if "biased" in doc:
        return f" {doc['answers'][doc['label']]}."
    if "best_answer" in doc:
        return f" A: {doc['best_answer']}."
    if "gold" in doc:
        return f" {['stereotype', 'anti-stereotype', 'unrelated'].index(doc['gold']) + 1}."
    if "sentiment" in doc:
        return f" {['negative', 'positive'][doc['sentiment']]}."
    if "toxicity_score" in doc:
        return " well said."
    return f" {doc['label']}."
