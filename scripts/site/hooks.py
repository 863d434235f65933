"""MkDocs' hooks of the site: what is generated at build time, and formulas as MathML.

A page asks for a generated part by a comment line, ``<!-- insert NAME ARGUMENT -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arguments
import commands
import exits
import notebooks
import readmes
import schemas
from latex2mathml.converter import convert
from layout import ROOT, package_folder
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

import tasks

_INSERT = re.compile(r"^<!-- insert ([a-z-]+)(?: (\S+))? -->$", re.MULTILINE)
_FORMULA = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Name of a part -> what writes it, given the argument and the page's path in docs/.
PARTS: dict[str, Callable[[str, str], str]] = {
    "commands": lambda argument, page: commands.help_pages(),
    "model-arguments": lambda argument, page: arguments.table(argument),
    "exit-codes": lambda argument, page: exits.table(),
    "keys": lambda argument, page: schemas.table(argument),
    "readme": lambda argument, page: readmes.section(ROOT / argument, page),
    "tasks": lambda argument, page: tasks.table(argument),
}


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: Any) -> None:
    """Give mkdocstrings the package laid out as its wheel."""
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(package_folder())]


def on_files(files: Any, config: Any) -> Any:
    """Add the notebooks as pages; the notebooks themselves are copied as they are."""
    for path, content in notebooks.pages(Path(config.docs_dir)).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with its generated parts and its formulas."""
    path = page.file.src_uri
    markdown = _INSERT.sub(lambda match: PARTS[match[1]](match[2] or "", path), markdown)
    return _FORMULA.sub(lambda match: f"{convert(match[1].strip(), display='block')}\n", markdown)
