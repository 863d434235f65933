"""The wheel, and a throw-away environment that it is installed in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = (
    *("lm_eval_trust", "tasks", "model_wrappers", "analysis"),
    *("pyproject.toml", "setup.py", "README.md", "LICENSE"),
)
#: Indexing all built-in tasks takes seconds; the throw-away harness keeps these.
KEPT_TASKS = ("arc", "lambada")


@dataclass(frozen=True)
class Environment:
    """A virtual environment whose only own package is ours."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its Python outside the checkout, without the variables that steer imports."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=clean | {"OMP_NUM_THREADS": "1"} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def pip(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.python), "--quiet", *arguments],
            check=True,
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    isolation = ["--no-build-isolation"] if find_spec("setuptools") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to everything that is installed here, but for us and most of the harness's tasks."""
    farm = tmp_path_factory.mktemp("dependencies")
    installed = Path(sysconfig.get_path("purelib"))
    for entry in installed.iterdir():
        if entry.name != "lm_eval" and "lm_eval_trust" not in entry.name:
            (farm / entry.name).symlink_to(entry)
    _link(installed / "lm_eval", farm / "lm_eval", lambda name: name != "tasks")
    _link(
        installed / "lm_eval" / "tasks",
        farm / "lm_eval" / "tasks",
        lambda name: name.endswith(".py"),
    )
    for name in KEPT_TASKS:  # copied: the harness does not walk into linked folders
        shutil.copytree(installed / "lm_eval" / "tasks" / name, farm / "lm_eval" / "tasks" / name)
    return farm


def _link(source: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    target.mkdir()
    for entry in source.iterdir():
        if wanted(entry.name):
            (target / entry.name).symlink_to(entry)


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, dependencies: Path, wheel: Path
) -> Environment:
    """A fresh environment with the wheel in it; tests leave it as it is."""
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(environment.folder)], check=True
    )
    (environment.site_packages / "dependencies.pth").write_text(f"{dependencies}\n")
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    return environment


@pytest.fixture
def damaged(installed: Environment, tmp_path: Path) -> Environment:
    """A copy of the environment, for a test that takes it apart."""
    copy = Environment(tmp_path / "venv")
    shutil.copytree(installed.folder, copy.folder, symlinks=True)
    return copy
