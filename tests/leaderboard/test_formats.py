"""What the formats say, read back by parsers of their own."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text
from support.leaderboard import plant

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.leaderboard.board import Board
from lm_eval_trust.leaderboard.build import BoardSettings, build_boards
from lm_eval_trust.leaderboard.formats import FORMATS, texts, write_tables
from lm_eval_trust.leaderboard.page.story import story_of
from lm_eval_trust.leaderboard.table import difference_table
from lm_eval_trust.leaderboard.typeset import (
    Terminal,
    escape_latex,
    escape_markdown,
    print_boards,
    to_latex,
    to_markdown,
)

#: A name with everything that a format could take for its own.
NASTY = r'a|b_c*d* & 50% #1 {x} $y$ ~^\z "<b>`q`</b>" [l](u) [/i] α−↓'

PLANTED = (("p", "1000", "0110"), ("q", "1110", "0100"), ("r", "1100", "0000"))


@pytest.fixture
def boards(tmp_path: Path) -> tuple[Board, ...]:
    runs = [
        plant(
            tmp_path / name,
            {
                "trust_confaide": [float(d) for d in confaide],
                "trust_toxigen": [float(d) for d in toxigen],
                "race": [1.0, 0.0, 1.0],
            },
            arguments=f"pretrained=o/{name}",
            categories=["hill | folk", "lake", "lake", "lake"],
        )
        for name, confaide, toxigen in (
            ("p", "1000", "0110"),
            ("q", "1110", "0100"),
            ("r", "1100", "0000"),
        )
    ]
    names = {str(tmp_path / "q"): NASTY}
    return build_boards(runs, settings=BoardSettings(names=names, with_paper=True))


def tables_of(markdown: str) -> list[list[list[str]]]:
    """The tables as GitHub would show them: text of every cell, marks as HTML."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    found = []
    for table in re.findall(r"<table>(.*?)</table>", html, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        found.append([re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows])
    return found


def shown(html: str) -> str:
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        html = html.replace(entity, sign)
    return html


def test_markdown_shows_names_as_they_are_and_marks_ranks(boards: tuple[Board, ...]) -> None:
    tables = tables_of(to_markdown(boards))
    header, *lines = tables[0]
    assert all(
        len(line) == len(header) for table in tables for line in table for header in table[:1]
    )
    cells = {shown(line[0]): dict(zip(header, line, strict=True)) for line in lines}
    assert cells[NASTY]["ConfAIde"] == "<strong>0.7500</strong> ±0.2500"
    assert cells["r (hf)"]["ConfAIde"] == "<u>0.5000</u> ±0.2887"
    assert cells["p (hf)"]["ConfAIde"] == "0.2500 ±0.2500"
    # The lowest share of toxic texts is the best.
    assert cells["r (hf)"]["ToxiGen ↓"] == "<strong>0.0000</strong> ±0.0000"
    assert cells["AmberChat (reported)"]["ToxiGen ↓"] == "0.0920"
    assert cells["AmberChat (reported)"]["Win rate"] == "–"


def test_markdown_has_all_sections(boards: tuple[Board, ...]) -> None:
    text = to_markdown(boards)
    for title in ("Scores", "Paired differences from p (hf)", "Trade-offs", "Notes", "Provenance"):
        assert f"### {title}" in text
    assert "by category" in text and "Westfall and Young" in text


def test_markdown_leaves_no_sign_a_meaning() -> None:
    html = MarkdownIt("commonmark", {"html": True}).render(escape_markdown(NASTY))
    assert shown(html) == f"<p>{NASTY}</p>\n"


def unescaped_latex(text: str) -> str:
    """Read what LaTeX would set, by an independent table of its commands."""
    commands = {
        r"\textbackslash{}": "\\",
        r"\textasciicircum{}": "^",
        r"\textasciitilde{}": "~",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\textbar{}": "|",
        r"\textasciigrave{}": "`",
        r"{\ttfamily\char34}": '"',
        r"$\alpha$": "α",
        r"$\downarrow$": "↓",
        r"$\pm$": "±",
        r"$-$": "−",
        "{*}": "*",
        "{[}": "[",
        "{]}": "]",
        "--": "–",
    }
    pattern = "|".join(re.escape(command) for command in sorted(commands, key=len, reverse=True))
    found = re.sub(
        rf"({pattern})|\\([{{}}$&#%_])", lambda m: commands[m[1]] if m[1] else m[2], text
    )
    return found


def test_latex_sets_names_as_they_are() -> None:
    assert unescaped_latex(escape_latex(NASTY)) == NASTY


def test_latex_is_balanced_and_every_line_has_all_cells(boards: tuple[Board, ...]) -> None:
    text = to_latex(boards)
    depth = 0
    for sign in re.sub(r"\\[\\{}$&#%_]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\[\\{}$&#%_]", lambda m: "" if m[0] != r"\\" else m[0], text)
    assert bare.count("$") % 2 == 0
    assert "%" not in bare.partition("\n")[2]
    for table in re.findall(r"\\begin\{tabular\}\{(l[r]*)\}(.*?)\\end\{tabular\}", bare, re.DOTALL):
        lines = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {line.count("&") + 1 for line in lines} == {len(table[0])}
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    # Wide tables shrink to the page; narrow ones do not grow to it.
    assert text.count(r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}") == 4
    assert r"\textbf{0.7500}" in text and r"\underline{0.5000}" in text


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_all_digits(boards: tuple[Board, ...]) -> None:
    files = texts(boards, ["csv"])
    scores = {line["model"]: line for line in read_csv(files["leaderboard.csv"])}
    (board,) = boards
    for row in board.rows:
        for column in board.columns:
            told = scores[row.name][column.key]
            assert (float(told) if told else None) == (
                row.scores[column.key].value if column.key in row.scores else None
            )
    assert scores[NASTY]["reported"] == "False"
    pairs = read_csv(files["pairs.csv"])
    assert [float(line["p"]) for line in pairs] == [pair.comparison.p for pair in board.pairs]
    categories = read_csv(files["categories.csv"])
    assert {line["category"] for line in categories} == {"hill | folk", "lake"}
    changes = read_csv(files["tradeoffs.csv"])
    assert {line["dimension"] for line in changes} == {"toxicity", "privacy", "general"}


def test_csv_without_a_line_has_its_header(tmp_path: Path) -> None:
    files = texts(build_boards([plant(tmp_path, {"race": [1.0, 0.0]})]), ["csv"])
    assert files["pairs.csv"] == "board,first,second,column,difference,low,high,p\n"
    assert len(read_csv(files["leaderboard.csv"])) == 1


def test_json_holds_the_whole_board(boards: tuple[Board, ...]) -> None:
    (told,) = json.loads(texts(boards, ["json"])["leaderboard.json"])["boards"]
    (board,) = boards
    assert [row["name"] for row in told["rows"]] == [row.name for row in board.rows]
    assert told["rows"][1]["scores"]["trust_confaide/acc,none"]["value"] == 0.75
    assert told["columns"][0]["key"] == board.columns[0].key
    assert len(told["pairs"]) == len(board.pairs)
    assert told["pairs"][0]["comparison"]["difference"].keys() == {"mean", "low", "high"}
    assert told["rows"][0]["provenance"]["files"]


@pytest.mark.parametrize("width", [60, 100, 300])
def test_the_terminal_shows_every_number_at_any_width(
    boards: tuple[Board, ...], width: int
) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_boards(boards, console)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    (board,) = boards
    for column in board.columns:
        assert column.title in text
    for figure in ("0.7500", "±0.2500", "0.5379", "+0.5000"):
        assert figure in text


def test_the_terminal_takes_no_name_for_markup(boards: tuple[Board, ...]) -> None:
    out = io.StringIO()
    print_boards([replace(boards[0], reference=NASTY)], Console(width=300, file=out))
    assert f"Trade-offs: change from {NASTY}" in out.getvalue()


@pytest.mark.parametrize(
    ("confidence", "told"), [(0.95, "95%"), (0.975, "97.5%"), (0.999, "99.9%")]
)
def test_intervals_are_told_as_they_were_asked_for(
    boards: tuple[Board, ...], confidence: float, told: str
) -> None:
    table = difference_table(replace(boards[0], confidence=confidence))
    assert table is not None and f"the first ({told}) by itself" in table.notes[0]


def test_the_terminal_marks_ranks(boards: tuple[Board, ...]) -> None:
    out = io.StringIO()
    print_boards(boards, Console(width=300, file=out, force_terminal=True, color_system="standard"))
    assert re.search(r"\x1b\[1m *0\.7500", out.getvalue())
    assert re.search(r"\x1b\[4m *0\.5000", out.getvalue())


def test_an_unknown_format_is_refused_before_anything_is_written(
    boards: tuple[Board, ...], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="Unknown format 'xls'"):
        write_tables(tmp_path / "out", boards, ["md", "xls"])
    assert not (tmp_path / "out").exists()


def test_all_formats_are_written(boards: tuple[Board, ...], tmp_path: Path) -> None:
    written = write_tables(tmp_path / "out", boards, FORMATS)
    shown = [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."]
    assert sorted(path.name for path in written) == sorted(shown)
    assert len(written) == 11


@pytest.mark.parametrize(("value", "escapes"), [("", True), ("1", False)])
def test_no_color_leaves_no_escapes_on_a_terminal(
    value: str, escapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = io.StringIO()
    Terminal(file=shown, force_terminal=True).print(Text("best", style="bold red underline"))
    assert ("\x1b" in shown.getvalue()) == escapes
    assert "best" in shown.getvalue()


def test_a_score_that_is_no_mean_shows_the_interval_of_its_results(tmp_path: Path) -> None:
    runs = []
    for name, ends in (("p", (50.0, 71.5)), ("q", (math.nan, math.nan))):
        figures = {"alias": "i", "icat,none": 62.5, "icat_stderr,none": "N/A"}
        figures |= {"icat_low,none": ends[0], "icat_high,none": ends[1]}
        runs.append(
            plant(
                tmp_path / name,
                {"trust_stereoset_icat": [1.0, 0.0]},
                arguments=f"pretrained=o/{name}",
                results={"trust_stereoset_icat": figures},
            )
        )
    boards = build_boards(runs)
    (column,) = boards[0].columns
    assert column.metric == "icat"
    markdown = to_markdown(boards)
    assert "62.50 \\[50.00, 71.50\\]" in markdown
    assert "62.50 (one group: no interval)" in markdown and "not a mean over items" in markdown
    line, other = csv.DictReader(io.StringIO(texts(boards, ["csv"])["leaderboard.csv"]))
    assert (line[f"{column.key} low"], line[f"{column.key} high"]) == ("50.0", "71.5")
    assert other[f"{column.key} low"] == "nan"
    (board,) = json.loads(texts(boards, ["json"])["leaderboard.json"])["boards"]
    assert board["rows"][0]["scores"][column.key]["interval"] == {
        "mean": 62.5,
        "low": 50.0,
        "high": 71.5,
    }
    assert not any("not a finite" in note or "has no icat" in note for note in boards[0].notes)
    (finding,) = story_of(build_boards(runs[:1])[0]).findings
    assert "62.50 [50.00, 71.50]" in finding.text
