"""Texts before prompts: what a model gets instead of being steered."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.evaluate.paired_items import group_of

if TYPE_CHECKING:
    from lm_eval_trust.evaluate.tasks import TaskSet

#: Between a prompt that is set before, or an example, and what follows.
_BLANK_LINE = "\n\n"


def prompt_prefixes(tasks: TaskSet, text: str | None, *, wording: int = 0) -> dict[str, str]:
    """Return the control prompt of each task that makes prompts.

    Args:
        tasks: The tasks.
        text: The prompt; ``None`` for that of each task's benchmark.
        wording: Which of the benchmark's wordings.

    Raises:
        InputError: A task's benchmark has no such prompt, and none is given.
    """
    return {
        name: _ended(_wording(name, task, wording) if text is None else text)
        for name, task in _with_prompts(tasks)
    }


def wordings_of(task: Any) -> tuple[str, ...]:
    """Return the control prompts that a task's benchmark has; the first is the default."""
    from lm_eval_trust.benchmarks.registry import BENCHMARKS, benchmarks_by_form
    from lm_eval_trust.tasks.trust_task import TrustTask

    if not isinstance(task, TrustTask):
        return ()
    return BENCHMARKS[benchmarks_by_form()[task.settings.form]].prompts


def few_shot_prefixes(tasks: TaskSet, number: int, seed: int) -> dict[str, str]:
    """Return examples with their answers for each task that makes prompts.

    They come from the training part of our tasks, and from other tasks' training, or otherwise
    validation, documents; from as many groups as there are examples, none of which is evaluated.

    Args:
        tasks: The tasks.
        number: Number of examples.
        seed: Seed of the draw.

    Raises:
        InputError: A task has no such part, its data have no answers, or too few of them.
    """
    return {name: _examples(name, task, number, seed) for name, task in _with_prompts(tasks)}


def _with_prompts(tasks: TaskSet) -> Iterator[tuple[str, Any]]:
    """Yield the tasks whose requests begin with a prompt; whole texts have none."""
    for name, task in tasks.tasks.items():
        if task.config.output_type != "loglikelihood_rolling":
            yield name, task


def _wording(name: str, task: Any, number: int) -> str:
    known = wordings_of(task)
    if number >= len(known):
        raise InputError(
            f"The control prompt needs a text for {name}: its benchmark has "
            f"{len(known) or 'no'} such prompts. Give one by --control-prompt TEXT or @FILE, or as "
            f"prompt in a check's `controls`."
        )
    return known[number]


def _ended(text: str) -> str:
    return text if text[-1].isspace() else text + _BLANK_LINE


def _examples(name: str, task: Any, number: int, seed: int) -> str:
    evaluated = {_group(doc) for doc in task.eval_docs}
    found: dict[str, str] = {}
    for doc in _shuffled(_documents(name, task), seed):
        group = _group(doc)
        text = "" if group in evaluated or group in found else _example(task, doc)
        if text:
            found[group] = text
        if len(found) == number:
            return "".join(map(_ended, found.values()))
    raise InputError(
        f"The control few-shot:{number} needs {number} examples with answers for {name}, from as "
        f"many groups; its training part has {len(found)}. Ask for fewer, or leave few-shot out."
    )


def _documents(name: str, task: Any) -> Sequence[Mapping[str, Any]]:
    from lm_eval_trust.tasks.trust_task import TrustTask

    if isinstance(task, TrustTask):
        return task.example_rows()
    if task.has_training_docs():
        return list(task.training_docs())
    if task.has_validation_docs() and task.has_test_docs():
        return list(task.validation_docs())
    raise InputError(
        f"The control few-shot needs examples, and {name} has no documents beside those that it "
        f"evaluates. Leave few-shot out, or leave out the task."
    )


def _shuffled(documents: Sequence[Any], seed: int) -> Iterator[Any]:
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)  # nosec B311
    return (documents[i] for i in order)


def _group(doc: Mapping[str, Any]) -> str:
    return group_of(doc) or repr(doc)


def _example(task: Any, doc: Mapping[str, Any]) -> str:
    """Return a document with its answer, as a prompt of the task has it; empty without one."""
    from lm_eval.utils import apply_template

    template = (task.config.dataset_kwargs or {}).get("example")
    if template is not None:
        return str(apply_template(template, dict(doc)))
    prompt, answer = task.doc_to_text(doc), task.doc_to_target(doc)
    if isinstance(answer, int) and task.config.doc_to_choice is not None:
        answer = task.doc_to_choice(doc)[answer]
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    prompt, answer = str(prompt), str(answer)
    if not answer:
        return ""
    apart = "" if prompt[-1:].isspace() or answer[0].isspace() else task.config.target_delimiter
    return prompt + apart + answer
