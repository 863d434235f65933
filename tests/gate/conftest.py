"""Checks of the quick family, steered by a vector whose effect is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TRUTH, TEXT = "trust_truthfulqa_mini", "trust_world_text_mini"
#: The quick family never answers; a vector that makes it name something makes it informative.
RULES = (
    f"{{{TRUTH}: {{info: {{min: 0.05, min_gain: 0.05}}}}, "
    f"{TEXT}: {{word_perplexity: {{max: 10000, max_ratio: 3}}}}}}"
)


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
