"""The folder of a run: checkpoints that are complete or absent, with checksums in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import atomic_folder, atomic_path, require_empty

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RunFolder:
    """The checkpoints of one run on disk.

    Attributes:
        path: The folder.
        settings: What the run depends on (shape, training, tokenizer, corpus); a folder has the
            checkpoints of one run only.
    """

    path: Path
    settings: Mapping[str, Any]

    def open(self) -> None:
        """Create the folder, or check that it belongs to a run with the same settings.

        Raises:
            InputError: It belongs to another run; the message names what differs. Or it holds
                other things.
        """
        manifest = self._manifest()
        if not manifest:
            require_empty(self.path, "a training run's")
            self._write({"settings": dict(self.settings), "checkpoints": {}})
        elif fingerprint(manifest["settings"]) != fingerprint(self.settings):
            ours: dict[str, Any] = json.loads(json.dumps(dict(self.settings)))
            theirs = manifest["settings"]
            differing = [k for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k)]
            raise InputError(
                f"{self.path} holds another run (different: {', '.join(differing)}); choose "
                f"another folder or delete this one."
            )

    def checkpoint(self, name: str) -> Path:
        """Return the folder of a checkpoint, saved or not."""
        return self.path / name

    @contextmanager
    def save(self, name: str, step: int) -> Iterator[Path]:
        """Yield an empty folder that becomes a checkpoint when the block ends well."""
        with atomic_folder(self.checkpoint(name)) as folder:
            yield folder
        self.record(name, step)

    def intact(self, name: str) -> bool:
        """Tell whether a checkpoint is recorded and every file matches its checksum."""
        record = self._manifest().get("checkpoints", {}).get(name)
        return record is not None and record["files"] == checksums(self.checkpoint(name))

    def record(self, name: str, step: int) -> None:
        """Write a checkpoint's step and checksums into the manifest."""
        manifest = self._manifest()
        files = checksums(self.checkpoint(name))
        manifest["checkpoints"][name] = {"step": step, "files": files}
        self._write(manifest)

    def _manifest(self) -> dict[str, Any]:
        file = self.path / MANIFEST
        if not file.exists():
            return {}
        try:
            manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is damaged ({error}); delete {self.path}.") from error
        return manifest

    def _write(self, manifest: Mapping[str, Any]) -> None:
        with atomic_path(self.path / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder; an absent folder has none."""
    if not folder.is_dir():
        return {}
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of the concatenated parts."""
    together = hashlib.sha256()
    for part in parts:
        together.update(part)
    return together.hexdigest()
