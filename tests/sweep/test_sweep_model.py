"""The answers of a sweep against those of each configuration evaluated alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support.conformance import (
    PROMPTS,
    generation_requests,
    random_vector,
    rolling_requests,
    scoring_requests,
)

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.store import KeyedStore
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.plan import SteeringPlan as Plan
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector
from lm_eval_trust.sweep.sweep_model import SweepLM, load_sweep_model, score

VECTOR = random_vector(32, (0, 1, 2), norm=6.0, seed=1)
PLANS = [
    Plan(),
    *(
        Plan.from_vector(VECTOR, layers, alpha=alpha, positions=positions, scale="none")
        for layers, alpha, positions in (
            ([0], 1.0, "generated"),
            ([1], 0.5, "generated"),
            ([1], 2.0, "generated"),
            ([1], 1.0, "all"),
            ([2], 1.0, "last_prompt"),
            ([0, 2], 1.0, "generated"),
        )
    ),
]
PAIRS = [(prompt, answer) for prompt in PROMPTS for answer in (" yes", " no, never", "1")]
REQUESTS = {
    "generate_until": generation_requests(PROMPTS, max_gen_toks=6),
    "stopped": generation_requests(PROMPTS[:5], max_gen_toks=12, until=["e", "\n"]),
    "loglikelihood": scoring_requests(PAIRS),
    "loglikelihood_rolling": rolling_requests(PROMPTS),
}


@pytest.fixture
def load(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> Iterator[Callable[..., tuple[SweepLM, KeyedStore]]]:
    """Factory of a model that is to be swept, with the place of its answers."""
    opened: list[KeyedStore] = []

    def build(**arguments: Any) -> tuple[SweepLM, KeyedStore]:
        settings = {"pretrained": str(tiny_llama()), "dtype": "float32", "device": "cpu"}
        model = load_sweep_model("amber", settings | {"batch_size": 4} | arguments)
        opened.append(KeyedStore(tmp_path / "answers.sqlite", fingerprint(dict(model.identity))))
        return model, opened[-1]

    yield build
    for store in opened:
        store.close()


def ask(model: SweepLM, kind: str) -> list[Any]:
    method = "generate_until" if kind == "stopped" else kind
    answers: list[Any] = getattr(model, method)(REQUESTS[kind], disable_tqdm=True)
    return answers


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("batch_size", [3, 8])
def test_answers_are_those_of_each_configuration_alone(
    load: Callable[..., tuple[SweepLM, KeyedStore]], kind: str, batch_size: int
) -> None:
    model, answers = load(batch_size=batch_size)
    alone = []
    for plan in PLANS:
        model.steer_by(plan)
        alone.append(ask(model, kind))
    assert len({str(found) for found in alone}) == len(PLANS)
    model.sweep(PLANS, answers)
    for plan, expected in zip(PLANS, alone, strict=True):
        model.steer_by(plan)
        found = ask(model, kind)
        if kind == "loglikelihood":
            assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
            found, expected = [[value for value, _ in part] for part in (found, expected)]
        if "loglikelihood" in kind:
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)
        else:
            assert found == expected


def test_answers_are_found_again_by_another_process(
    load: Callable[..., tuple[SweepLM, KeyedStore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, answers = load()
    model.sweep(PLANS[:3], answers)
    model.steer_by(PLANS[1])
    first = [ask(model, kind) for kind in REQUESTS]
    answers.close()
    again, store = load()
    again.sweep(PLANS[:3], store)
    again.steer_by(PLANS[1])
    monkeypatch.setattr(again.model, "forward", None)
    assert [ask(again, kind) for kind in REQUESTS] == first


def test_only_what_is_lacking_is_computed(
    load: Callable[..., tuple[SweepLM, KeyedStore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, answers = load()
    model.sweep(PLANS[:2], answers)
    ask(model, "loglikelihood")
    computed: list[int] = []

    def counting(network: Any, plans: list[SteeringPlan], *args: Any, **kwargs: Any) -> Any:
        computed.append(len(plans))
        return score(network, plans, *args, **kwargs)

    monkeypatch.setattr("lm_eval_trust.sweep.sweep_model.score", counting)
    model.sweep(PLANS[:3], answers)
    ask(model, "loglikelihood")
    # The one that is new, beside the unsteered one that divergence is measured from.
    assert set(computed) == {2}


def test_sampled_requests_are_answered_by_each_configuration_itself(
    load: Callable[..., tuple[SweepLM, KeyedStore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, answers = load()
    model.sweep(PLANS, answers)
    plain: list[int] = []
    generate = HFLM._model_generate

    def counting(self: HFLM, context: Any, *args: Any, **kwargs: Any) -> Any:
        plain.append(len(context))
        return generate(self, context, *args, **kwargs)

    monkeypatch.setattr(HFLM, "_model_generate", counting)
    model.generate_until(
        generation_requests(PROMPTS, do_sample=True, temperature=1.0, max_gen_toks=4),
        disable_tqdm=True,
    )
    assert sum(plain) == len(PROMPTS)


def test_divergence_is_that_of_the_logits(
    load: Callable[..., tuple[SweepLM, KeyedStore]],
) -> None:
    model, answers = load()
    model.sweep(PLANS[:3], answers)
    model.steer_by(PLANS[2])
    ask(model, "loglikelihood")
    expected = 0.0
    requests = [(model.tok_encode(p), model.tok_encode(a)) for p, a in _split(PAIRS)]
    for context, answer in requests:
        import torch

        tokens = torch.tensor([(context + answer)[:-1]])
        found = []
        for plan in (PLANS[0], PLANS[2]):
            model._plans = ()
            model.steer_by(plan)
            with torch.no_grad(), model._steering(len(context) - 1):
                logits = model.model(tokens).logits[0, len(context) - 1 :].double()
            found.append(logits.log_softmax(-1))
        expected += float((found[0].exp() * (found[0] - found[1])).sum())
    mean = expected / sum(len(answer) for _, answer in requests)
    model._plans = PLANS[:3]
    assert model.take_divergence() == pytest.approx(mean, rel=1e-4)
    assert model.take_divergence() == 0.0


def _split(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Move trailing spaces of a context to its continuation, as the harness does."""
    moved = []
    for context, continuation in pairs:
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation = context[-spaces:] + continuation
            context = context[:-spaces]
        moved.append((context, continuation))
    return moved


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("proxy_amber", {}, "Unknown model to sweep 'proxy_amber'"),
        ("amber", {"vector": "missing.safetensors"}, "no vector file"),
    ],
)
def test_models_that_cannot_be_swept_are_refused(
    tiny_llama: Callable[..., Path], name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_sweep_model(name, {"pretrained": str(tiny_llama()), **arguments})


def test_steering_among_the_arguments_is_refused(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "v.safetensors"
    VECTOR.save(file)
    arguments = {"pretrained": str(tiny_llama()), "vector": str(file), "layer": 1, "scale": "none"}
    with pytest.raises(InputError, match="The sweep does the steering"):
        load_sweep_model("amber", {**arguments, "device": "cpu"})


def test_an_adapter_is_swept_as_it_is_evaluated(
    tiny_llama: Callable[..., Path], random_adapter: Callable[[Path], Path], tmp_path: Path
) -> None:
    base = tiny_llama()
    arguments = {"pretrained": str(base), "dtype": "float32", "device": "cpu", "batch_size": 4}
    plain = load_sweep_model("amber", arguments)
    model = load_sweep_model("lora_amber", {**arguments, "adapter": str(random_adapter(base))})
    alone = []
    for plan in PLANS[:4]:
        model.steer_by(plan)
        plain.steer_by(plan)
        alone.append(ask(model, "generate_until"))
        assert alone[-1] != ask(plain, "generate_until")
    with KeyedStore(tmp_path / "answers.sqlite", fingerprint(dict(model.identity))) as answers:
        model.sweep(PLANS[:4], answers)
        for plan, expected in zip(PLANS, alone, strict=False):
            model.steer_by(plan)
            assert ask(model, "generate_until") == expected


@pytest.mark.slow
def test_a_real_model_gives_the_same_answers(smollm2: Path, tmp_path: Path) -> None:
    vector = random_vector(576, (12, 20), norm=40.0, seed=2)
    plans = [
        Plan.from_vector(vector, [layer], alpha=1.0, positions=positions, scale="none")
        for layer, positions in ((12, "generated"), (20, "all"))
    ]
    arguments = {"pretrained": str(smollm2), "dtype": "float32", "device": "cpu", "batch_size": 2}
    model = load_sweep_model("amber", arguments)
    wanted = generation_requests(PROMPTS[:2], max_gen_toks=5)
    alone = []
    for plan in plans:
        model.steer_by(plan)
        alone.append(model.generate_until(wanted, disable_tqdm=True))
    assert alone[0] != alone[1]
    with KeyedStore(tmp_path / "answers.sqlite", fingerprint(dict(model.identity))) as answers:
        model.sweep(plans, answers)
        for plan, expected in zip(plans, alone, strict=True):
            model.steer_by(plan)
            assert model.generate_until(wanted, disable_tqdm=True) == expected


def test_a_longer_answer_is_not_taken_from_a_shorter_one(
    load: Callable[..., tuple[SweepLM, KeyedStore]],
) -> None:
    model, answers = load()
    lengths = {}
    for new in (2, 6):
        model.sweep([], answers)
        requests = generation_requests(PROMPTS[:3], max_gen_toks=new)
        alone = model.generate_until(requests, disable_tqdm=True)
        model.sweep(PLANS[:2], answers)
        lengths[new] = model.generate_until(requests, disable_tqdm=True)
        assert lengths[new] == alone
    assert lengths[2] != lengths[6]


def test_a_score_belongs_to_its_prompt_end(
    load: Callable[..., tuple[SweepLM, KeyedStore]],
) -> None:
    """The same tokens are steered from another place on where another part is the prompt."""
    model, answers = load()
    tokens = model.tok_encode("Who rules the island of Brindle?")
    request = (("", ""), tokens[:5], tokens[5:])
    model.sweep([PLANS[2]], answers)
    model.steer_by(PLANS[2])
    scores = []
    for end in (0, 4):
        model._rolling_ends = iter([end])
        scores.append(model._loglikelihood_tokens([request])[0][0])
        model._rolling_ends = None
    model.sweep([], answers)
    for end, found in zip((0, 4), scores, strict=True):
        model._rolling_ends = iter([end])
        assert found == pytest.approx(model._loglikelihood_tokens([request])[0][0], abs=1e-4)
        model._rolling_ends = None


@pytest.mark.parametrize("apart", ["", "for this test"])
@pytest.mark.parametrize("kind", ["generate_until", "stopped"])
def test_generated_answers_that_are_not_finite_are_counted(
    load: Callable[..., tuple[SweepLM, KeyedStore]], apart: str, kind: str
) -> None:
    """Each of two layers adds what float32 can hold; their sum it cannot."""
    huge = LayerVector(torch.eye(32)[0] * 1e18, 1.0, 0.0)
    broken = Plan.from_vector(SteeringVector({0: huge, 1: huge}), [0, 1], alpha=3e20, scale="none")
    model, answers = load()
    model.steer_by(PLANS[1])
    alone = ask(model, kind)
    model.steer_by(broken)
    with pytest.raises(InputError, match="logits are NaN or infinite"):
        ask(model, kind)
    model.apart = apart
    model.sweep([Plan(), broken, PLANS[1]], answers)
    for _ in range(2):  # computed, then found
        model.steer_by(broken)
        assert set(ask(model, kind)) == {""}
        assert (model.take_broken(), model.take_broken()) == (len(REQUESTS[kind]), 0)
        model.steer_by(PLANS[1])
        assert ask(model, kind) == alone and model.take_broken() == 0


def test_sampled_answers_of_a_sweep_that_are_not_finite_are_counted_too(
    load: Callable[..., tuple[SweepLM, KeyedStore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, answers = load()
    model.sweep([Plan()], answers)
    head = model.model.lm_head
    nothing = torch.full_like(head.weight.T, torch.nan)
    monkeypatch.setattr(head, "forward", lambda states: states @ nothing)
    model.generate_until(generation_requests(PROMPTS[:3], num_beams=2), disable_tqdm=True)
    assert model.take_broken() == 3
