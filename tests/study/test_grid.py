"""Which cells a study has, and which of them a change touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.mini.world import SEED_VARIABLE
from lm_eval_trust.study import cells
from lm_eval_trust.study.cells import EvaluationCell
from lm_eval_trust.study.grid import Study

Open = Callable[..., Study]


ALL = {"activations", "vectors", "analysis", "evaluations"}


def names(study: Study) -> set[str]:
    return {cell.name for cell in study.grid().cells}


def kinds_touched(before: Study, after: Study) -> set[str]:
    """Kinds of cells that the second study has to compute anew."""
    return {name.split("/")[0] for name in names(after) - names(before)}


def test_a_grid_has_every_combination_once(open_study: Open, text: str) -> None:
    grid = open_study(text).grid()
    assert len(grid.activations) == len(grid.vectors) == len(grid.analyses) == 3
    assert len(grid.evaluations["plain"]) == 3
    # As it is, and by three sources at two blocks: α = 0 is the model as it is.
    assert len(grid.evaluations["transfer"]) == 1 + 3 * 2
    assert len(grid.cells) == 9 + 3 + 7
    assert grid.activations[0].layers == (0, 1, 2)


def test_two_entries_share_a_cell(open_study: Open, text: str) -> None:
    again = "  - {name: again, models: checkpoints, tasks: [trust_stereoset_mini], limit: 2}\n"
    twice = text.replace("engine:", again + "engine:")
    grid = open_study(twice).grid()
    assert grid.evaluations["again"] == grid.evaluations["plain"]
    assert names(open_study(twice)) == names(open_study(text))


@pytest.mark.parametrize(
    ("old", "new", "touched"),
    [
        ("threads: 1", "threads: 2, batch_size: 64, device: cpu", set()),
        ("engine:", "budget: {checkpoints: 2}\nengine:", set()),
        ("alphas: [0, 4]", "alphas: [0, 2]", {"evaluations"}),
        ("controls: 1", "controls: 2", {"analysis"}),
        ("engine:", "information: {permutations: 6}\nengine:", set()),
        ("limit: 2}", "limit: 3}", {"evaluations"}),
        ("engine:", "metadata: {perturbation_rate: 0.1}\nengine:", {"evaluations"}),
        ("layers: 0+2", "layers: 0+1+2", {"analysis"}),
        ("engine:", "method: logistic\nengine:", {"vectors", "evaluations"}),
        ("statements: 40", "statements: 41", ALL),
        (
            "engine:",
            "dtype: bfloat16\nengine:",
            ALL,
        ),
        (
            "engine:",
            "seeds: [0, 1]\nengine:",
            ALL,
        ),
    ],
)
def test_a_change_touches_the_cells_that_depend_on_it(
    old: str, new: str, touched: set[str], open_study: Open, text: str
) -> None:
    assert old in text
    assert kinds_touched(open_study(text), open_study(text.replace(old, new))) == touched


def test_more_seeds_leave_the_cells_of_the_first(open_study: Open, text: str) -> None:
    more = open_study(text.replace("engine:", "seeds: [0, 1]\nengine:"))
    assert names(open_study(text)) < names(more)


def test_another_probing_layer_leaves_steered_evaluations(open_study: Open, text: str) -> None:
    def steered(study: Study) -> set[str]:
        return {c.name for c in study.grid().cells if isinstance(c, EvaluationCell) and c.steering}

    assert steered(open_study(text)) == steered(open_study(text.replace("0+2", "0+1+2")))


def test_another_world_is_another_study(
    open_study: Open, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(open_study(text))
    monkeypatch.setenv(SEED_VARIABLE, "1")
    assert not before & names(open_study(text))


def test_the_input_is_stored_where_dependence_on_it_is_measured(
    open_study: Open, text: str
) -> None:
    probed = text.replace("layers: 0+2", "layers: 2")
    assert {cell.layers for cell in open_study(probed).grid().activations} == {(1, 2)}
    informed = probed.replace("compute: [probes, vectors]", "compute: [information, vectors]")
    assert {cell.layers for cell in open_study(informed).grid().activations} == {(0, 1, 2)}
    assert {cell.settings.layers for cell in open_study(informed).grid().analyses} == {(2,)}


def test_a_setting_of_judges_in_the_environment_is_part_of_evaluations(
    open_study: Open, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluations(study: Study) -> set[str]:
        return {c.name for c in study.grid().cells if isinstance(c, EvaluationCell)}

    before, others = evaluations(open_study(text)), names(open_study(text))
    monkeypatch.setenv("LM_EVAL_TRUST_JUDGE_CONCURRENCY", "2")
    assert evaluations(open_study(text)) == before
    monkeypatch.setenv("LM_EVAL_TRUST_JUDGE_QUANTIZATION", "8bit")
    assert not before & evaluations(open_study(text))
    assert others - before == names(open_study(text)) - evaluations(open_study(text))


def test_another_release_of_a_library_evaluates_again(
    open_study: Open, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(open_study(text))
    monkeypatch.setattr(cells, "software", lambda: {"transformers": "0.0.0"})
    new = names(open_study(text)) - before
    assert {name.split("/")[0] for name in new} == {"evaluations"}


def test_what_a_skipped_checkpoint_is_needed_for_is_left_out(open_study: Open, text: str) -> None:
    grid = open_study(text).grid({"ckpt_002"})
    assert {cell.model.name for cell in grid.activations} == {"ckpt_000", "ckpt_001"}
    assert {cell.last.model.name for cell in grid.analyses} == {"ckpt_001"}
    assert len(grid.evaluations["transfer"]) == 1 + 2 * 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[trust_stereoset_mini]", "[trust_stereset_mini]", r"evaluations.0.tasks: Unknown task"),
        ("layers: 0+2", "layers: 0+2\ncheckpoints: [ckpt_9]", r"line 7, checkpoints: .*ckpt_9"),
        ("sources: checkpoints", "sources: [/nowhere]", r"steering.sources.0: .*no model folder"),
        ('pattern: "ckpt_(', 'pattern: "step_(', r"line 3, family: "),
        ("family: {folder", "family: {name: ambr, folder", r"family: .*exactly one"),
    ],
)
def test_names_that_do_not_exist_are_told_with_their_place(
    old: str, new: str, message: str, open_study: Open, text: str
) -> None:
    assert old in text
    with pytest.raises(InputError, match=message):
        open_study(text.replace(old, new)).grid()


def test_an_unknown_family_is_told(open_study: Open) -> None:
    with pytest.raises(InputError, match=r"line 2, family: Unknown family 'ambr'.*'amber'"):
        open_study("study: s\nfamily: {name: ambr}\ncompute: [probes]\n")
