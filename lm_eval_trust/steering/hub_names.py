"""Names of vectors on the Hugging Face Hub: ``owner/name[@revision][:file]``.

They go wherever a vector file goes. A file or folder of that name on this machine comes first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: Endings by which a text is a file's path, whether or not the file exists.
_FILES = (".safetensors", ".pt", ".pth", ".gguf", ".bin", ".yaml", ".yml", ".json")
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_NAME = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^:@\s]+))?(?::(?P<file>\S+))?"
)
DEFAULT_REVISION = "main"


@dataclass(frozen=True)
class HubName:
    """A vector on the Hub.

    Attributes:
        repository: ``owner/name``.
        revision: Branch, tag or commit.
        file: Path of the vector in the repository; ``None`` for its only one.
    """

    repository: str
    revision: str = DEFAULT_REVISION
    file: str | None = None

    def __str__(self) -> str:
        file = "" if self.file is None else f":{self.file}"
        return f"{self.repository}@{self.revision}{file}"


def hub_name(text: str | Path, folder: Path | None = None) -> HubName | None:
    """Return the Hub name that a text is; ``None`` for the path of a file.

    Args:
        text: What a user gave as a vector.
        folder: What paths are relative to; by default the working directory.
    """
    found = _NAME.fullmatch(str(text))
    if found is None or found["repository"].endswith(_FILES):
        return None
    if (Path(text) if folder is None else folder / text).exists():
        return None
    return HubName(found["repository"], found["revision"] or DEFAULT_REVISION, found["file"])


def below(folder: Path, text: str | Path) -> str:
    """Return a vector that a file in ``folder`` names: a path from there, or a Hub name."""
    return str(text) if hub_name(text, folder) else str(folder / text)


def pinned(text: str) -> str:
    """Return a Hub name with the commit that it stands for now; a path as it is.

    Raises:
        InputError: See :func:`lm_eval_trust.steering.hub.fetch`.
        ExternalError: The same.
    """
    if (name := hub_name(text)) is None:
        return text
    from lm_eval_trust.steering.hub import fetch

    return str(fetch(name).name)


def label(text: str | Path) -> str:
    """Return a short name of a vector, which can be a part of a folder's name."""
    name = hub_name(text)
    if name is None:
        return Path(text).stem
    parts = [name.repository.replace("/", "--")]
    if name.revision != DEFAULT_REVISION:
        parts.append(name.revision[:12].replace("/", "-"))
    return "--".join([*parts, *([] if name.file is None else [Path(name.file).stem])])
