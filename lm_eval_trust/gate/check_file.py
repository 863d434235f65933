"""A check as its file declares it, and what can be said of it before anything is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.yaml_file import Document, read_document
from lm_eval_trust.gate.baseline import baseline_path, read_baseline
from lm_eval_trust.gate.rules import Rule, rules_of
from lm_eval_trust.gate.spec import CheckSpec
from lm_eval_trust.gate.task_index import Catalogue

if TYPE_CHECKING:  # it loads torch, which looking at a file can do without
    from lm_eval_trust.gate.models import Subject


@dataclass(frozen=True)
class Check:
    """A check as its file declares it.

    Attributes:
        document: The file.
        spec: What it says.
        rules: Its rules, in order.
    """

    document: Document
    spec: CheckSpec
    rules: tuple[Rule, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.document.path

    @property
    def baseline(self) -> Path:
        """Where its baseline lies, or would."""
        return baseline_path(self.path)

    def needs(self, reference: str) -> bool:
        """Tell whether a rule compares with ``unsteered`` or ``baseline``."""
        return any(rule.compares and rule.against == reference for rule in self.rules)

    def subjects(self) -> tuple[Subject, Subject | None]:
        """Return the checked model and, where a rule compares with it, the unsteered one.

        Raises:
            InputError: With file and line.
            ExternalError: A model cannot be fetched.
        """
        from lm_eval_trust.gate.models import reference_subject, steered_subject

        with self.document.at("model_args" if self.spec.steering is None else "steering"):
            steered = steered_subject(self.spec, self.path.parent)
        if not self.needs("unsteered"):
            return steered, None
        with self.document.at("reference" if self.spec.reference else "model"):
            return steered, reference_subject(self.spec, steered)


def read_check(path: Path) -> Check:
    """Read a check's file.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    document = read_document(path, "check")
    spec = document.parse(CheckSpec)
    return Check(document, spec, tuple(rules_of(spec)))


def validate(check: Check) -> None:
    """Raise unless everything that a check names exists, as far as can be told without running.

    Raises:
        InputError: With file, line and key of what is wrong.
    """
    catalogue = Catalogue()
    for rule in check.rules:
        with check.document.at("rules", rule.task, rule.metric):
            catalogue.check(rule.task, rule.metric)
    _check_files(check)
    if check.needs("baseline"):
        with check.document.at("rules"):
            read_baseline(check.baseline)


def _check_files(check: Check) -> None:
    """Raise unless files of steering exist; models and vectors themselves are not loaded."""
    if check.spec.steering is None:
        return
    from lm_eval_trust.gate.models import requests_of

    with check.document.at("steering"):
        for request in requests_of(check.spec, check.path.parent):
            if request.vector is not None and not Path(request.vector).is_file():
                raise InputError(f"there is no vector file {request.vector}.")
