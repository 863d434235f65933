"""A family of random Llamas in a folder, and studies of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_trust.core.yaml_file import read_document
from lm_eval_trust.study.folder import StudyFolder
from lm_eval_trust.study.grid import Study
from lm_eval_trust.study.models import Identities
from lm_eval_trust.study.spec import read_spec, with_engine

NUMBER = 3
TEXT = """
study: small
family: {{folder: {family}, pattern: "ckpt_(?P<step>[0-9]+)"}}
dimensions: [fairness]
data: {{source: mini, statements: 40}}
layers: 0+2
compute: [probes, vectors]
probes: {{controls: 1}}
evaluations:
  - {{name: plain, models: checkpoints, tasks: [trust_stereoset_mini], limit: 2}}
  - name: transfer
    models: [{chat}]
    tasks: [trust_stereoset_mini]
    limit: 2
    steering: {{sources: checkpoints, dimensions: [fairness], layers: [1, 2], alphas: [0, 4]}}
engine: {{name: inline, threads: 1}}
"""


@pytest.fixture(scope="session")
def family(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of checkpoints ``ckpt_000`` and so on."""
    folder = tmp_path_factory.mktemp("family")
    for number in range(NUMBER):
        (folder / f"ckpt_{number:03d}").symlink_to(tiny_llama(seed=number))
    return folder


@pytest.fixture(scope="session")
def text(family: Path, tiny_llama: Callable[..., Path]) -> str:
    """A small study of the family, to be changed by ``replace``."""
    return TEXT.format(family=family, chat=tiny_llama(seed=50))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a study's file."""

    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def open_study(write: Callable[[str], Path], tmp_path: Path) -> Callable[..., Study]:
    """Open a study's text, with another engine if one is named."""

    def open_text(text: str, engine: str | None = None, workers: int | None = None) -> Study:
        document = read_document(write(text))
        spec = with_engine(read_spec(document), engine, workers, None)
        return Study(spec, document, Identities(tmp_path / "identities.json"))

    return open_text


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study's folder that is not there yet."""
    return StudyFolder(tmp_path / "out")
