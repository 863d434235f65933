"""Tables of arguments, read from the docstrings and signatures of the classes that take them."""

from __future__ import annotations

import functools

import griffe
from layout import package_folder
from roles import plain

#: Of models: given by the classes that build on them, not on the command line.
_INTERNAL = ("identities", "trained_on")
_SECTIONS = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes)


def table(path: str) -> str:
    """Return the table of a class's arguments with their defaults.

    Args:
        path: ``module.Class``.
    """
    head = "| argument | default | meaning |\n|---|---|---|"
    return "\n".join([head, *(f"| `{n}` | {d} | {m} |" for n, d, m in described(path))])


def described(path: str) -> list[tuple[str, str, str]]:
    """Return name, default (in code font, empty if there is none) and meaning of each argument."""
    found = _package()[path.removeprefix("lm_eval_trust.")]
    assert found.docstring is not None, path
    sections = found.docstring.parse("google", warnings=False)
    entries = [entry for s in sections if s.kind in _SECTIONS for entry in s.value]
    return [
        (entry.name, _default(found, entry.name), plain(" ".join(entry.description.split())))
        for entry in entries
        if not entry.name.startswith("*") and entry.name not in _INTERNAL
    ]


@functools.cache
def _package() -> griffe.Object:
    package = griffe.GriffeLoader(search_paths=[package_folder()]).load(
        "lm_eval_trust", try_relative_path=False
    )
    assert isinstance(package, griffe.Object)
    return package


def _default(found: griffe.Object, name: str) -> str:
    """Return the default of a dataclass's field or of a parameter of ``__init__``."""
    if name in found.members and found.members[name].is_attribute:
        value = found.members[name].value
    else:
        parameters = found.members["__init__"].parameters
        value = parameters[name].default if name in parameters else None
    if value is None or str(value) == "None":
        return ""
    constant = found.module.members.get(str(value))
    text = str(constant.value if constant is not None and constant.is_attribute else value)
    return f"`{text.strip(chr(39))}`"
