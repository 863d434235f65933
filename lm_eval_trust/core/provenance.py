"""What a vector, an adapter or a probe was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint

#: Name of the record in the folder of a model or an adapter.
PROVENANCE_FILE = "lm_eval_trust.json"


@dataclass(frozen=True)
class Provenance:
    """Where something made from data comes from; enough to rebuild it and to guard against leaks.

    Attributes:
        model: Source model: a Hub name or a folder.
        revision: Its revision; for a folder, a digest of its weight files.
        dimension: Name of the dimension, or ``custom`` for a user's own statements.
        data_source: ``official``, ``tracingllm`` or the path of a file.
        split: ``grouped`` or ``random``.
        split_seed: Seed of the partition.
        part: The part that was used: ``train``, ``development`` or ``all``.
        method: How it was made, e.g. ``mass_mean``.
        items: Ids of the statements used, sorted.
        groups: Ids of the groups (question, context, sentence) used, sorted.
        settings: Further settings that change the result (perturbation rate, seed, …).
        versions: Versions of the libraries that took part.
        evidence: What was measured while it was made; for vectors, what predicts that they steer
            (:mod:`lm_eval_trust.steering.evidence`).
    """

    model: str
    revision: str
    dimension: str
    data_source: str
    split: str
    split_seed: int
    part: str
    method: str
    items: tuple[str, ...]
    groups: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Identity of what was made; library versions and evidence do not enter it."""
        known = asdict(self).items()
        return fingerprint({k: v for k, v in known if k not in ("versions", "evidence")})

    def summary(self) -> dict[str, Any]:
        """Return the record for results files: counts for the lists of ids, and no evidence."""
        record = asdict(self)
        del record["evidence"]
        record["items"] = len(self.items)
        record["groups"] = len(self.groups)
        return record | {"fingerprint": self.fingerprint}

    def to_json(self) -> str:
        """Return the whole record as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def of_folder(cls, folder: Path) -> Provenance | None:
        """Read the record in the folder of a model or an adapter; ``None`` if there is none.

        Raises:
            InputError: There is a file of that name, but it is not such a record.
        """
        file = folder / PROVENANCE_FILE
        if not file.is_file():
            return None
        try:
            return cls.from_json(file.read_text(encoding="utf-8"))
        except (InputError, ValueError, OSError) as error:
            raise InputError(f"{file} cannot be used: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: The text is not such a record.
        """
        try:
            record = json.loads(text)
            record["items"] = tuple(record["items"])
            record["groups"] = tuple(record["groups"])
            return cls(**record)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"Not a provenance record: {error}") from error
