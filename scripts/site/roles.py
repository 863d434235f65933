"""References in docstrings, ``:class:`package.Thing```, as links of the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Turns Sphinx's roles into MkDocs' references, to where the name is documented, if it is."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_reference, obj.docstring.value)


def plain(text: str) -> str:
    """Return a text with names in code font where it had roles, fit for a table's cell."""
    named = _ROLE.sub(lambda match: f"`{match[1].rsplit('.', 1)[-1]}`", text)
    return named.replace("``", "`").replace("|", "\\|")


def _reference(match: re.Match[str]) -> str:
    name = match[1]
    if "." not in name:  # A method of the same class; a heading of a page may have this name.
        return f"`{name}`"
    return f'<autoref identifier="{name}" optional>`{name.rsplit(".", 1)[-1]}`</autoref>'
