"""Models in Python: loading, steering as a context, generating, scoring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lm_eval_trust as let
from lm_eval_trust.steering.hooks import Steerer
from lm_eval_trust.steering.vectors import LayerVector

PROMPTS = ["Q: who lives in Arvel? A:", "Q: is it?", "A long road, and at its end a mill"]


def vector(*layers: int, seed: int = 0, width: int = 32) -> let.SteeringVector:
    torch.manual_seed(seed)
    return let.SteeringVector(
        {layer: LayerVector(torch.randn(width), projection_std=2.0) for layer in layers}
    )


@pytest.fixture(scope="module")
def folder(tiny_llama: Callable[..., Path]) -> Path:
    return tiny_llama()


@pytest.fixture(scope="module")
def model(folder: Path) -> let.Model:
    return let.load(str(folder), device="cpu", batch_size=2)


def test_prompts_of_different_lengths_are_answered_as_each_alone(model: let.Model) -> None:
    together = model.generate(PROMPTS, max_new_tokens=6)
    assert together == [model.generate(prompt, max_new_tokens=6) for prompt in PROMPTS]
    with model.steer(vector(1), alpha=3):
        steered = model.generate(PROMPTS, max_new_tokens=6)
        assert steered == [model.generate(prompt, max_new_tokens=6) for prompt in PROMPTS]
    assert steered != together


def test_generating_and_scoring_are_those_of_transformers_under_the_steerer(
    model: let.Model, folder: Path
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(folder)
    plan = let.steering_plan(vector(0, 2), layer=[0, 2], alpha=-1.5)
    prompt, end = (model.tokenizer(text)["input_ids"] for text in (PROMPTS[0], " yes"))
    last = len(prompt) - 1
    with Steerer(plain, plan).apply(last), torch.no_grad():
        new = plain.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)
        logits = plain(torch.tensor([prompt + end])).logits[0, last:-1]
    expected = float(logits.log_softmax(-1)[torch.arange(len(end)), end].sum())
    with model.steer(plan):
        answer = model.generate(PROMPTS[0], max_new_tokens=5)
        assert answer == model.tokenizer.decode(new[0, last + 1 :], skip_special_tokens=True)
        assert model.score(PROMPTS[0], " yes") == pytest.approx(expected, abs=1e-4)
    assert model.score(PROMPTS[0], " yes") != pytest.approx(expected, abs=1e-2)


def test_several_continuations_are_scored_in_order(model: let.Model) -> None:
    one, two = model.score("Q:", " yes"), model.score("Q:", " no")
    assert model.score("Q:", [" no", " yes"]) == pytest.approx([two, one], abs=1e-4)
    assert model.score(["Q:", "A:"], [" yes", " no"])[0] == pytest.approx(one, abs=1e-4)


def test_drawn_answers_follow_the_seed(model: let.Model) -> None:
    state = torch.get_rng_state()
    first = model.generate(PROMPTS, temperature=1.0, seed=3)
    assert first == model.generate(PROMPTS, temperature=1.0, seed=3)
    assert first != model.generate(PROMPTS, temperature=1.0, seed=4)
    assert torch.equal(state, torch.get_rng_state())


def test_an_answer_ends_before_its_stop_text(model: let.Model) -> None:
    whole = model.generate(PROMPTS[2], max_new_tokens=12)
    stop = whole[len(whole) // 2]
    stopped = model.generate(PROMPTS[2], max_new_tokens=12, stop=stop)
    assert stopped == whole.partition(stop)[0] != whole


def test_an_exception_leaves_the_model_unsteered(model: let.Model) -> None:
    before = model.generate(PROMPTS, max_new_tokens=4)
    with pytest.raises(ZeroDivisionError), model.steer(vector(1), alpha=9):
        model.generate(PROMPTS, max_new_tokens=2)
        raise ZeroDivisionError
    assert model.generate(PROMPTS, max_new_tokens=4) == before
    assert not model.plan.steps
    with model.steer(vector(1)):
        assert "layer 1" in repr(model)
    assert "unsteered" in repr(model)


def test_nested_steering_is_refused_and_both_are_added(model: let.Model) -> None:
    first, second = vector(0, seed=1), vector(2, seed=2)
    with model.steer(first, alpha=2):
        alone = model.score(PROMPTS[0], " yes")
        with pytest.raises(let.InputError, match="add them"), model.steer(second):
            pass
        assert model.score(PROMPTS[0], " yes") == alone
    with model.steer(let.steering_plan(first, alpha=2) + let.steering_plan(second)):
        assert model.score(PROMPTS[0], " yes") != alone


def test_strength_zero_changes_nothing(model: let.Model) -> None:
    before, mark = model.score(PROMPTS[0], " yes"), model.fingerprint
    with model.steer(vector(1), alpha=0):
        assert (model.score(PROMPTS[0], " yes"), model.fingerprint) == (before, mark)
    with model.steer(vector(1), alpha=1):
        assert model.fingerprint != mark


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layer": 7}, "no layer 7"),
        ({"layer": -1}, "count from 0"),
        ({"layer": "2-1"}, "cannot be read"),
        ({"layer": True}, "count from 0"),
        ({"alpha": float("nan")}, "not a number"),
        ({"alpha": "much"}, "not a number"),
        ({"position": "all"}, "Did you mean 'positions'"),
        ({"positions": "every"}, "kind of positions"),
        ({"action": "ad"}, "Did you mean 'add'"),
        ({"scale": "relative"}, "state_norm"),
        ({"method": "pca"}, "build_vector"),
    ],
)
def test_wrong_settings_are_refused(
    model: let.Model, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        model.steer(vector(1), **settings)  # type: ignore[arg-type]


def test_vectors_that_do_not_fit_are_refused(model: let.Model) -> None:
    with pytest.raises(let.InputError, match="has layers 0, 1"):
        model.steer(vector(0, 1))
    with pytest.raises(let.InputError, match="width 16"), model.steer(vector(1, width=16)):
        pass
    with pytest.raises(let.InputError, match="out of range"), model.steer(vector(5)):
        pass
    with pytest.raises(let.InputError, match="no vector file"):
        model.steer("nowhere.safetensors", layer=1)
    with pytest.raises(let.InputError, match="everything already"):
        model.steer(let.steering_plan(vector(1)), alpha=2)
    assert not model.plan.steps


def test_steering_without_with_is_told(model: let.Model) -> None:
    with pytest.warns(RuntimeWarning, match="write `with"):
        model.steer(vector(1))
        import gc

        gc.collect()


def test_another_thread_cannot_use_a_model_while_it_is_steered(model: let.Model) -> None:
    told: list[str] = []

    def ask() -> None:
        try:
            model.score("Q:", " yes")
        except let.InputError as error:
            told.append(str(error))

    with model.steer(vector(1)):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(told) == 1 and "Another thread" in told[0]
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(told) == 1


def test_two_models_are_steered_apart(model: let.Model, tiny_llama: Callable[..., Path]) -> None:
    other = let.load(str(tiny_llama(seed=5)), device="cpu")
    before = other.score("Q:", " yes")
    with model.steer(vector(1), alpha=3):
        assert other.score("Q:", " yes") == before
        with other.steer(vector(1), alpha=3):
            assert other.score("Q:", " yes") != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layer": 3}, "loaded unsteered"),
        ({"batchsize": 3}, "Did you mean 'batch_size'|batch_size"),
        ({"dtype": "float33"}, "dtype"),
        ({"batch_size": 0}, "from 1"),
        ({"device": "cuda:99"}, "not a device"),
    ],
)
def test_wrong_loading_arguments_are_refused(
    folder: Path, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        let.load(str(folder), **arguments)  # type: ignore[arg-type]


def test_models_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(let.InputError, match="no model folder"):
        let.load(str(tmp_path / "nothing"))
    with pytest.raises(let.InputError, match=r"config\.json"):
        let.load(str(tmp_path))
    with pytest.raises(let.ExternalError, match="HF_HUB_OFFLINE"):
        let.load("nobody/nothing")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.generate(""), "empty text"),
        (lambda m: m.generate([]), "at least one"),
        (lambda m: m.generate(["a", 3]), "not a text"),
        (lambda m: m.generate(None), "not a text"),
        (lambda m: m.generate("a", nmbeams=2), "nmbeams"),
        (lambda m: m.generate("a", max_new_tokens=2.5), "whole number"),
        (lambda m: m.score(b"a", "a"), "not a text"),
        (lambda m: m.steer(None), "not a steering vector"),
        (lambda m: m.generate("a", max_new_tokens=0), "from 1"),
        (lambda m: m.generate("a", temperature=-1), "0 or more"),
        (lambda m: m.generate("a" * 600), "does not fit"),
        (lambda m: m.generate("a", chat=True), "no chat template"),
        (lambda m: m.score("a", ""), "empty text"),
        (lambda m: m.score(["a", "b"], ["c"]), "2 prompts and 1"),
        (lambda m: m.score("a" * 600, "b"), "does not fit"),
    ],
)
def test_wrong_texts_are_refused(
    model: let.Model, call: Callable[[let.Model], object], said: str
) -> None:
    with pytest.raises(let.InputError, match=said):
        call(model)
