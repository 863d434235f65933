"""Strategies by name: those of this package, and those that other packages add by entry points.

An entry carries its whole behaviour, so adding one touches no other place. Another package
adds to a registry in its ``pyproject.toml``, for example::

    [project.entry-points."lm_eval_trust.actions"]
    reflect = "my_package.actions:REFLECT"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from lm_eval_trust.core.errors import InputError, unknown_name

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries of one kind by name.

    Looking up a built-in name imports nothing. Looking up another name, or listing the names,
    searches the installed packages; a foreign entry is imported when it is looked up.

    Args:
        kind: What an entry is called in messages, e.g. ``steering action``.
        group: Entry-point group in which other packages name theirs.
        entry_type: Class that every entry has to be an instance of.
        builtin: Entries of this package.
    """

    def __init__(
        self, kind: str, group: str, entry_type: type[Entry], builtin: Mapping[str, Entry]
    ) -> None:
        self.kind, self.group = kind, group
        self._type = entry_type
        self._entries = dict(builtin)
        self._advertised: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            InputError: There is none, or another package's entry cannot be used; the message
                names what is known, or the package.
        """
        if name not in self._entries:
            advertised = self._foreign()
            if name not in advertised:
                raise unknown_name(self.kind, str(name), self)
            self._entries[name] = self._load(advertised[name])
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._foreign()})

    def __len__(self) -> int:
        return len({**self._entries, **self._foreign()})

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._foreign()

    def get(self, name: str, default: Any = None) -> Any:
        """Return the entry of a name, or ``default`` if there is none.

        Raises:
            InputError: Another package's entry cannot be used.
        """
        return self[name] if name in self else default  # noqa: SIM401

    def _foreign(self) -> Mapping[str, EntryPoint]:
        """Return the entry points of installed packages, those of taken names refused."""
        if self._advertised is None:
            found: dict[str, EntryPoint] = {}
            for point in entry_points(group=self.group):
                # An editable install may list the same distribution twice.
                same = found.get(point.name)
                if point.name in self._entries or (same and same.value != point.value):
                    raise InputError(
                        f"The {self.kind} {point.name!r} of {_package(point)} has a name that is "
                        f"taken; rename it there, or uninstall that package."
                    )
                found[point.name] = point
            self._advertised = found
        return self._advertised

    def _load(self, point: EntryPoint) -> Entry:
        try:
            entry = point.load()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"The {self.kind} {point.name!r} of {_package(point)} cannot be imported from "
                f"{point.value} ({reason}). Fix or uninstall that package."
            ) from error
        if not isinstance(entry, self._type):
            raise InputError(
                f"The {self.kind} {point.name!r} of {_package(point)} is of type "
                f"{type(entry).__name__}; expected {self._type.__name__}."
            )
        return entry


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else f"the entry point {point.value}"
