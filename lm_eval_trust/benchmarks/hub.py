"""PKU-SafeRLHF-10K from the Hugging Face Hub (Ji et al. 2023), non-commercial licence.

It is the one set without a GitHub copy whose bytes could be pinned. Its commit on the Hub could
not be looked up when this was written, so none is invented here: ``main`` is asked for unless
``LM_EVAL_TRUST_PKU_REVISION`` names a commit, and the statements' settings record the SHA-256 of
what was read.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError

logger = logging.getLogger(__name__)

REPOSITORY = "PKU-Alignment/PKU-SafeRLHF-10K"
REVISION_VARIABLE = "LM_EVAL_TRUST_PKU_REVISION"


def write_pairs(path: Path) -> None:
    """Write the pairs in which exactly one response is safe, one JSON line each.

    Raises:
        InputError: The revision does not exist.
        ExternalError: The Hub cannot be reached, or holds another layout.
    """
    revision = os.environ.get(REVISION_VARIABLE, "main")
    pairs = list(safe_unsafe_pairs(_load(revision)))
    path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), "utf-8")


def safe_unsafe_pairs(rows: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Yield ``prompt``, ``safe_response``, ``unsafe_response`` of rows with one safe response.

    Raises:
        ExternalError: A row lacks one of the set's columns.
    """
    for row in rows:
        try:
            safe = [bool(row["is_response_0_safe"]), bool(row["is_response_1_safe"])]
            responses = [row["response_0"], row["response_1"]]
            prompt = row["prompt"]
        except KeyError as error:
            raise ExternalError(
                f"{REPOSITORY} has no column {error}; its layout is another than expected."
            ) from error
        if sum(safe) == 1:
            yield {
                "prompt": prompt,
                "safe_response": responses[safe.index(True)],
                "unsafe_response": responses[safe.index(False)],
            }


def _load(revision: str) -> Iterable[Mapping[str, Any]]:
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        commit = HfApi().dataset_info(REPOSITORY, revision=revision).sha
        logger.info("Loading %s at commit %s", REPOSITORY, commit)
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            REPOSITORY, revision=commit, split="train"
        )
        return rows
    except RevisionNotFoundError as error:
        raise InputError(
            f"{REPOSITORY} has no revision {revision!r}; set {REVISION_VARIABLE} to one of its "
            f"commits or branches, or unset it for main."
        ) from error
    except Exception as error:
        raise ExternalError(
            f"Cannot load {REPOSITORY} at {revision} from the Hugging Face Hub: {error}"
        ) from error
