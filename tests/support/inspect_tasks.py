"""Small evaluations of inspect_ai about an invented town."""

from __future__ import annotations

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelAPI, ModelOutput, modelapi
from inspect_ai.scorer import choice, includes, match
from inspect_ai.solver import Solver, generate, multiple_choice, system_message

QUESTIONS = (
    ("Who lights the lamps of Zürnvale?", "Orla"),
    ("What is sold at its harbour?", "salt"),
    ("Which river runs by it?", "Venn"),
    ("When does its bell ring?", "noon"),
)


@task
def lamps(strict: bool = False) -> Task:
    """Open questions, scored by whether the answer is in the text."""
    return Task(
        dataset=[Sample(id=f"q{i}", input=q, target=a) for i, (q, a) in enumerate(QUESTIONS)],
        solver=generate(),
        scorer=match() if strict else includes(),
    )


@task
def harbour() -> Task:
    """Questions with choices, behind a system message."""
    rows = [("Which is a fish?", ["eel", "oak"]), ("Which is a tree?", ["oak", "eel"])]
    solver: list[Solver] = [system_message("Answer by a letter."), multiple_choice()]
    return Task(
        dataset=[Sample(id=i, input=q, choices=c, target="A") for i, (q, c) in enumerate(rows)],
        solver=solver,
        scorer=choice(),
    )


@modelapi(name="scripted")
class Scripted(ModelAPI):  # type: ignore[misc]
    """A model that says what it was told to, one answer after the other."""

    def __init__(self, model_name: str, *given: Any, answers: list[str], **further: Any) -> None:
        super().__init__(model_name, *given, **further)
        self._answers = iter(answers)

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
        return ModelOutput.from_content(self.model_name, next(self._answers))
