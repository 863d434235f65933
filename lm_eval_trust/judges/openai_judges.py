"""Judges behind an OpenAI-compatible server: OpenAI's own, vLLM, llama.cpp, Ollama, TGI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.judges import prompts
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.openai_client import Server, StoppedError, server_address
from lm_eval_trust.judges.openai_requests import KINDS, tokens_of
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.settings import JudgeSettings, joined, split_models
from lm_eval_trust.judges.verdicts import judge_with_cache

_TRUTH: dict[str, Callable[[Answer], Prompt]] = {
    "completions": prompts.truth_cue,
    "chat": prompts.truth_rubric,
}
_INFO: dict[str, Callable[[Answer], Prompt]] = {
    "completions": prompts.info_cue,
    "chat": prompts.info_rubric,
}
_TOXIC: dict[str, Callable[[str], Prompt]] = {
    "chat": prompts.toxicity_rubric,
    "moderation": Prompt,
}
_VERSIONS = {
    "completions": prompts.COMPLETIONS_VERSION,
    "chat": prompts.RUBRIC_VERSION,
    "moderation": "moderation-1",
}


class _OpenAIJudge:
    """What judges of truth and of toxicity have in common."""

    def __init__(self, name: str, form: str, settings: JudgeSettings) -> None:
        self.name = name
        self.form = form
        self._settings = settings
        self._server = Server(settings)
        self._server.check()
        self.version = f"{_VERSIONS[form]} {fingerprint({'name': name, 'form': form})}"

    @property
    def description(self) -> Mapping[str, Any]:
        """Model, form of the prompts, and the server's address, for the record."""
        return {
            "kind": "openai",
            "model": self.name.removeprefix("openai:"),
            "form": self.form,
            "prompts": _VERSIONS[self.form],
            "server": self._server.address,
        }

    def _engine(self, model: str) -> RemoteEngine:
        return RemoteEngine(
            self._server, model, self.form, _VERSIONS[self.form], self._settings.concurrency
        )


def truth_identity(models: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAITruthJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form that judges no truth.
    """
    return _identity(joined(models), _truth_form(models, settings), settings)


def toxicity_identity(model: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAIToxicityJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form that judges no toxicity.
    """
    return _identity(model, _toxicity_form(model, settings), settings)


def _truth_form(models: str, settings: JudgeSettings) -> str:
    truth, info = split_models(models)
    form = settings.form or ("completions" if truth != info else "chat")
    if form not in _TRUTH:
        raise InputError(f"judge_form={form} judges no truth; choose completions or chat.")
    return form


def _toxicity_form(model: str, settings: JudgeSettings) -> str:
    form = settings.form or ("moderation" if "moderation" in model else "chat")
    if form not in _TOXIC:
        raise InputError(f"judge_form={form} judges no toxicity; choose moderation or chat.")
    return form


def _identity(model: str, form: str, settings: JudgeSettings) -> str:
    return f"openai {server_address(settings)} {model} {form} {_VERSIONS[form]}"


class OpenAITruthJudge(_OpenAIJudge):
    """A model, or a pair of fine-tuned ones, that judges answers.

    Two models are asked in the completions form, as fine-tuned judges are, one is asked in a chat;
    ``judge_form`` decides otherwise.

    Args:
        models: ``MODEL`` or ``TRUTH_MODEL,INFO_MODEL``, as the server calls them.
        settings: Address, form, limits.

    Raises:
        InputError: No key for OpenAI's own server, no ``openai`` package, or a form that judges
            no truth.
        ExternalError: The server refuses the key, or does not answer.
    """

    def __init__(self, models: str, settings: JudgeSettings) -> None:
        self._truth_model, self._info_model = split_models(models)
        super().__init__(f"openai:{joined(models)}", _truth_form(models, settings), settings)

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is true; ``score`` is the probability of *yes* if given."""
        asked = [_TRUTH[self.form](answer) for answer in answers]
        return judge_with_cache(asked, self._engine(self._truth_model))

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is informative; ``score`` as for truth."""
        asked = [_INFO[self.form](answer) for answer in answers]
        return judge_with_cache(asked, self._engine(self._info_model))


class OpenAIToxicityJudge(_OpenAIJudge):
    """A model of moderations, or one that is asked in a chat.

    Args:
        model: Its name; one that has ``moderation`` in it is asked for moderations.
        settings: Address, form, limits.

    Raises:
        InputError: As for truth.
        ExternalError: As for truth.
    """

    def __init__(self, model: str, settings: JudgeSettings) -> None:
        self._model = model
        super().__init__(f"openai:{model}", _toxicity_form(model, settings), settings)

    def toxic(self, texts: Sequence[str]) -> list[Verdict]:
        """Return whether each text is toxic.

        ``score`` is the probability of *yes*, or a moderation's highest score of hate and
        harassment.
        """
        asked = [_TOXIC[self.form](text) for text in texts]
        return judge_with_cache(asked, self._engine(self._model))


@dataclass
class RemoteEngine:
    """One model of a server, asked in one form.

    Attributes:
        server: Where.
        model: Its name there.
        form: A name of :data:`KINDS`.
        version: Of the prompts.
        concurrency: Requests at once.
        without: Parameters that the server has refused so far.
    """

    server: Server
    model: str
    form: str
    version: str
    concurrency: int
    without: frozenset[str] = field(default=frozenset())

    @property
    def identity(self) -> str:
        """What verdicts depend on; another address may serve another model of the same name."""
        return f"openai {self.server.address} {self.model} {self.form} {self.version}"

    @property
    def title(self) -> str:
        """The model's name."""
        return self.model

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield prompts with their verdicts as they come.

        The first request that fails for good stops the others; what is under way is waited for,
        since it is paid for.

        Raises:
            ExternalError: A request failed for good.
        """
        waiting = iter(prompts)
        running: dict[Future[Verdict], Prompt] = {}
        failure: ExternalError | None = None
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge")
        try:
            while True:
                while failure is None and len(running) < self.concurrency:
                    prompt = next(waiting, None)
                    if prompt is None:
                        break
                    running[pool.submit(self._decide, prompt)] = prompt
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    prompt = running.pop(done)
                    try:
                        verdict = done.result()
                    except StoppedError:
                        continue
                    except ExternalError as error:
                        failure = failure or error
                        self.server.stopped.set()
                        continue
                    yield prompt, verdict
        finally:
            self.server.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.server.stopped.clear()
        if failure is not None:
            raise failure

    def _decide(self, prompt: Prompt) -> Verdict:
        verdict = self._ask(prompt)
        return verdict if verdict.accepted is not None else self._ask(prompt)

    def _ask(self, prompt: Prompt) -> Verdict:
        kind = KINDS[self.form]
        reply = self.server.ask(
            lambda client: kind.send(client, self.model, prompt, self.without),
            sent=prompt.system + prompt.text,
            reply_tokens=kind.reply_tokens,
            usage=tokens_of,
            adapt=self._leave_out,
        )
        return kind.read(reply)

    def _leave_out(self, error: Exception) -> bool:
        """Leave out, from here on, the optional parameters that a server's refusal names."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        refused = frozenset(name for name in KINDS[self.form].optional if name in str(error))
        new = refused - self.without
        self.without |= new
        return bool(new)
