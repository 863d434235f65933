"""The page on Python, typed into a REPL line by line.

The quick family stands for the real one: it has learnt nothing, so no figure is looked at.
"""

from __future__ import annotations

import code
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
#: The quick family has fewer checkpoints and needs fewer items.
IN_PLACE_OF = {
    "mini@ckpt_014": "mini@ckpt_005",
    "limit=40": "limit=4",
    "limit=30": "limit=3",
}


def typed(text: str) -> list[str]:
    """Return the lines of all blocks; a blank line ends what is indented, as in a REPL."""
    lines: list[str] = []
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        source = block.replace("\n\n    ", "\n    ")
        for line in source.splitlines():
            if line and not line[0].isspace() and line[0] != ")" and lines and lines[-1][:1] == " ":
                lines.append("")
            lines.append(line)
        lines.append("")
    return lines


@pytest.mark.slow
def test_the_page_can_be_typed_into_a_repl(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for written, used in IN_PLACE_OF.items():
        assert written in text
        text = text.replace(written, used)
    monkeypatch.chdir(tmp_path)
    console = code.InteractiveConsole({"__name__": "__console__"})
    for line in typed(text):
        console.push(line)
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "Error" not in said.err, (line, said.err)
    known = console.locals
    assert {"model", "vector", "plain", "steered", "comparison", "swept", "probed", "mine"} <= set(
        known
    )
    assert Path("results").is_dir()
    assert not known["model"].plan.steps
