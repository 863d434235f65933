"""Inside vLLM, requests get the answers of ``steered_amber``; `make vllm` makes what it needs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.actions import ACTIONS
from lm_eval_trust.steering.plan import SteeringPlan, SteeringStep

pytest.importorskip("vllm", reason="`make vllm` makes the environment with vLLM")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_batched_tokens": 64,  # Prompts are read in parts.
    "max_num_seqs": 16,
    "num_gpu_blocks_override": 40,  # Few enough that requests are preempted.
}
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small village by the sea, and everyone who lived there",
    "Question: Is water wet? Answer:",
    "I think that",
    "A list of three animals: a dog,",
    "One",
)
_random = torch.Generator().manual_seed(8)


@pytest.fixture(scope="module")
def both(
    smollm2: Path, engine_in_this_process: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any]:
    """The model in vLLM and the same on transformers, unsteered."""
    vector = tmp_path_factory.mktemp("vector") / "v_layer0.pt"
    torch.save(_vector(), vector)
    unsteered = {"vector": str(vector), "layer": 0, "alpha": 0, "scale": "none"}
    inside = get_model("steered_vllm")(pretrained=str(smollm2), **unsteered, **ENGINE)
    beside = get_model("amber")(
        pretrained=str(smollm2), dtype="float32", device="cpu", batch_size=8
    )
    return inside, beside


def _vector() -> torch.Tensor:
    return torch.randn(576, generator=_random)


def _step(layer: int, action: str, positions: str) -> SteeringStep:
    parts = {name: _vector() for name in ACTIONS[action].parts}
    alpha = {"add": 0.3, "rotate": 25.0}.get(action, 1.0)
    target = 20.0 if ACTIONS[action].needs_target else None
    return SteeringStep(layer, _vector(), alpha, action, positions, target, parts=parts)


PLANS = [SteeringPlan()]
PLANS += [
    SteeringPlan((_step(layer, action, positions),))
    for layer, (action, positions) in zip(
        itertools.cycle((0, 12, 29)),
        itertools.product(
            ("add", "clamp", "ablate", "erase", "rotate"), ("all", "generated", "last_prompt")
        ),
        strict=False,
    )
]
PLANS.append(
    SteeringPlan(
        (_step(5, "add", "all"), _step(15, "clamp", "generated"), _step(29, "add", "last_prompt"))
    )
)


def _generations() -> list[Instance]:
    settings = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    return [Instance("generate_until", {}, (p, settings), i) for i, p in enumerate(PROMPTS)]


def _continuations() -> list[Instance]:
    pairs = itertools.product(PROMPTS, (" Paris and then", " no", " the end of it all."))
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def _texts() -> list[Instance]:
    return [Instance("loglikelihood_rolling", {}, (p,), i) for i, p in enumerate(PROMPTS)]


@pytest.mark.model
@pytest.mark.parametrize("number", range(len(PLANS)))
def test_answers_are_those_of_the_hooks(both: tuple[Any, Any], number: int) -> None:
    for model in both:
        model.steer_by(PLANS[number])
    inside, beside = both
    for _ in range(2):  # The second time parts of the prompts come from the prefix cache.
        assert inside.generate_until(_generations(), True) == beside.generate_until(
            _generations(), True
        )
        for (found, greedy), (wanted, as_greedy) in zip(
            inside.loglikelihood(_continuations(), True),
            beside.loglikelihood(_continuations(), True),
            strict=True,
        ):
            assert found == pytest.approx(wanted, abs=5e-4)
            assert greedy == as_greedy
    assert inside.loglikelihood_rolling(_texts(), True) == pytest.approx(
        beside.loglikelihood_rolling(_texts(), True), abs=2e-3
    )


@pytest.mark.model
def test_plans_do_not_mix_in_one_batch(both: tuple[Any, Any]) -> None:
    from vllm import SamplingParams, TokensPrompt

    from lm_eval_trust.engine.requests import RequestSteering, default_folder, publish

    inside, beside = both
    prompts, parameters, wanted = [], [], []
    for plan in PLANS:
        publish(plan, default_folder())
        beside.steer_by(plan)
        wanted += beside.generate_until(_generations(), True)
        name = plan.fingerprint if plan.active_steps else ""
        for prompt in PROMPTS:
            prompts.append(TokensPrompt(prompt_token_ids=inside.tok_encode(prompt)))
            parameters.append(
                SamplingParams(
                    temperature=0,
                    max_tokens=12,
                    stop=["\n\n"],
                    skip_special_tokens=False,
                    spaces_between_special_tokens=False,
                    extra_args=RequestSteering(name).arguments(),
                )
            )
    outputs = inside.model.generate(prompts, sampling_params=parameters, use_tqdm=False)
    texts = [output.outputs[0].text.split("<|im_end|>")[0] for output in outputs]
    assert texts == [text.split("<|im_end|>")[0] for text in wanted]


@pytest.mark.model
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"plan": "0123456789abcdef"}', "knows no steering"),
        ('{"layer": 3}', "has the keys"),
        ('{"prompt_end": -7}', "is no position"),
    ],
)
def test_a_wrong_request_is_an_error_of_that_request(
    both: tuple[Any, Any], given: str, words: str
) -> None:
    from vllm import SamplingParams, TokensPrompt
    from vllm.exceptions import VLLMValidationError

    from lm_eval_trust.engine.requests import ARGUMENT

    inside = both[0]
    prompt = TokensPrompt(prompt_token_ids=[5, 6, 7])
    with pytest.raises(VLLMValidationError, match=words):
        inside.model.generate(
            [prompt], SamplingParams(max_tokens=1, extra_args={ARGUMENT: given}), use_tqdm=False
        )
    inside.steer_by(SteeringPlan())
    assert inside.model.generate([prompt], SamplingParams(max_tokens=1), use_tqdm=False)


@pytest.mark.model
def test_a_plan_that_does_not_fit_is_refused(both: tuple[Any, Any]) -> None:
    inside = both[0]
    before = inside.plan
    with pytest.raises(InputError, match="Layer 99 is out of range"):
        inside.steer_by(SteeringPlan((SteeringStep(99, _vector()),)))
    with pytest.raises(InputError, match="width 8"):
        inside.steer_by(SteeringPlan((SteeringStep(1, torch.ones(8)),)))
    assert inside.plan is before


@pytest.mark.model
def test_results_say_what_amber_s_say(both: tuple[Any, Any]) -> None:
    inside, beside = both
    for model in both:
        model.steer_by(PLANS[1])
    found, wanted = inside.get_model_info(), beside.get_model_info()
    assert found["steering"] == wanted["steering"]
    assert found["trust_fingerprint"] != wanted["trust_fingerprint"], "another engine"
    inside.steer_by(PLANS[2])
    assert inside.get_model_info()["trust_fingerprint"] != found["trust_fingerprint"]
