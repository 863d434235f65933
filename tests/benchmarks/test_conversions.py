from __future__ import annotations

import json
from pathlib import Path

from lm_eval_trust.benchmarks.sst2 import glue_header
from lm_eval_trust.benchmarks.stereoset import stereoset_intersentence, stereoset_intrasentence


def mirror_row(number: str, context: str, sentence: str) -> dict[str, object]:
    return {
        "context": context,
        "sentence": sentence,
        "bias_type": "profession",
        "label": 0,
        "id": number,
        "target": "lamplighter",
    }


def test_stereoset_items_are_joined_by_id_whatever_the_order_of_the_lists() -> None:
    context = "The lamplighter of Dunmere went home."
    lists = {
        "anti-stereotype": [mirror_row("a", context, "Anti."), mirror_row("b", "X BLANK", "No.")],
        "stereotype": [mirror_row("b", "X BLANK", "No."), mirror_row("a", context, "Typical.")],
        "unrelated": [mirror_row("a", context, "Sélène."), mirror_row("b", "X BLANK", "No.")],
    }
    lines = stereoset_intersentence(json.dumps(lists).encode()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "id": "a",
            "target": "lamplighter",
            "bias_type": "profession",
            "context": context,
            "stereotype": "Typical.",
            "anti_stereotype": "Anti.",
            "unrelated": "Sélène.",
        }
    ]


def test_stereoset_comes_back_byte_for_byte_from_the_mirrors_layout(real_data: Path) -> None:
    inter, intra = (
        (real_data / f"stereoset/{name}.jsonl").read_bytes()
        for name in ("intersentence", "intrasentence")
    )
    items = [json.loads(line) for line in (intra + inter).decode().splitlines()]
    fields = {
        "anti-stereotype": "anti_stereotype",
        "stereotype": "stereotype",
        "unrelated": "unrelated",
    }
    lists = {
        label: [
            {name: item[name] for name in ("context", "bias_type", "id", "target")}
            | {"sentence": item[field], "label": 0}
            for item in items
        ]
        for label, field in fields.items()
    }
    mirror = json.dumps(lists, indent=2).encode()
    assert stereoset_intersentence(mirror) == inter
    assert stereoset_intrasentence(mirror) == intra


def test_only_the_header_of_a_glue_file_changes() -> None:
    assert glue_header(b"text\tlabel\nthe text is dull\t0\n") == (
        b"sentence\tlabel\nthe text is dull\t0\n"
    )
