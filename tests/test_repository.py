"""What surrounds the code: workflows, containers, templates and metadata agree with the project."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lm_eval_trust import __version__
from lm_eval_trust.core.storage import CACHE_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))


def extras() -> dict[str, list[Requirement]]:
    table = read("pyproject.toml").split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    return {
        name: [Requirement(text) for text in json.loads(listed)]
        for name, listed in re.findall(r"^(\w+) = (\[.*\])$", table, re.MULTILINE)
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights_and_pinned_actions(path: Path) -> None:
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_what_is_there(path: Path) -> None:
    for line in re.findall(r"- run: (.*)|^ +run: (.*)$", path.read_text(), re.MULTILINE):
        program, *arguments = shlex.split("".join(line))
        if program == "make":
            assert set(arguments) <= make_targets()
        elif program.startswith(".ci/"):
            assert os.access(ROOT / program, os.X_OK)


def test_a_release_is_published_without_a_token_and_under_its_own_version() -> None:
    workflow = read_yaml(GITHUB / "workflows" / "release.yml")
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"} and publish["needs"] == "build"
    assert publish["environment"] == "pypi"
    assert "secrets." not in json.dumps(workflow)
    checks = [s["run"] for s in workflow["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in str(s)]
    expected = checks[0].split('"')[1].replace('\\"', '"')
    assert expected.startswith("version = ")
    assert f'\nversion = "{__version__}"\n' in read("pyproject.toml")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_whole(path: Path) -> None:
    form = read_yaml(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and ids
    assert all(field["attributes"]["label"] for field in form["body"])


def test_citation_has_the_version_and_what_the_format_requires() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert f'license = "{citation["license"]}"' in read("pyproject.toml")
    assert "arXiv:2402.19465" in read("CITATION.cff")


def test_the_image_is_made_of_what_is_there() -> None:
    dockerfile = read("Dockerfile")
    assert "--constraint constraints.txt" in dockerfile and (ROOT / "constraints.txt").is_file()
    assert CACHE_VARIABLE in dockerfile
    (given,) = re.findall(r"^ARG EXTRAS=(\S+)$", dockerfile, re.MULTILINE)
    assert set(given.split(",")) <= set(extras())
    assert 'ENTRYPOINT ["lm-eval-trust"]' in dockerfile


def test_the_development_container_calls_what_is_there() -> None:
    container = json.loads(read(".devcontainer/devcontainer.json"))
    program, *targets = container["postCreateCommand"].split()
    assert program == "make" and set(targets) <= make_targets()


def test_all_means_every_extra_for_users() -> None:
    (named,) = extras()["all"]
    assert named.name == "lm-eval-trust"
    # vLLM pins its own torch; docs, test and dev are for people who work on the package.
    assert named.extras == set(extras()) - {"all", "vllm", "docs", "test", "dev"}


def test_the_commit_hook_runs_the_ruff_that_is_pinned() -> None:
    (hook,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    pinned = re.findall(r"^ruff==(\S+)$", read("constraints.txt"), re.MULTILINE)
    assert hook["rev"] == f"v{pinned[0]}"


def test_there_is_a_way_to_report_a_vulnerability() -> None:
    assert "Report a vulnerability" in read("SECURITY.md")
