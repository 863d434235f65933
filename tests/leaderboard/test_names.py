"""What rows are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.leaderboard import plant

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.leaderboard.names import chosen_name, default_name, given_names, unique_names

VALUES = {"race": [1.0, 0.0]}


def step(**changed: Any) -> dict[str, Any]:
    plain = {"layer": 15, "alpha": 2.0, "action": "add", "positions": "generated", "origin": "v.pt"}
    return plain | changed


MADE = [{"dimension": "reliability"}]


@pytest.mark.parametrize(
    ("model", "arguments", "config", "name"),
    [
        ("hf", "pretrained=owner/Small-1B,dtype=float32", {}, "Small-1B (hf)"),
        ("amber", "pretrained=owner/Small-1B", {}, "Small-1B"),
        ("amber", "checkpoint=7", {}, "plain@ckpt_007"),
        ("amber", "checkpoint=ckpt_179", {}, "plain@ckpt_179"),
        ("vllm", "pretrained=o/m,revision=v2", {}, "m@v2 (vllm)"),
        ("local-completions", "model=o/served,base_url=http://h", {}, "served (local-completions)"),
        (
            "steered_amber",
            "pretrained=o/m,vector=v.pt",
            {"steering": {"steps": [step()], "built_from": MADE}},
            "m + v(reliability, layer 15, α 2)",
        ),
        (
            "steered_amber",
            "pretrained=o/m,vector=v.pt",
            {"steering": {"steps": [step(), step(layer=16)]}},
            "m + v(v, layer 15+16, α 2)",
        ),
        (
            "steered_amber",
            "pretrained=o/m,vector=v.pt",
            {"steering": {"steps": [step(action="clamp", positions="all")], "built_from": MADE}},
            "m + v(reliability, layer 15, α 2, clamp, all)",
        ),
        (
            "lora_amber",
            "pretrained=o/m,adapter=some/where",
            {"trained_on": MADE},
            "m + LoRA(reliability)",
        ),
        ("hf", "pretrained=o/m,peft=some/where", {}, "m + LoRA(where) (hf)"),
        (
            "proxy_amber",
            "pretrained=o/m,expert=o/e,antiexpert=o/a,proxy_alpha=0.5",
            {},
            "m + proxy(e − a, α 0.5)",
        ),
    ],
)
def test_a_name_tells_the_model_and_what_was_done(
    tmp_path: Path, model: str, arguments: str, config: dict[str, Any], name: str
) -> None:
    assert (
        default_name(plant(tmp_path, VALUES, model=model, arguments=arguments, config=config))
        == name
    )


def test_a_chat_template_is_told(tmp_path: Path) -> None:
    run = plant(tmp_path, VALUES, chat_template_sha="a", system_instruction_sha="b")
    assert default_name(run) == "plain (hf, chat template, system instruction)"


def test_rows_of_one_name_are_told_apart_by_what_differs_else_by_number(tmp_path: Path) -> None:
    half, full, same = (
        plant(tmp_path / name, VALUES, arguments=f"pretrained=o/m,dtype={dtype}")
        for name, dtype in (("1", "float16"), ("2", "float32"), ("3", "float32"))
    )
    assert unique_names([("m", [half]), ("other", [half]), ("m", [full])]) == [
        "m [dtype float16]",
        "other",
        "m [dtype float32]",
    ]
    assert unique_names([("m", [full]), ("m", [same])]) == ["m [#1]", "m [#2]"]


def test_a_given_name_by_fingerprint_file_or_folder(tmp_path: Path) -> None:
    run = plant(tmp_path / "runs", VALUES, config={"trust_fingerprint": "abcdef123456"})
    for place in ("abcdef12", str(run.path), str(tmp_path / "runs")):
        assert chosen_name([run], given_names([f"{place}=My row"])) == ("My row", {place})
    assert chosen_name([run], given_names(["abc=Short"])) == (default_name(run), set())


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["nothing"], "not of the form"),
        (["=name"], "not of the form"),
        (["place="], "not of the form"),
        (["place=a", "place=b"], "two names, a and b"),
    ],
)
def test_wrong_pairs_are_told(pairs: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        given_names(pairs)


def test_two_names_for_one_row_are_refused(tmp_path: Path) -> None:
    run = plant(tmp_path, VALUES, config={"trust_fingerprint": "abcdef123456"})
    with pytest.raises(InputError, match="several names"):
        chosen_name([run], given_names(["abcdef=a", f"{run.path}=b"]))
