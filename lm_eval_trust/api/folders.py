"""Results that are a folder: where they are made, and how they are kept."""

from __future__ import annotations

import re
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.storage import atomic_folder, build_once, disk_errors, require_empty
from lm_eval_trust.steering.hub_names import hub_name
from lm_eval_trust.steering.vector_files import to_bytes
from lm_eval_trust.steering.vectors import SteeringVector, load_vector

#: Hidden folder in a result's folder with the vectors that were given in memory.
_VECTORS = ".vectors"


class FolderResult:
    """A result whose tables and figures are in a folder.

    Attributes:
        folder: The folder; a temporary one is deleted with the result.
    """

    def __init__(self, folder: WorkFolder) -> None:
        self._work = folder
        self.folder = folder.path

    def save(self, folder: str | Path) -> Path:
        """Copy the whole folder: tables, figures, answers; return where it is.

        Raises:
            InputError: There is something already.
            ExternalError: The disk refused to write.
        """
        target = Path(folder)
        if target.resolve() != self.folder.resolve():
            require_empty(target, "an empty")
            with disk_errors(target), atomic_folder(target) as temporary:
                shutil.copytree(self.folder, temporary, dirs_exist_ok=True)
        return target


class WorkFolder:
    """A folder to work in: the one that was asked for, or a temporary one.

    Args:
        asked: As ``out=`` gives it.
    """

    def __init__(self, asked: str | Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if asked is None:
            # Deleted with the last reference to it.
            self._temporary = tempfile.TemporaryDirectory(prefix="lm_eval_trust-")
            self.path = Path(self._temporary.name)
        else:
            self.path = Path(asked)

    def vector_file(self, vector: Any) -> str:
        """Return the file of a vector, which is written here if it has none.

        Args:
            vector: A vector, the name of its file, or a Hub name.

        Raises:
            InputError: It is none of these, or the file cannot be read.
        """
        if isinstance(vector, (str, Path)):
            load_vector(vector)
            return str(vector) if hub_name(vector) else str(Path(vector).resolve())
        if not isinstance(vector, SteeringVector):
            raise InputError(
                f"{vector!r:.80} is not a steering vector; give one that build_vector made, or the "
                f"name of a file."
            )
        content = to_bytes(vector)
        name = re.sub(r"\W+", "-", vector.name).strip("-") or "vector"
        path = self.path / _VECTORS / f"{name}-{sha256(content).hexdigest()[:8]}.safetensors"
        build_once(path, lambda temporary: _write(temporary, content))
        return str(path.resolve())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
