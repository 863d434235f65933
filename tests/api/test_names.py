"""The public names: listed, light to import, callable although rooms have the same names."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import lm_eval_trust as let


def test_every_public_name_is_there() -> None:
    assert set(let.__all__) <= set(dir(let))
    for name in let.__all__:
        assert getattr(let, name) is not None
    with pytest.raises(AttributeError, match="lod"):
        let.lod  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import lm_eval_trust; "
        "print(*sorted(n for n in set(sys.modules) - before if 'trust' not in n)); "
        "print(*sorted(n for n in sys.modules if n.startswith('lm_eval_trust.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() in ([], ["lm_eval_trust._hook"])


@pytest.mark.parametrize("first", ["room", "function"])
def test_rooms_of_the_same_name_can_be_called(first: str) -> None:
    steps = {
        "room": "import lm_eval_trust.sweep as room; assert room.SEARCHES",
        "function": "assert callable(let.sweep)",
    }
    order = [steps[first], *(step for name, step in steps.items() if name != first)]
    code = "; ".join(["import lm_eval_trust as let", *order, "assert callable(let.sweep)"])
    subprocess.run([sys.executable, "-c", code], check=True)


def test_callable_rooms_tell_their_signature() -> None:
    assert list(inspect.signature(let.evaluate).parameters)[:2] == ["model", "tasks"]
    assert "allow_leak" in inspect.signature(let.evaluate).parameters
