"""What the words of a statement tell of its label: the baseline that a probe has to exceed.

A probe of a label that goes with certain words, lengths or spellings finds those, in a trained
model as in an untrained one. TF-IDF n-grams with a logistic regression, fitted on the same training
part and tested on the same items, say how far that alone leads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

Integers = npt.NDArray[np.int64]
#: Which n-grams; case counts, since it may give a label away.
_NGRAMS = (
    # A pattern, not a password.
    {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\S+"},  # nosec B105
    {"analyzer": "char_wb", "ngram_range": (1, 4)},
)
_REGULARISATIONS = (1.0, 10.0, 100.0)


def correct_by_words(
    texts: Sequence[str],
    labels: Integers,
    *,
    train: Integers,
    test: Integers,
    validation: Integers | None = None,
) -> npt.NDArray[np.bool_]:
    """Return which statements of the test part n-grams tell correctly, shape (n_test,).

    Words (1 and 2) or characters (1 to 4), and the strength of the penalty, are those with the best
    accuracy on the validation part, the first of equal ones; without that part, on the training
    part.

    Args:
        texts: Statements, as the model reads them.
        labels: 0 or 1, shape (n,).
        train: Positions of the training part.
        test: Positions of the test part.
        validation: Positions of the validation part.
    """
    chosen = train if validation is None or not len(validation) else validation
    wanted = np.asarray(labels)

    def right(fitted: Pipeline, rows: Integers) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = fitted.predict([texts[i] for i in rows]) == wanted[rows]
        return found

    fits = [
        make_pipeline(
            TfidfVectorizer(lowercase=False, sublinear_tf=True, **ngrams),
            LogisticRegression(C=c, max_iter=1000),
        ).fit([texts[i] for i in train], wanted[train])
        for ngrams in _NGRAMS
        for c in _REGULARISATIONS
    ]
    return right(max(fits, key=lambda fitted: right(fitted, chosen).mean()), test)
