"""A linter for prose, with this project's list of habits that a native reader stumbles over.

    python scripts/prose.py [FILE …]

reads the pages (README, CHANGELOG, CONTRIBUTING, docs, the tasks' READMEs), the help of every
command, and the docstrings of the public API; or the files that are named. Each finding is a line
with the place, the phrase, and what to write instead. The exit code is 1 if there is any.

Vale has the same purpose; its package downloads a binary at the first run, which CI cannot rely on.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md", "tasks/**/README.md")
CODE = ("lm_eval_trust", "tasks", "model_wrappers", "analysis")

LONGEST_SENTENCE = 35  # words
MOST_PASSIVES = 3  # in one sentence

_UNITS = (
    "answer|batch|benchmark|card|case|category|cell|checkpoint|class|column|command|configuration|"
    "dimension|entry|file|GPU|group|item|layer|line|machine|measurement|method|metric|model|"
    "parameter|process|prompt|question|row|run|second|setting|statement|step|task|template|token|"
    "word|worker"
)
_NO_UNIT = r"(?:as|at|by|for|from|has|have|if|in|is|of|on|or|than|that|to|when|with)\b"
#: Phrase -> what to write instead.
HABITS = {
    r"\b(?:is|are|was|were) (?:not )?to be had\b": "is (not) available",
    r"\b(?:can|could|cannot) be had\b": "you can get; is available",
    r"\bhad by\b": "you get it with",
    r"\bthat (?:is|are) none\b": "that are not …",
    r"\b(?:is|are) no (?:[\w-]+-\w+ )?(?:dict|file|folder|layer|list|means?|metric|model|name|"
    r"number|path|rewording|step|task|test|text|vector)\b": "is not a …",
    r"\bof (?:one's|its|his|their) own\b(?! (?!and|at|if|in|or|so|that|which|with)\w)": "its own …",
    r"\bone's own\b": "your own",
    r"\ban own\b|\bown ones\b": "its own …",
    r"(?<!you )(?<!I )\b(?:is|are|was|were) told\b": "you get …; … is reported",
    r"\b(?:have|has) to be (?:named|said|told)\b": "you have to give; … must be given",
    r"\b(?:it|which|that|this|table|page|name|names|file|report|line|figure|command|guide|text|"
    r"help|row|word|words|docs) tells? (?!you\b)": "says; shows; describes",
    r"\btells? (?:\w+ ){0,4}apart\b|\btold apart\b": "separate; distinguish",
    r"\b(?:is|are) said so\b|\band it is said\b": "you get a message; … is reported",
    r"\bbeside\b": "next to; along with; in addition to; compared with",
    r"\bstand(?:s|ing)? (?:above|at|below|beside|here|in|on|under|where)\b": "is; is listed",
    r"\b(?:board|cell|column|directory|document|field|file|folder|group|line|list|module|package|"
    r"page|record|report|row|store|table|tag|vector)s? holds?\b(?! (?:together|for))": "contains",
    r"\bheld against\b|\bholds? (?:\w+ ){1,4}against\b": "compare with",
    r"\b(?:lie|lies|lay) (?:at|beside|in|there|under|where)\b": "is in; are there",
    r"\bgo(?:es)? on\b|\bwent on\b|\bgoing on\b": "continue",
    r"\bgo(?:es)? by\b": "uses; follows",
    r", so that\b": ", so",
    r"\bwhere there (?:is|are|was|were)\b": "if there is",
    r"\bless (?:that|the|theirs|those|its|what|controls)\b(?! (?:than|often))": "minus",
    r"\bless (?-i:CODE|[A-Z][a-z]\w*)\b": "minus",
    r"\b(?:do|does|did) not tell\b": "does not say",
    r"\brightly\b": "correctly",
    r"\bin the place of\b": "instead of",
    r"\banew\b": "again",
    r"\bmends?\b|\bmended\b": "fix",
    r"\bsomebody\b(?! said)": "someone",
    r"\b(?:thereof|therein|wherein|whereof|hereby|herein)\b": "say it directly",
    rf"\b(?:a|an|one|two|three|four|five|ten|\d+(?:[.,]\d+)*|bytes|seconds)"
    rf"(?: (?!{_NO_UNIT})\w+)? an? (?:{_UNITS})\b": "… per …",
    r"\bamong them\b": "including",
    r"\bfor want of\b": "because there is no",
    r"[,;] else\b": "otherwise",
    r"\bturn(?:s|ed)? (?:it )?round\b": "reverse; flip",
    r"\bin passing\b": "temporarily",
    r"\bthat is all\b": "leave it out",
    r"\bat hand\b": "available",
    r"\bit is (?:so|thus) that\b": "say it directly",
    r"\bas far as (?:\w+ ){1,4}can be\b": "if possible",
    r"\breckon(?:s|ed|ing)?\b": "assume; calculate",
    r"\bforetells?\b": "predict",
    r"\bby hand of\b|\bby way of\b": "with",
    r"\bbut for\b": "except for",
    r"\bin the like\b|\blikewise\b": "the same; also",
    r"\bsave for\b": "except for",
    r"\bto each (?:its|his|their)\b": "its own … for each",
    r"^(?:Of (?:it|them|the|this|these|what|which|each|a)\b.{0,60}|How many)\.$": "say what it is",
    r"\b(?:they|it) (?:are|is) none\.": "say what is wrong",
    r"\bwhich of (?:them|these) (?:is|are) (?:meant|asked)\b": "which one you mean",
    r"\bfor (?:itself|themselves)\b": "separately",
    r"\bnot (?:yet )?at (?:all )?hand\b": "not available",
    r"\bhas (?:its|their) way\b": "say what happens",
    r"\bput (?:on trial|together)\b": "test; combine",
    r"\bserves? (?:for|as) (?:the|a) (?:purpose|end)\b": "say what it does",
    r"\bno more than (?:that|this)\b": "only this",
    r"\bdoes without\b|\bdo without\b": "don't need",
    r"\bout of (?:their|its) own\b": "by itself",
    r"\bkept apart\b|\bstands? apart\b": "separate",
    r"\bor else\b(?! to)": "otherwise",
}
_HABITS = [(re.compile(phrase, re.IGNORECASE), advice) for phrase, advice in HABITS.items()]
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|being) (?:\w+ly )?(?:\w+ed|told|said|kept|held|made|built|taken|"
    r"given|read|found|shown|known|written|left|chosen|drawn|meant|put|set|cut|run)\b"
)
_WORD = re.compile(r"[A-Za-z][\w'’-]*")


@dataclass(frozen=True)
class Text:
    """A piece of prose.

    Attributes:
        place: ``FILE:LINE``, or the command whose help it is.
        words: Its text, without markup.
    """

    place: str
    words: str


def main() -> int:
    """Print what is found and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    found = sorted(set(findings(texts(options.files))))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(found)} places to reword", file=sys.stderr)
    return 1 if found else 0


