"""Say in one sentence why a model could not be loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from lm_eval_trust.errors import ExternalError, InputError


@contextmanager
def explained(name: str, revision: str) -> Iterator[None]:
    """Turn the loading errors of transformers and the Hub into ours.

    Args:
        name: Hub name or folder, as the user gave it.
        revision: Revision that was asked for.

    Raises:
        InputError: No such folder, repository or revision.
        ExternalError: The Hub cannot be reached and the model is not in the local cache.
    """
    try:
        yield
    except OSError as error:
        raise _explain(name, revision, error) from error
    except ValueError as error:
        if "model_type" not in str(error):  # how transformers says that this is no model
            raise
        raise _explain(name, revision, error) from error


def _explain(name: str, revision: str, error: Exception) -> Exception:
    causes = _chain(error)
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes) or (
        "is not a valid git identifier" in str(error)
    ):
        return InputError(
            f"{name} has no revision {revision!r}. Amber's are ckpt_000 to ckpt_358 and main."
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return InputError(f"There is no model {name!r} on the Hub; check its name and your access.")
    if _looks_like_a_folder(name) and not Path(name).is_dir():
        return InputError(f"There is no folder {name}; pretrained takes a folder or a Hub name.")
    if Path(name).is_dir():
        return InputError(f"The folder {name} holds no loadable model: {_first_line(error)}")
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no")
    why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
    return ExternalError(
        f"{name} at {revision} is not in the local cache and {why}. Pass pretrained=FOLDER, or "
        f"download it once with `hf download {name} --revision {revision}`."
    )


def _looks_like_a_folder(name: str) -> bool:
    return name.startswith((".", "/", "~", os.sep)) or name.count("/") > 1 or os.sep == "\\"


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
