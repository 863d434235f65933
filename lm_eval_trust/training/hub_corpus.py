"""A data set of the Hugging Face Hub as a corpus, streamed."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.training.streaming import StreamedExamples

PREFIX = "hub:"


@dataclass(frozen=True)
class HubCorpus:
    """Which rows of which data set.

    Attributes:
        name: ``owner/name``.
        revision: Commit, tag or branch.
        subset: Configuration of the data set, if it has several.
        split: E.g. ``train``.
        field: Column that holds the text.
    """

    name: str
    revision: str = "main"
    subset: str | None = None
    split: str = "train"
    field: str = "text"

    @classmethod
    def parse(cls, spec: str, *, subset: str | None, split: str, field: str) -> HubCorpus:
        """Return the corpus of ``hub:owner/name`` or ``hub:owner/name@revision``.

        Raises:
            InputError: It is written otherwise.
        """
        name, _, revision = spec.removeprefix(PREFIX).partition("@")
        if not name:
            raise InputError(f"{spec!r} names no data set; expected hub:owner/name[@revision].")
        return cls(name, revision or "main", subset, split, field)

    def open(self, tokenizer: PreTrainedTokenizerBase, window: int) -> StreamedExamples:
        """Return the windows of the data set at the revision's commit of this moment.

        Raises:
            InputError: There is no such data set, revision, configuration or split.
            ExternalError: The Hub cannot be reached.
        """
        import datasets
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            commit = HfApi().dataset_info(self.name, revision=self.revision).sha
            rows = datasets.load_dataset(
                self.name, self.subset, split=self.split, revision=commit, streaming=True
            )
        except RepositoryNotFoundError as error:
            raise InputError(
                f"The Hub has no data set {self.name!r}, or it needs a login (`hf auth login`)."
            ) from error
        except RevisionNotFoundError as error:
            raise InputError(f"{self.name} has no revision {self.revision!r}.") from error
        except ValueError as error:  # datasets' word for unknown splits and configurations
            raise InputError(f"{self.name}: {error}") from error
        except Exception as error:
            raise ExternalError(f"Cannot open {self.name} on the Hub: {error}") from error
        parts = (f"{PREFIX}{self.name}@{commit}", self.subset, self.split, self.field)
        identity = " ".join(part for part in parts if part)
        return StreamedExamples(rows, self.field, tokenizer, window, identity)
