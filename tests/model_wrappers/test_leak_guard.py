"""The leak guard finds overlaps in our tasks and in other people's."""

from __future__ import annotations

import pytest

from lm_eval_trust.core.errors import LeakError
from lm_eval_trust.core.hashing import group_id
from lm_eval_trust.core.provenance import Provenance
from lm_eval_trust.model_wrappers.leak_guard import groups_of, leaked_groups, refuse_leaks


def built_from(*texts: str, seed: int = 0) -> Provenance:
    groups = tuple(group_id(text) for text in texts)
    return Provenance("m", "r", "toxicity", "official", "grouped", seed, "train", "pca", (), groups)


def test_documents_of_our_tasks_are_known_by_their_group_id_alone() -> None:
    assert groups_of({"group_id": "abc", "question": "Who?"}) == {"abc"}


@pytest.mark.parametrize(
    "doc",
    [
        {"question": "who  RULES ankoria?", "choices": ["a"]},
        {"sentence": "Who rules Ankoria?", "label": 1},
        {"context": "Who rules Ankoria?", "text": "other"},
    ],
)
def test_documents_of_other_tasks_are_known_by_their_text(doc: dict[str, object]) -> None:
    assert leaked_groups([built_from("Who rules Ankoria?")], [doc])


def test_documents_without_any_text_field_are_let_through() -> None:
    refuse_leaks([built_from("Who?")], [{"problem": "Who?", "question": None}], task="other")


def test_nothing_leaks_from_nothing() -> None:
    refuse_leaks([], [{"question": "Who?"}], task="task")
    refuse_leaks([built_from("Who?")], [], task="task")


def test_the_refusal_counts_items_and_groups_and_names_the_sources() -> None:
    docs = [{"question": "Who?"}, {"question": "who?"}, {"question": "Why?"}, {"question": "How?"}]
    sources = [built_from("Who?", seed=4), built_from("Why?", seed=5), built_from("When?", seed=6)]
    with pytest.raises(LeakError) as error:
        refuse_leaks(sources, docs, task="questions")
    message = str(error.value)
    assert message.startswith("3 of the 4 items of questions belong to 2 groups")
    assert "seed 4" in message and "seed 5" in message and "seed 6" not in message
