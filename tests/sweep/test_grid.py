from __future__ import annotations

from pathlib import Path

import pytest
from support.conformance import random_vector

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.steering.spec import SteeringSpec, read_steering_file, steering_yaml
from lm_eval_trust.sweep.grid import (
    Grid,
    midpoints,
    parse_numbers,
    parse_sweep_layers,
)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("15", ((15,),)),
        ("10-12", ((10,), (11,), (12,))),
        ("12,14", ((12,), (14,))),
        ("14+16,3", ((14, 16), (3,))),
    ],
)
def test_layers_are_tried_one_by_one_or_together(
    text: str, layers: tuple[tuple[int, ...], ...]
) -> None:
    assert parse_sweep_layers(text) == layers


def test_a_grid_holds_every_combination_but_the_unsteered_model() -> None:
    grid = Grid(("a", "b"), ((1,), (2, 3)), (0.0, 0.5, 2.0), ("generated", "all"))
    assert len(grid.configurations) == 2 * 2 * 2 * 2
    assert len(grid.families) == 2 * 2 * 2
    assert len({configuration.describe() for configuration in grid.configurations}) == 16


def test_the_file_of_a_configuration_asks_for_the_same_plan(tmp_path: Path) -> None:
    vector = random_vector(8, (1, 2), norm=1.0, seed=0)
    (tmp_path / "vectors").mkdir()
    file = tmp_path / "vectors" / "v.safetensors"
    vector.save(file)
    asked = SteeringSpec(
        vector=str(file), layer=(1, 2), alpha=0.75, positions="all", action="ablate", scale="none"
    )
    written = tmp_path / "steering.yaml"
    written.write_text(steering_yaml([asked], tmp_path, comment="two\nlines"), encoding="utf-8")
    (read,) = read_steering_file(written)
    assert "vectors/v.safetensors" in written.read_text(encoding="utf-8")
    assert str(tmp_path) not in written.read_text(encoding="utf-8")
    assert read.plan().fingerprint == asked.plan().fingerprint


def test_refinement_goes_halfway_to_the_neighbours() -> None:
    family = SteeringSpec(vector="v", layer=1, alpha=0.0)
    assert [c.alpha for c in midpoints(family, [1.0, 2.0, 4.0], 2.0)] == [1.5, 3.0]
    assert [c.alpha for c in midpoints(family, [1.0, 2.0, 4.0], 4.0)] == [3.0]
    assert [c.alpha for c in midpoints(family, [1.0, 2.0, 4.0], 1.0)] == [0.5, 1.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ((1,), (1,))}, "name each once"),
        ({"vectors": ()}, "name each once"),
        ({"alphas": (float("nan"),)}, "finite"),
        ({"alphas": (0.0,)}, "unsteered"),
        ({"action": "push"}, "known are ablate, add, clamp"),
        ({"positions": ("all", "some")}, "Unknown kind of positions 'some'"),
        ({"scale": "huge"}, "Unknown scale 'huge'"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    settings = {"vectors": ("v",), "layers": ((1,),), "alphas": (1.0,)} | changes
    with pytest.raises(InputError, match=message):
        Grid(**settings)  # type: ignore[arg-type]


def test_numbers_are_sorted_and_checked() -> None:
    assert parse_numbers("--alphas", "4,0.5,1,1") == (0.5, 1.0, 4.0)
    with pytest.raises(InputError, match="--alphas is 'a,b'"):
        parse_numbers("--alphas", "a,b")
