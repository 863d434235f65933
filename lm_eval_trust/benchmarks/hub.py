"""Data sets of the Hugging Face Hub, written to local files as they are at one commit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubSet:
    """A data set of the Hub.

    Attributes:
        name: ``owner/name``.
        variable: Environment variable that names the revision; by default ``main`` is asked for.
        subset: Its configuration, where it has several.
    """

    name: str
    variable: str
    subset: str | None = None

    def rows(self, split: str, columns: Iterable[str]) -> list[Mapping[str, Any]]:
        """Return the rows of a split, at the commit that the revision names now.

        Args:
            split: Its name.
            columns: Columns that it has to have.

        Raises:
            InputError: There is no such set or revision, or it needs a login.
            ExternalError: The Hub cannot be reached, or holds another layout.
        """
        import datasets
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        revision = os.environ.get(self.variable, "main")
        try:
            commit = HfApi().dataset_info(self.name, revision=revision).sha
            logger.info("Loading %s at commit %s", self.name, commit)
            found = datasets.load_dataset(self.name, self.subset, revision=commit, split=split)
        except RevisionNotFoundError as error:
            raise InputError(
                f"{self.name} has no revision {revision!r}; set {self.variable} to one of its "
                f"commits or branches, or unset it for main."
            ) from error
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise InputError(
                f"The Hub has no data set {self.name!r} for you: it is gone, or its terms have to "
                f"be accepted on its page, with a login here (`hf auth login`)."
            ) from error
        except Exception as error:
            raise ExternalError(
                f"Cannot load {self.name} at {revision} from the Hugging Face Hub: {error}"
            ) from error
        missing = [name for name in columns if name not in found.column_names]
        if missing:
            raise ExternalError(
                f"{self.name} has no column {missing[0]!r}; its layout is another than expected. "
                f"It has {', '.join(found.column_names)}."
            )
        return list(found)
