"""What a run refuses, and how documents are read and packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.cli import main
from lm_eval_trust.core.errors import InputError
from lm_eval_trust.training.config import ModelConfig, TrainingConfig
from lm_eval_trust.training.corpus import (
    IGNORED,
    answer_examples,
    build_tokenizer,
    joined,
    pack_documents,
    read_documents,
)

SETTINGS = {"steps": 10, "batch_size": 2, "window": 8, "peak_learning_rate": 1e-3}


def test_documents_are_paragraphs_or_json_lines(tmp_path: Path) -> None:
    plain, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("one\nstill one\n\n\ntwo\n")
    lines.write_text('{"text": "three"}\n\n{"text": "fo\\nur"}\n')
    assert list(read_documents([plain, lines])) == ["one\nstill one", "two", "three", "fo\nur"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"body": "x"}', '{"text": 3}'])
def test_a_bad_json_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"c\.jsonl, line 2"):
        list(read_documents([file]))


def test_whole_documents_share_windows_and_long_ones_are_cut() -> None:
    tokenizer = build_tokenizer([], size=300, max_length=64)
    examples = pack_documents(["ab", "cd", "x" * 10], tokenizer, 8)
    end = tokenizer.eos_token_id
    read = [
        "".join("|" if token == end else tokenizer.decode([token]) for token in row)
        for row, labels in (
            (r[keep], None)
            for r, keep in zip(examples.inputs, examples.labels != IGNORED, strict=True)
        )
    ]
    assert read == ["ab|cd|", "xxxxxxxx", "xx|"]
    assert np.all(examples.inputs[examples.labels == IGNORED] == 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"warmup_steps": 11}, "warmup_steps is 11; expected 0 to 10"),
        ({"save_steps": ()}, "ascending"),
        ({"save_steps": (0, 4, 2)}, "ascending"),
        ({"save_steps": (0, 12)}, "after the last step 10"),
    ],
)
def test_impossible_training_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainingConfig(**{"warmup_steps": 2, "save_steps": (0,), **SETTINGS, **changes})  # type: ignore[arg-type]


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="30 is not a multiple of 4"):
        ModelConfig(30, 60, 2, 4, 4, 64)
    with pytest.raises(InputError, match="4 is not a multiple of 3"):
        ModelConfig(32, 60, 2, 4, 3, 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--corpus", "missing.txt"], "No corpus file missing.txt"),
        (["--save-steps", "0,one"], "is not a list of steps"),
        (["--steps", "5", "--warmup-steps", "9"], "warmup_steps is 9; expected 0 to 5"),
        (["--window", "900"], "--window 900 is longer than --max-length 512"),
        (["--tokenizer", "./nowhere"], "Cannot load the tokenizer ./nowhere"),
        (["--corpus", "hub:velmi/tales"], "A streamed corpus needs --tokenizer"),
        (["--corpus", "hub:velmi/tales", "a.txt"], "takes one data set of the Hub alone"),
        (["--preset", "ambre"], "Unknown preset 'ambre'; known are amber, small. Did you mean"),
        (["--config", "./nowhere"], "Cannot load a model configuration from ./nowhere"),
        (["--precision", "fp8"], "precision is 'fp8'; expected float32 or bf16"),
        (["--device", "tpu"], "device is 'tpu'; expected cpu or cuda"),
    ],
)
def test_the_command_explains_wrong_input(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the Velmi sing.\n")
    code = main(["pretrain", "--corpus", str(corpus), "--out", str(tmp_path / "run"), *options])
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_loads_as_any_model(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the Velmi sing about the tower of Oss.\n\n" * 40)
    shape = "--hidden-size 16 --intermediate-size 32 --layers 2 --heads 2 --key-value-heads 1"
    training = "--steps 3 --save-steps 0,3 --window 16 --max-length 32 --vocabulary 300"
    out = tmp_path / "run"
    words = ["pretrain", "--corpus", str(corpus), "--out", str(out), *shape.split()]
    assert main([*words, *training.split()]) == 0
    model = AutoModelForCausalLM.from_pretrained(out / "ckpt_001")
    tokenizer = AutoTokenizer.from_pretrained(out / "ckpt_001")
    tokens = tokenizer("the Velmi sing", return_tensors="pt").input_ids
    assert model(tokens).logits.shape[:2] == tokens.shape
    assert model.config.num_key_value_heads == 1


def test_only_answers_are_learnt() -> None:
    tokenizer = build_tokenizer(["Q: who came? A: the cook."], size=400, max_length=64)
    turns = [("Q: who came?", " A: the cook."), ("who", " came.")]
    examples = answer_examples(turns, tokenizer, 16)
    for (prompt, answer), inputs, labels in zip(
        turns, examples.inputs, examples.labels, strict=True
    ):
        learnt = labels != IGNORED
        assert tokenizer.decode(inputs[learnt]) == f"{answer}</s>"
        assert tokenizer.decode(inputs[: learnt.argmax()]) == prompt
        assert (inputs[learnt] == labels[learnt]).all()


def test_a_turn_that_does_not_fit_is_named() -> None:
    tokenizer = build_tokenizer(["who came?"], size=400, max_length=64)
    with pytest.raises(InputError, match=r"'who came\?' with its answer has .* a window holds 4"):
        answer_examples([("who came?", " who came?")], tokenizer, 4)


def test_joined_examples_keep_their_order() -> None:
    tokenizer = build_tokenizer(["one two"], size=400, max_length=64)
    parts = [answer_examples([(word, " two")], tokenizer, 12) for word in ("one", "two", "one")]
    together = joined(*parts)
    assert len(together) == 3
    for number, part in enumerate(parts):
        assert (together.inputs[number] == part.inputs[0]).all()
        assert (together.labels[number] == part.labels[0]).all()
