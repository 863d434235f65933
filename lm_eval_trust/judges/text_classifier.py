"""A linear text classifier whose file holds numbers and a word list, never code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

#: Features: words and word pairs, and pieces of words, which see inflection and odd spelling.
_FEATURES: tuple[dict[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 2), "min_df": 2, "sublinear_tf": True},
    {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 3, "sublinear_tf": True},
)


@dataclass(frozen=True)
class TextClassifier:
    """TF-IDF of words and of character n-grams, side by side, and a logistic regression on them.

    Attributes:
        vocabularies: Terms of each kind of feature, in the order of their columns.
        idf: Inverse document frequency of each kind's terms, shapes (v,).
        coefficients: Weights of all columns, shape (sum of v,).
        intercept: Bias of the log-odds.
    """

    vocabularies: tuple[list[str], ...]
    idf: tuple[npt.NDArray[np.float64], ...]
    coefficients: npt.NDArray[np.float64]
    intercept: float

    @classmethod
    def fit(cls, texts: Sequence[str], labels: npt.NDArray[np.int64]) -> TextClassifier:
        """Train on texts with labels 0 and 1; deterministic."""
        vectorizers = [TfidfVectorizer(**features) for features in _FEATURES]
        design = sparse.hstack([v.fit_transform(texts) for v in vectorizers]).tocsr()
        model = LogisticRegression(C=4.0, max_iter=1000, solver="liblinear", random_state=0)
        model.fit(design, labels)
        return cls(
            vocabularies=tuple(v.get_feature_names_out().tolist() for v in vectorizers),
            idf=tuple(v.idf_ for v in vectorizers),
            coefficients=model.coef_[0],
            intercept=float(model.intercept_[0]),
        )

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the probability of label 1 for each text, shape (n,)."""
        if not texts:
            return np.zeros(0)
        blocks = []
        for features, terms, idf in zip(_FEATURES, self.vocabularies, self.idf, strict=True):
            vectorizer = TfidfVectorizer(**features, vocabulary=terms)
            vectorizer.idf_ = idf
            blocks.append(vectorizer.transform(texts))
        logits = sparse.hstack(blocks).tocsr() @ self.coefficients + self.intercept
        return np.asarray(expit(logits), dtype=np.float64)

    def save(self, path: Path) -> None:
        """Write everything to ``path`` as an uncompressed archive of arrays, without pickles."""
        terms = np.frombuffer(json.dumps(self.vocabularies).encode(), dtype=np.uint8)
        with path.open("wb") as file:
            np.savez(
                file,
                vocabularies=terms,
                idf=np.concatenate(self.idf),
                coefficients=self.coefficients,
                intercept=np.array(self.intercept),
            )

    @classmethod
    def load(cls, path: Path) -> TextClassifier | None:
        """Read what :meth:`save` wrote; ``None`` if the file is damaged or something else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                vocabularies = tuple(json.loads(arrays["vocabularies"].tobytes()))
                bounds = np.cumsum([len(terms) for terms in vocabularies])[:-1]
                idf = tuple(np.split(arrays["idf"], bounds))
                whole = cls(vocabularies, idf, arrays["coefficients"], float(arrays["intercept"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
        return whole if whole._fits() else None

    def _fits(self) -> bool:
        columns = sum(len(terms) for terms in self.vocabularies)
        lengths = [len(terms) for terms in self.vocabularies]
        return (
            len(lengths) == len(_FEATURES)
            and lengths == [len(part) for part in self.idf]
            and self.coefficients.shape == (columns,)
            and bool(np.isfinite(self.coefficients).all())
        )
