from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from inspect_ai.model import GenerateConfig, get_model
from lm_eval.api.instance import Instance
from support.inspect_tasks import QUESTIONS, harbour, lamps

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.inspect_bridge.answering import Answerer, Settings
from lm_eval_trust.inspect_bridge.provider import settings_of
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.steering.vectors import LayerVector, SteeringVector

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def model(tiny_llama: Callable[..., Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_llama(layers=3), tmp_path / "llama"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def vector(model: Path, tmp_path: Path) -> Path:
    from transformers import AutoConfig

    width = AutoConfig.from_pretrained(model).hidden_size
    generator = torch.Generator().manual_seed(1)
    path = tmp_path / "lamps.safetensors"
    SteeringVector({1: LayerVector(torch.randn(width, generator=generator))}).save(path)
    return path


def own_answers(folder: Path, prompts: list[str], tokens: int, **steering: Any) -> list[str]:
    lm = Amber(str(folder), device="cpu", **steering)
    arguments = {"until": [], "max_gen_toks": tokens, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, arguments), i) for i, text in enumerate(prompts)]
    return list(lm.generate_until(asked, disable_tqdm=True))


def test_answers_are_those_of_our_own_generation(
    model: Path, vector: Path, inspected: Callable[..., Any]
) -> None:
    steering = {"vector": str(vector), "layer": 1, "alpha": 20, "scale": "unit"}
    name = f"lm_eval_trust/{model}"
    plain = inspected(lamps(), name, max_tokens=8)
    steered = inspected(lamps(), name, model_args=steering, max_tokens=8)
    prompts = [f"<user>{question}<assistant>" for question, _ in QUESTIONS]
    for log, arguments in ((plain, {}), (steered, steering)):
        assert log.status == "success"
        found = [sample.output.completion for sample in log.samples]
        assert found == own_answers(model, prompts, 8, **arguments)
    assert [s.output.completion for s in plain.samples] != [
        s.output.completion for s in steered.samples
    ]


def test_the_steering_is_in_the_log(
    model: Path, vector: Path, inspected: Callable[..., Any]
) -> None:
    steering = {"vector": str(vector), "layer": 1, "alpha": 6, "scale": "unit"}
    log = inspected(harbour(), f"lm_eval_trust/{model}", model_args=steering, max_tokens=4)
    assert log.eval.model_args["alpha"] == 6
    record = log.samples[0].output.metadata["lm_eval_trust"]
    plan = Amber(str(model), device="cpu", **steering).plan
    assert record["steering"]["fingerprint"] == plan.fingerprint
    assert record["steering"]["steps"][0]["layer"] == 1
    usage = log.samples[0].output.usage
    assert usage.output_tokens <= 4
    assert usage.input_tokens > usage.output_tokens


def test_batches_give_the_same_answers(model: Path, inspected: Callable[..., Any]) -> None:
    name = f"lm_eval_trust/{model}"
    alone = inspected(lamps(), name, max_tokens=6)
    together = inspected(lamps(), name, max_tokens=6, model_args={"batch_size": 4})
    assert [s.output.completion for s in alone.samples] == [
        s.output.completion for s in together.samples
    ]


@pytest.mark.slow
def test_sampling_follows_from_its_seed(model: Path, inspected: Callable[..., Any]) -> None:
    def answers(seed: int, connections: int) -> list[str]:
        log = inspected(
            lamps(),
            f"lm_eval_trust/{model}",
            max_tokens=6,
            temperature=1.0,
            seed=seed,
            epochs=2,
            max_connections=connections,
        )
        return sorted(f"{s.id} {s.output.completion}" for s in log.samples)

    first = answers(1, 1)
    assert answers(1, 8) == first
    assert answers(2, 1) != first
    assert len(set(first)) > len(QUESTIONS)


def test_stop_sequences_end_an_answer(model: Path) -> None:
    answerer = Answerer(Amber(str(model), device="cpu"))
    whole = answerer.answer("<user>lamp<assistant>", Settings(12))
    stop = whole[2:4]
    cut = answerer.answer("<user>lamp<assistant>", Settings(12, stop=(stop,)))
    assert cut == whole[: whole.index(stop)]


def test_one_request_at_fault_leaves_the_others(model: Path) -> None:
    class Touchy:
        batch_size = 4
        calls = 0

        def generate_until(self, asked: list[Instance], disable_tqdm: bool) -> list[str]:
            self.calls += 1
            if any(each.args[0] == "bad" for each in asked):
                raise InputError("no")
            return [each.args[0].upper() for each in asked]

    lm = Touchy()
    answerer = Answerer(lm)
    requests = []
    for text in ("a", "bad", "b"):
        # Waiting as they would beside a request that is being answered.
        requests.append(answerer_request(answerer, text))
    assert answerer.answer("c", Settings(3)) == "C"
    assert [r.answer for r in requests] == ["A", None, "B"]
    assert str(requests[1].error) == "no"
    assert lm.calls == 5


def answerer_request(answerer: Answerer, text: str) -> Any:
    from lm_eval_trust.inspect_bridge.answering import _Request

    request = _Request(text, Settings(3), None)
    answerer._waiting.append(request)
    return request


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"logprobs": True}, "do not take logprobs"),
        ({"num_choices": 3}, "do not take num_choices"),
        ({"frequency_penalty": 0.5}, "do not take frequency_penalty"),
        ({"reasoning_effort": "high"}, "do not take reasoning_effort"),
    ],
)
def test_settings_that_would_change_nothing(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings_of(GenerateConfig(**config))


def test_settings_of_inspect_ai_are_taken() -> None:
    found = settings_of(
        GenerateConfig(max_tokens=9, temperature=0.7, top_p=0.9, stop_seqs=["x"], seed=3, timeout=9)
    )
    assert found == Settings(9, 0.7, top_p=0.9, stop=("x",), seed=3)
    assert found.arguments == {
        "until": ["x"],
        "max_gen_toks": 9,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    assert settings_of(GenerateConfig()) == Settings(512)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layr": 3}, "Unknown model argument 'layr'"),
        ({"wrapper": "amper"}, "Unknown model 'amper'"),
        ({"alpha": 2}, "names either vector=FILE or dimension=NAME"),
    ],
)
def test_arguments_that_do_not_fit(model: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        get_model(f"lm_eval_trust/{model}", memoize=False, **arguments)


def test_tools_and_pictures_are_refused(model: Path) -> None:
    import asyncio

    from inspect_ai.model import ChatMessageUser, ContentImage
    from inspect_ai.tool import ToolInfo

    api = get_model(f"lm_eval_trust/{model}", memoize=False).api
    tool = ToolInfo(name="lamp", description="lights it")
    with pytest.raises(InputError, match="take no tools"):
        asyncio.run(api.generate([ChatMessageUser(content="x")], [tool], "auto", GenerateConfig()))
    picture = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AA")])
    with pytest.raises(InputError, match="this message has image"):
        asyncio.run(api.generate([picture], [], "none", GenerateConfig()))
