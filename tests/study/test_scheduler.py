"""Jobs come to an end whatever happens to workers, each finished cell once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lm_eval_trust.study.cells import ActivationCell, Cell, StatementChoice
from lm_eval_trust.study.models import StudyModel
from lm_eval_trust.study.scheduler import (
    Event,
    Failed,
    Finished,
    Job,
    JobDone,
    Lost,
    Scheduler,
    Started,
    plan_jobs,
)


def cell(model: str, dimension: str) -> Cell:
    found = StudyModel(model, model, None, step=1, identity=model)
    return ActivationCell(found, dimension, StatementChoice("mini", 0, "grouped", 0, 1), (0,), "f")


def job(model: str, *dimensions: str) -> Job:
    cells = tuple(cell(model, dimension) for dimension in dimensions)
    return Job(cells[0].model, cells)


@dataclass
class ScriptedPool:
    """Workers that finish each cell, but are lost at those of these names, so many times."""

    size: int
    deadly: dict[str, int] = field(default_factory=dict)
    told: list[tuple[str, str | None]] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    _queues: dict[int, list[Event]] = field(default_factory=dict)

    @property
    def ready(self) -> range:
        return range(self.size)

    def submit(self, worker: int, job: Job, upcoming: Job | None) -> None:
        assert not self._queues.get(worker), "the worker is busy"
        self.told.append((job.model.name, upcoming.model.name if upcoming else None))
        events: list[Event] = []
        for found in job.cells:
            events.append(Started(found.name))
            if self.deadly.get(found.name, 0):
                self.deadly[found.name] -= 1
                self._queues[worker] = [*events, Lost("planted")]
                return
            events.append(Finished(found.name, 1.0))
        self._queues[worker] = [*events, JobDone()]

    def wait(self) -> Iterable[tuple[int, Event]]:
        worker = next(number for number, queue in self._queues.items() if queue)
        event = self._queues[worker].pop(0)
        if isinstance(event, Finished):
            self.computed.append(event.cell)
        return [(worker, event)]

    def close(self) -> None:
        pass


def run(pool: ScriptedPool, jobs: list[Job]) -> list[Event]:
    events: list[Event] = []
    Scheduler(pool, events.append).run(jobs)
    return events


def test_every_job_is_done_and_the_next_one_is_told() -> None:
    pool = ScriptedPool(1)
    run(pool, [job("a", "x"), job("b", "x"), job("c", "x")])
    assert pool.told == [("a", "b"), ("b", "c"), ("c", None)]


def test_no_worker_is_idle_while_another_one_looks_ahead() -> None:
    pool = ScriptedPool(2)
    run(pool, [job("a", "x"), job("b", "x"), job("c", "x")])
    assert pool.told[:2] == [("a", "c"), ("b", None)]
    assert len(pool.computed) == 3


def test_what_a_lost_worker_had_is_put_back_without_what_it_finished() -> None:
    jobs = [job("a", "x", "y", "z"), job("b", "x"), job("c", "x")]
    pool = ScriptedPool(1, deadly={jobs[0].cells[1].name: 2})
    events = run(pool, jobs)
    assert sorted(pool.computed) == sorted(c.name for j in jobs for c in j.cells)
    assert not [event for event in events if isinstance(event, Failed)]


def test_a_cell_that_takes_down_every_worker_is_given_up_and_the_rest_goes_on() -> None:
    jobs = [job("a", "x", "y", "z"), job("b", "x")]
    poison = jobs[0].cells[1].name
    pool = ScriptedPool(2, deadly={poison: 99})
    failed = [event for event in run(pool, jobs) if isinstance(event, Failed)]
    assert [(event.cell, event.exit_code) for event in failed] == [(poison, 3)]
    assert "3 workers were lost" in failed[0].message and "planted" in failed[0].message
    assert len(pool.computed) == 3


def test_a_checkpoint_is_one_job_and_other_models_are_dealt_out() -> None:
    from lm_eval_trust.study.cells import EvaluationCell

    statements = StatementChoice("mini", 0, "grouped", 0, 1)
    chat = StudyModel("chat", "chat", identity="chat")
    evaluations = [EvaluationCell(chat, f"t{i}", None, statements, (), "float32") for i in range(5)]
    cells = [cell("a", "x"), cell("b", "x"), cell("a", "y"), *evaluations]
    jobs = plan_jobs(cells, 2)
    assert [len(found.cells) for found in jobs if found.model.name == "a"] == [2]
    assert sorted(len(found.cells) for found in jobs if found.model.name == "chat") == [2, 3]
    assert sum(len(found.cells) for found in jobs) == len(cells)
