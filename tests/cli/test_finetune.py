"""``lm-eval-trust finetune`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.cli import main
from lm_eval_trust.core.provenance import Provenance

MINI = ("--dimension", "reliability", "--source", "mini")


@pytest.mark.slow
def test_an_embedded_model_is_tuned_and_evaluated_by_the_printed_command(
    quick: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    arguments = ["finetune", "--method", "lora", "--model", "mini-chat", "--out", str(out)]
    arguments += [*MINI, "--max-steps", "4"]
    assert main(arguments) == 0
    printed = capfd.readouterr().out
    assert "4 steps, training loss" in printed
    assert f"--model lora_amber --model_args pretrained=mini-chat,adapter={out}" in printed
    command = ["run", "--model", "lora_amber", "--device", "cpu", "--limit", "3"]
    command += ["--model_args", f"pretrained=mini-chat,adapter={out}"]
    command += ["--tasks", "trust_truthfulqa_mini"]
    assert main(command) == 0
    assert "trust_truthfulqa_mini" in capfd.readouterr().out
    leaking = [*command, "--metadata", '{"split_seed": 1}']
    assert main(leaking) == 2
    assert "LoRA adapter: reliability train part" in capfd.readouterr().err


def test_a_file_of_conversations(
    tiny_llama: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "talk.jsonl"
    lines = [f'{{"prompt": "Who rules house {i}?", "completion": "Nobody."}}' for i in range(12)]
    file.write_text("\n".join(lines))
    out = tmp_path / "model"
    arguments = ["finetune", "--method", "full", "--model", str(tiny_llama()), "--out", str(out)]
    arguments += ["--data", str(file), "--max-steps", "2", "--learning-rate", "1e-3"]
    assert main(arguments) == 0
    assert f"--model finetuned_amber --model_args pretrained={out}" in capfd.readouterr().out
    provenance = Provenance.of_folder(out)
    assert provenance is not None
    assert (provenance.dimension, provenance.part, len(provenance.groups)) == ("custom", "all", 12)


def test_a_file_of_statements_needs_to_know_its_labels(
    tiny_llama: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "statements.csv"
    rows = [f"Orla bakes bread number {i}.,{i % 2}" for i in range(30)]
    file.write_text("statement,label\n" + "\n".join(rows))
    base = ["finetune", "--method", "lora", "--model", str(tiny_llama()), "--max-steps", "1"]
    base += ["--data", str(file)]
    assert main([*base, "--out", str(tmp_path / "none")]) == 2
    assert "line 1" in capfd.readouterr().err
    assert main([*base, "--dimension", "toxicity", "--out", str(tmp_path / "out")]) == 0
    provenance = Provenance.of_folder(tmp_path / "out")
    assert provenance is not None
    assert (provenance.dimension, len(provenance.items)) == ("toxicity", 15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --dimension"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--dimension", "beauty"], "Unknown dimension"),
        ([*MINI, "--form", "poem"], "Unknown form"),
        ([*MINI, "--preset", "70b"], "preset"),
        ([*MINI, "--method", "prefix"], "method"),
        (
            [*MINI, "--method", "full", "--lora-rank", "4"],
            "belongs to --method lora",
        ),
        ([*MINI, "--model", "./no"], "no model folder"),
    ],
)
def test_bad_usage_is_named(
    tiny_llama: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    base = ["finetune", "--method", "lora", "--model", str(tiny_llama())]
    assert main([*base, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
