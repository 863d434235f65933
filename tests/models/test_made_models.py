"""A model that another package makes on this machine stands wherever a model is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lm_eval.api.registry import get_model

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.models.sources import MODEL_SOURCES, MadeModel, find_source
from lm_eval_trust.study.estimate import _is_local
from lm_eval_trust.study.models import Identities, find_model


@pytest.fixture
def made(tiny_llama: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Register ``lantern``, and return the names that were made so far."""
    asked: list[str] = []

    def make(spec: str) -> Path:
        asked.append(spec)
        return tiny_llama()

    entry = MadeModel("made by another package", make, lambda spec: f"{spec} of seed 5")
    monkeypatch.setitem(MODEL_SOURCES._entries, "lantern", entry)
    return asked


def test_a_study_names_it_without_making_it(made: list[str], tmp_path: Path) -> None:
    model = find_model("lantern@ckpt_003", [])
    assert (model.location, model.revision) == ("lantern@ckpt_003", None)
    identity = Identities(tmp_path / "identities.json").pin(model).identity
    assert identity == "lantern@ckpt_003 of seed 5"
    assert _is_local(model)
    assert made == []


def test_the_harness_evaluates_it(made: list[str]) -> None:
    model = get_model("amber").create_from_arg_obj(
        {"pretrained": "lantern", "revision": "ckpt_003", "dtype": "float32"},
        {"device": "cpu", "batch_size": 1},
    )
    assert set(made) == {"lantern@ckpt_003"}
    assert model.model.config.hidden_size == 32


def test_a_checkpoint_is_named_once(made: list[str]) -> None:
    with pytest.raises(InputError, match="name the checkpoint twice"):
        get_model("amber").create_from_arg_obj(
            {"pretrained": "lantern@ckpt_003", "revision": "ckpt_004"}, {"device": "cpu"}
        )
    assert made == []


def test_its_folder_is_pinned_by_its_files(made: list[str]) -> None:
    source = find_source("lantern")
    assert (source.identity.name, source.identity.commit) == ("lantern", "")
    assert len(source.identity.revision) == 16
