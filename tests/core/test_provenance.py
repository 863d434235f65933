"""Provenance records survive writing and reading, and identify what was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance

RECORD = Provenance(
    model="someone/model",
    revision="abc",
    dimension="reliability",
    data_source="official",
    split="grouped",
    split_seed=0,
    part="train",
    method="mass_mean",
    items=("i1", "i2"),
    groups=("g1",),
    settings={"note": "Ünï"},
    versions={"torch": "2"},
)


def test_a_record_survives_writing_and_reading() -> None:
    assert Provenance.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "m"}', '{"items": 3, "groups": []}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Not a provenance record"):
        Provenance.from_json(text)


def test_a_damaged_record_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE_FILE).write_text("{}")
    with pytest.raises(InputError, match=rf"{PROVENANCE_FILE} cannot be used: Not a provenance"):
        Provenance.of_folder(tmp_path)
    assert Provenance.of_folder(tmp_path / "elsewhere") is None


def test_the_fingerprint_follows_everything_but_library_versions() -> None:
    assert replace(RECORD, versions={}).fingerprint == RECORD.fingerprint
    for change in ({"revision": "abd"}, {"items": ("i1",)}, {"split_seed": 1}, {"settings": {}}):
        assert replace(RECORD, **change).fingerprint != RECORD.fingerprint


def test_the_summary_counts_instead_of_listing() -> None:
    summary = RECORD.summary()
    assert (summary["items"], summary["groups"]) == (2, 1)
    assert summary["fingerprint"] == RECORD.fingerprint
