"""A registry finds what this package and others bring, and names what it cannot use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.registry import Registry

GROUP = "lm_eval_trust.test_colours"


@dataclass(frozen=True)
class Colour:
    hue: float


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Lay out a distribution as pip does: ``install("name", module="text", points="a = m:X")``."""
    before = set(sys.modules)

    def lay(name: str, *, module: str, points: str) -> None:
        site = tmp_path / name
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
        (site / f"{name}_module.py").write_text(module)
        monkeypatch.syspath_prepend(str(site))

    yield lay
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


def _registry() -> Registry[Colour]:
    return Registry("colour", GROUP, Colour, {"red": Colour(0.0), "green": Colour(120.0)})


MODULE = "from {here} import Colour\nBLUE = Colour(240.0)\nNUMBER = 7\n"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "colours_of_the_test", sys.modules[__name__])
    return MODULE.format(here="colours_of_the_test")


def test_built_in_entries_are_found() -> None:
    registry = _registry()
    assert registry["green"] == Colour(120.0)
    assert list(registry) == ["red", "green"]
    assert "red" in registry
    assert "blue" not in registry


def test_an_unknown_name_tells_what_is_known() -> None:
    with pytest.raises(InputError, match=r"colour 'gren'; known are green, red\. .*'green'"):
        _registry()["gren"]


def test_another_package_adds_an_entry(install: Callable[..., None], module: str) -> None:
    install("paints", module=module, points="blue = paints_module:BLUE")
    registry = _registry()
    assert registry["blue"] == Colour(240.0)
    assert list(registry) == ["red", "green", "blue"]
    assert len(registry) == 3


def test_listing_imports_no_foreign_module(install: Callable[..., None]) -> None:
    install("paints", module="raise RuntimeError('imported')", points="blue = paints_module:BLUE")
    assert list(_registry()) == ["red", "green", "blue"]
    assert "paints_module" not in sys.modules


@pytest.mark.parametrize(
    ("source", "entry", "message"),
    [
        ("raise RuntimeError('no luck')", "BLUE", r"package paints cannot be imported .*no luck"),
        ("", "BLUE", r"package paints cannot be imported .*BLUE"),
        (MODULE, "NUMBER", r"package paints is of type int; expected Colour"),
    ],
)
def test_an_entry_that_cannot_be_used_names_its_package(
    install: Callable[..., None], module: str, source: str, entry: str, message: str
) -> None:
    source = module if source == MODULE else source
    install("paints", module=source, points=f"blue = paints_module:{entry}")
    with pytest.raises(InputError, match=message):
        _registry()["blue"]


def test_a_taken_name_is_refused(install: Callable[..., None], module: str) -> None:
    install("paints", module=module, points="red = paints_module:BLUE")
    with pytest.raises(InputError, match=r"'red' of the package paints has a name that is taken"):
        _registry()["blue"]


def test_two_packages_cannot_share_a_name(install: Callable[..., None], module: str) -> None:
    install("paints", module=module, points="blue = paints_module:BLUE")
    install("dyes", module=module, points="blue = dyes_module:BLUE")
    with pytest.raises(InputError, match=r"has a name that is taken"):
        _registry()["blue"]
