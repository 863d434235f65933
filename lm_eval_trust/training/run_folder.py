"""The folder of a run: checkpoints that are whole or absent, with checksums in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import atomic_folder, atomic_path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its checkpoints.

    Attributes:
        path: The folder.
        settings: What the run is made of (shape, training, tokenizer, corpus); a folder holds one.
    """

    path: Path
    settings: Mapping[str, Any]

    def open(self) -> None:
        """Make the folder, or check that it belongs to a run of the same settings.

        Raises:
            InputError: It belongs to another run; the message names what differs.
        """
        manifest = self._manifest()
        if not manifest:
            self._write({"settings": dict(self.settings), "checkpoints": {}})
        elif fingerprint(manifest["settings"]) != fingerprint(self.settings):
            theirs = manifest["settings"]
            keys = sorted(set(theirs) | set(self.settings))
            differing = [k for k in keys if theirs.get(k) != _plain(self.settings).get(k)]
            raise InputError(
                f"{self.path} holds another run (different: {', '.join(differing)}); choose "
                f"another folder or delete this one."
            )

    def checkpoint(self, name: str) -> Path:
        """Return the folder of a checkpoint, saved or not."""
        return self.path / name

    def save(self, name: str, step: int) -> _Saving:
        """Return a context that yields an empty folder and publishes it as a checkpoint."""
        return _Saving(self, name, step)

    def intact(self, name: str) -> bool:
        """Return whether a checkpoint is recorded and every file matches its checksum."""
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


class _Saving:
    """Folder that replaces a checkpoint when its block ends well."""

    def __init__(self, run: RunFolder, name: str, step: int) -> None:
        self._run, self._name, self._step = run, name, step
        self._folder = atomic_folder(run.checkpoint(name))

    def __enter__(self) -> Path:
        return self._folder.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._folder.__exit__(*error)
        if error[0] is None:
            self._run.record(self._name, self._step)


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder; an absent folder has none."""
    if not folder.is_dir():
        return {}
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of these bytes, one after the other."""
    together = hashlib.sha256()
    for part in parts:
        together.update(part)
    return together.hexdigest()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return plain
