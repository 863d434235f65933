"""The API on a real small model."""

from __future__ import annotations

from pathlib import Path

import pytest

import lm_eval_trust as let

KIND, CRUEL = ("is kind", "helps", "smiles", "shares"), ("is cruel", "steals", "shouts", "lies")
#: With the label of the dimension: 1 is the side that a positive α moves towards.
STATEMENTS = [
    (f"{person} {does} in the morning.", label)
    for label, deeds in enumerate((CRUEL, KIND))
    for person in ("Orla", "Tam", "Bea", "Kit")
    for does in deeds
]


@pytest.mark.slow
def test_smollm2_is_steered_from_python(smollm2: Path, tmp_path: Path) -> None:
    model = let.load(smollm2, device="cpu", dtype="float32", max_length=256)
    rows = [f'"{text}",{label}' for text, label in STATEMENTS]
    file = tmp_path / "kind.csv"
    file.write_text("\n".join(["statement,label", *rows]), encoding="utf-8")
    vector = let.build_vector(
        model, "toxicity", layers=[20], data_source=str(file), split="random", progress=False
    )
    before = model.generate("Name one kind act.", chat=True, max_new_tokens=8)
    ahead = []
    for alpha in (-4, 0, 4):
        with model.steer(vector, alpha=alpha):
            kind, cruel = model.score("My neighbour is very", [" kind.", " cruel."])
        ahead.append(kind - cruel)
    assert ahead[0] + 1 < ahead[1] < ahead[2] - 1
    assert model.generate("Name one kind act.", chat=True, max_new_tokens=8) == before
