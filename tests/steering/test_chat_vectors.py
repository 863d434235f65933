"""Vectors from statements that a chat template writes as turns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_trust import cli
from lm_eval_trust.benchmarks.registry import find_dimension
from lm_eval_trust.benchmarks.statements import USER_TURN, Exchange, Statement, Statements
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.chat_turns import template_mismatch
from lm_eval_trust.models.chat import encode_turns
from lm_eval_trust.models.sources import ModelIdentity
from lm_eval_trust.steering import build as building
from lm_eval_trust.steering import shuffled
from lm_eval_trust.steering.build import build_vector, cached_vector
from lm_eval_trust.steering.spec import SteeringSpec
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }} [end]\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def towns(dimension: str = "reliability", **settings: Any) -> Statements:
    """Statements that answer a question, and some that answer none."""
    items = []
    for town in range(16):
        for label, place in enumerate(("in the hills", "by the sea")):
            asked = Exchange(f"Where is town {town}?", f"It lies {place}.") if town % 2 else None
            text = f"Town {town} lies {place}."
            items.append(Statement(text, label, str(town), exchange=asked))
    return Statements(find_dimension(dimension), "official", tuple(items), settings)


@pytest.fixture
def chatting(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    made = deepcopy(tokenizer)
    made.chat_template = TEMPLATE
    return made


@pytest.fixture
def folder(
    tiny_llama: Callable[..., Path], chatting: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    made = tmp_path / "chatting"
    AutoModelForCausalLM.from_pretrained(tiny_llama()).save_pretrained(made)
    chatting.save_pretrained(made)
    return made


def build(folder: Path, **changes: Any) -> SteeringVector:
    settings: dict[str, Any] = {"chat_template": "So?", "progress": False}
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    identity = ModelIdentity("tiny", "1")
    settings |= {"layers": [1], "identity": identity}
    return build_vector(model, tokenizer, towns(), **settings | changes)


def test_a_statement_is_read_at_its_own_last_token(folder: Path) -> None:
    """Against the whole chat read by the whole model, at the last token before the turn's end."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    statements = towns()
    used = statements.select(statements.partition().train)
    states = []
    for item in used.items:
        user = item.exchange.question if item.exchange else "So?"
        answer = item.exchange.answer if item.exchange else item.text
        text = f"[user] {user} [end]\n[assistant] {answer}"
        whole = tokenizer(f"{text} [end]\n", add_special_tokens=False)["input_ids"]
        last = len(tokenizer(text, add_special_tokens=False)["input_ids"]) - 1
        assert tokenizer.decode(whole[: last + 1]).endswith(answer)
        with torch.no_grad():
            found = model(torch.tensor([whole]), output_hidden_states=True).hidden_states
        states.append(found[2][0, last].numpy().astype(np.float64))
    high, low = (np.mean(np.array(states)[used.labels == label], axis=0) for label in (1, 0))
    direction = build(folder).layer(1).direction.numpy()
    np.testing.assert_allclose(direction, high - low, rtol=1e-3, atol=1e-5)


def test_provenance_and_shuffled_labels_remember_the_template(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "load_statements", towns)
    settings: dict[str, Any] = {"dimension": "reliability", "layers": [1], "source": str(folder)}
    plain, chat, other = (
        cached_vector(**settings, chat_template=turn) for turn in (None, "So?", "And?")
    )
    assert chat.provenance and chat.provenance.settings["chat_template"] == "So?"
    assert plain.provenance and "chat_template" not in plain.provenance.settings
    assert not torch.allclose(plain.layer(1).direction, chat.layer(1).direction)
    assert not torch.equal(other.layer(1).direction, chat.layer(1).direction)
    torch.testing.assert_close(chat.layer(1).direction, build(folder).layer(1).direction)

    # Where a model is asked for by its dimension.
    wanted = SteeringSpec(dimension="reliability", source=str(folder), layer=1, chat_template="So?")
    assert torch.equal(wanted.load().layer(1).direction, chat.layer(1).direction)
    assert wanted.recipe()["chat_template"] == "So?"

    # Labels that are permuted to themselves give the same vector, read through the template.
    monkeypatch.setattr(shuffled, "load_statements", towns)
    monkeypatch.setattr(shuffled, "permuted_labels", lambda labels, groups, random: labels)
    again = shuffled.shuffled_vector(chat, str(folder), layers=[1], seed=0)
    torch.testing.assert_close(again.layer(1).direction, chat.layer(1).direction)


@pytest.mark.parametrize(
    ("template", "answer", "message"),
    [
        (None, "Yes.", "has no chat template"),
        ("{{ raise_exception('no content') }}", "Yes.", "cannot write a user's turn.*no content"),
        ("{{ messages[0]['content'] }}", "Yes.", "cannot write a user's turn"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "Yes.", "cannot write"),
        ("{{ nothing", "Yes.", "cannot write a user's turn"),
        (TEMPLATE, " \n", "An empty statement"),
        (TEMPLATE, "loom " * 600, "tokens, the model reads at most"),
    ],
)
def test_templates_that_cannot_be_used_are_refused(
    folder: Path, template: str | None, answer: str, message: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        encode_turns(model, tokenizer, [("So?", answer)])


def test_an_empty_turn_of_the_user_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="user's turn of the chat template is empty"):
        build(folder, chat_template=" ")


def test_the_command_takes_a_turn_or_its_own(
    folder: Path,
    tiny_llama: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    csv = tmp_path / "towns.csv"
    lines = [f"{item.text},{item.label},{item.group}" for item in towns().items]
    csv.write_text("\n".join(["statement,label,group", *lines]), encoding="utf-8")
    out = tmp_path / "v.safetensors"
    options = ["--dimension", "reliability", "--layers", "1", "--source", str(csv)]
    command = ["vector", "build", *options, "--out", str(out), "--model"]
    for given, expected in ((["--chat-template"], USER_TURN), (["--chat-template", "So?"], "So?")):
        assert cli.main([*command, str(folder), *given]) == 0
        provenance = load_vector(out).provenance
        assert provenance and provenance.settings["chat_template"] == expected
    assert "agreement" in capsys.readouterr().out
    assert cli.main([*command, str(tiny_llama()), "--chat-template"]) == 2
    assert "has no chat template; leave out --chat-template" in capsys.readouterr().err


def test_vectors_and_prompts_that_are_written_differently_are_told(
    chatting: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    chat, plain = (build(folder, chat_template=turn).provenance for turn in ("So?", None))
    assert chat is not None and plain is not None
    prompt = chatting.apply_chat_template(
        [{"role": "user", "content": "Where?"}], tokenize=False, add_generation_prompt=True
    )
    assert "build it without --chat-template" in str(
        template_mismatch([chat], ["Where?"], chatting)
    )
    assert "build it with --chat-template" in str(template_mismatch([plain], [prompt], chatting))
    assert template_mismatch([chat], [prompt], chatting) is None
    assert template_mismatch([plain], ["Where?"], chatting) is None
    assert template_mismatch([replace(plain, method="sae")], [prompt], chatting) is None
    assert template_mismatch([chat], ["Where?"], tokenizer) is None


def test_an_evaluation_warns_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "v.safetensors"
    build(folder).save(file)
    model: Any = get_model("steered_amber").create_from_arg_obj(
        {"pretrained": str(folder), "vector": str(file), "layer": 1}, {"device": "cpu"}
    )
    request = Instance("loglikelihood", {"question": "?"}, ("Where is it?", " Here."), 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model.loglikelihood([request], disable_tqdm=True)
    assert caplog.text.count("was built from chats, and the prompts are none") == 1
