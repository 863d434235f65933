"""Checks of the quick family, steered by a vector whose effect is planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_trust.mini.family import mini_model
from lm_eval_trust.mini.world import build_world

TRUTH, TEXT = "trust_truthfulqa_mini", "trust_world_text_mini"
#: The quick family never answers; a vector that makes it name something makes it informative.
RULES = (
    f"{{{TRUTH}: {{info: {{min: 0.05, min_gain: 0.05}}}}, "
    f"{TEXT}: {{word_perplexity: {{max: 10000, max_ratio: 3}}}}}}"
)


@pytest.fixture
def naming(quick: None, tmp_path: Path) -> Path:
    """A vector towards the name that is the right answer most often."""
    (name, _), *_ = Counter(fact.truth for fact in build_world(0).facts).most_common(1)
    folder = mini_model("mini-chat")
    token = AutoTokenizer.from_pretrained(folder)(f"A: {name}")["input_ids"][-1]
    rows = AutoModelForCausalLM.from_pretrained(folder).lm_head.weight.detach()
    direction = torch.nn.functional.normalize(rows[token] - rows.mean(dim=0), dim=0)
    path = tmp_path / "naming_layer1.pt"
    torch.save(direction, path)
    return path


@pytest.fixture
def write_check(tmp_path: Path) -> Callable[..., Path]:
    """Write a check's file: its rules, the strength of the steering, and what else is in it."""

    def write(
        rules: str = RULES, *, alpha: float = 1, name: str = "check.yaml", **keys: str
    ) -> Path:
        path = tmp_path / name
        text = {
            "model": "amber",
            "model_args": "{pretrained: mini-chat, dtype: float32, device: cpu, batch_size: 64}",
            "steering": f"[{{vector: naming_layer1.pt, layer: 1, alpha: {alpha}, scale: none}}]",
            "limit": "40",
            **keys,
        }
        lines = [f"{key}: {value}" for key, value in text.items() if value]
        path.write_text("\n".join([*lines, f"rules: {rules}", ""]), encoding="utf-8")
        return path

    return write
