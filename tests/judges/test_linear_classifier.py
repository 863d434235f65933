"""The linear classifier: it learns what was planted, and its file is numbers that check out."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.linear import TextClassifier

NOUNS = ("lamp", "harbour", "violin", "meadow", "bridge", "kettle", "ladder", "orchard")
VERBS = ("stands", "glows", "creaks", "waits", "rests", "hums")


def sentences(seed: int, count: int) -> tuple[list[str], np.ndarray]:
    """Sentences that are of class 1 exactly when they hold the word ``murky``."""
    draw = random.Random(seed)
    labels = np.array([position % 2 for position in range(count)])
    texts = [
        f"The {'murky ' if label else ''}{draw.choice(NOUNS)} {draw.choice(VERBS)} here."
        for label in labels
    ]
    return texts, labels


@pytest.fixture(scope="module")
def classifier() -> TextClassifier:
    return TextClassifier.fit(*sentences(0, 200))


def test_finds_the_planted_word_in_new_sentences(classifier: TextClassifier) -> None:
    texts, labels = sentences(1, 100)
    assert ((classifier.probabilities(texts) > 0.5) == labels).all()


def test_probabilities_do_not_depend_on_the_company_of_a_text(classifier: TextClassifier) -> None:
    texts, _ = sentences(2, 20)
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    np.testing.assert_allclose(classifier.probabilities(texts), alone, rtol=1e-12)


def test_matches_scikit_learns_own_pipeline(classifier: TextClassifier) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=3, sublinear_tf=True)
    regression = LogisticRegression(C=4.0, max_iter=1000, solver="liblinear", random_state=0)
    pipeline = make_pipeline(make_union(words, pieces), regression).fit(*sentences(0, 200))
    texts, _ = sentences(3, 30)
    expected = pipeline.predict_proba(texts)[:, 1]
    np.testing.assert_allclose(classifier.probabilities(texts), expected, rtol=1e-9)


def test_saved_and_loaded_is_the_same(classifier: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "judge.npz"
    classifier.save(path)
    loaded = TextClassifier.load(path)
    texts, _ = sentences(4, 30)
    np.testing.assert_array_equal(loaded.probabilities(texts), classifier.probabilities(texts))


def test_the_file_holds_no_pickle(classifier: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "judge.npz"
    classifier.save(path)
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_damaged_files_are_recognised(classifier: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "judge.npz"
    classifier.save(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "truncated": whole[:middle],
        "empty": b"",
        "not an archive": b"judge" * 100,
        "flipped bytes": whole[:middle]
        + bytes(b ^ 255 for b in whole[middle : middle + 64])
        + whole[middle + 64 :],
    }
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(InputError):
            TextClassifier.load(path)


def test_arrays_that_do_not_fit_together_are_refused(
    classifier: TextClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "judge.npz"
    classifier.save(path)
    with np.load(path) as arrays:
        contents = {name: arrays[name] for name in arrays.files}
    for name, wrong in (
        ("coefficients", contents["coefficients"][:-1]),
        ("coefficients", np.full_like(contents["coefficients"], np.nan)),
        ("idf", contents["idf"][:-1]),
        ("vocabularies", np.frombuffer(b'[["a"]]', dtype=np.uint8)),
    ):
        np.savez(path, **{**contents, name: wrong})
        with pytest.raises(InputError, match="do not fit"):
            TextClassifier.load(path)


def test_no_texts_give_no_probabilities(classifier: TextClassifier) -> None:
    assert classifier.probabilities([]).shape == (0,)