def texts(files: Iterable[Path]) -> Iterator[Text]:
    """Yield the prose of some files, or of all there is."""
    given = list(files)
    pages = given or [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for path in pages:
        read = docstrings if path.suffix == ".py" else paragraphs
        yield from read(path)
    if not given:
        for folder in CODE:
            for path in sorted((ROOT / folder).rglob("*.py")):
                yield from docstrings(path)
        yield from help_texts()


def findings(found: Iterable[Text]) -> Iterator[str]:
    """Yield a line for each habit, long sentence and heap of passives."""
    for text in found:
        for phrase, advice in _HABITS:
            for match in phrase.finditer(text.words):
                yield f"{text.place}: “{match[0]}”: write: {advice}"
        for sentence in sentences(text.words):
            count = len(_WORD.findall(sentence))
            if count > LONGEST_SENTENCE:
                yield f"{text.place}: {count} words: split “{sentence[:60]}…”"
            passives = len(_PASSIVE.findall(sentence))
            if passives > MOST_PASSIVES:
                yield f"{text.place}: {passives} passives: say who does it: “{sentence[:60]}…”"


def sentences(words: str) -> list[str]:
    """Return the sentences of a text; what stands in brackets, and after a colon, is apart."""
    plain = re.sub(r"\([^()]*\)", "", words)
    return [s.strip() for s in re.split(r"(?<=[.!?:;])\s+", plain) if s.strip()]


def paragraphs(path: Path) -> Iterator[Text]:
    """Yield the paragraphs, list items and cells of a Markdown file."""
    fenced, block, first = False, [], 0
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""
        elif fenced or (line.startswith("    ") and not block) or line.startswith(":::"):
            continue
        begins = re.match(r"\s*(?:[-*|#>]|\d+\.)\s|\s*\||:   ", line)
        if block and (begins or not line.strip()):
            yield from _cells(f"{_shown(path)}:{first}", " ".join(block))
            block = []
        if line.strip():
            block, first = [*block, line.strip()], first if block else number


def _cells(place: str, block: str) -> Iterator[Text]:
    cells = re.split(r"(?<!\\)\|", block) if block.startswith("|") else [block]
    for cell in cells:
        yield Text(place, plain(cell))


def plain(text: str) -> str:
    """Return a text without markup; code becomes a word that no rule knows."""
    text = re.sub(r"<!--.*?-->|<[^>]+>|\$[^$]+\$", " ", text)
    text = re.sub(r":\w+:`[^`]*`|``[^`]*``|`[^`]*`", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"https?://\S+", "LINK", text)
    text = re.sub(r"^\s*(?:#+|[-*>]|\d+\.|:)\s+", "", text)
    text = re.sub(r"\*\*|\*|\\", "", text).replace("e.g.", "for example").replace("i.e.", "that is")
    return re.sub(r"\b(eq|al|vs|cf|no|sec)\. ", r"\1 ", text).strip()


def docstrings(path: Path) -> Iterator[Text]:
    """Yield the paragraphs of the docstrings of public modules, classes and functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _public(tree):
        if not ast.get_docstring(node):
            continue
        holder = node.body[0]
        assert isinstance(holder, ast.Expr) and isinstance(holder.value, ast.Constant)
        yield from _entries(path, holder.lineno, str(holder.value.value))


def _public(
    node: ast.Module | ast.ClassDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    yield node
    for child in node.body:
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from _public(child)
            else:
                yield child


def _entries(path: Path, first: int, docstring: str) -> Iterator[Text]:
    """Yield the paragraphs of a docstring and the entries of its sections."""
    block: list[str] = []
    start = first
    entry = re.compile(r"\s+(?:\*{0,2}\w+(?: \([^)]*\))?: |[-*] )")
    head, _, rest = docstring.partition("\n")
    lines = [f"    {head}", *textwrap.indent(textwrap.dedent(rest), "    ").splitlines(), ""]
    for number, line in enumerate(lines, first):
        verbatim = line.startswith("        ") and not block and not entry.match(line)
        section = re.fullmatch(r"\s*[A-Z]\w+:", line)
        if block and (not line.strip() or section or entry.match(line)):
            yield Text(f"{_shown(path)}:{start}", plain(" ".join(block)))
            block = []
        if line.strip() and not section and not verbatim:
            text = entry.sub("", line, count=1) if entry.match(line) else line
            block, start = [*block, text.strip()], start if block else number


def help_texts() -> Iterator[Text]:
    """Yield the sentences of every command's help."""
    sys.path.insert(0, str(ROOT / "scripts" / "site"))
    from commands import walk

    from lm_eval_trust.cli import build_parser

    for command in walk(build_parser()):
        place = f"lm-eval-trust {command.name} --help"
        parser = command.parser
        for text in (command.summary, parser.description, parser.epilog):
            yield from (Text(place, plain(part)) for part in (text or "").split("\n\n"))
        for action in parser._actions:
            if action.help and action.help != "==SUPPRESS==":
                flag = (action.option_strings or [action.dest])[-1]
                yield Text(f"{place} {flag}", plain(action.help))


def _shown(path: Path) -> str:
    return (
        str(path.resolve().relative_to(ROOT)) if path.resolve().is_relative_to(ROOT) else str(path)
    )


if __name__ == "__main__":
    sys.exit(main())
