"""``lm-eval-trust doctor``: its output and its exit code."""

from __future__ import annotations

import json

import pytest

from lm_eval_trust import cli, doctor
from lm_eval_trust.doctor.environment import Check


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("failed", 3)])
def test_exit_code_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    check = Check("data", "reliability", state, "what was found", "what to do")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "check_all", lambda model: [check])
    assert cli.main(["doctor"]) == code
    assert "what was found" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["checks"][0]["state"] == state
