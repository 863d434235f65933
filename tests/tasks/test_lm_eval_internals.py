"""The insides of lm-eval that our tasks touch are where they were."""

from __future__ import annotations

from importlib.metadata import version

from lm_eval.api.filter import Filter
from lm_eval.api.task import ConfigurableTask
from support.harness import manager

from lm_eval_trust.tasks import lm_eval_internals
from lm_eval_trust.tasks.lm_eval_internals import add_metric, has_metric, set_filter


class Upper(Filter):  # type: ignore[misc]
    """Writes answers in capitals."""

    def apply(self, resps: list[list[str]], docs: list[dict[str, str]]) -> list[str]:
        return [answers[0].upper() for answers in resps]


def test_lm_eval_is_the_version_that_the_module_was_tested_with() -> None:
    assert version("lm_eval") in (lm_eval_internals.__doc__ or ""), (
        "lm_eval was upgraded: check the attributes in tasks/lm_eval_internals.py and name the "
        "new version there"
    )


def test_metrics_and_filters_reach_lm_evals_own_interface(planted: None) -> None:
    task = manager().load(["trust_sst2_clean"])["tasks"]["trust_sst2_clean"]
    assert isinstance(task, ConfigurableTask)
    assert has_metric(task, "acc") and not has_metric(task, "acc_of_mine")
    add_metric(task, "acc_of_mine", max, like="acc")
    assert task.aggregation()["acc_of_mine"] is max
    assert task.higher_is_better()["acc_of_mine"] is task.higher_is_better()["acc"] is True
    set_filter(task, Upper)
    task.build_all_requests(limit=1, rank=0, world_size=1)
    for request in task.instances:
        request.resps = ["positive"]
    task.apply_filters()
    assert task.instances[0].filtered_resps == {"none": "POSITIVE"}
