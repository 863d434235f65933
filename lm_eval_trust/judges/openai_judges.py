"""Judges behind an OpenAI-compatible server: OpenAI's own, vLLM, llama.cpp, Ollama, TGI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.retry import Cancelled
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.openai_client import Server, server_address
from lm_eval_trust.judges.openai_requests import FORMS, tokens_of
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.settings import JudgeSettings, joined, split_models
from lm_eval_trust.judges.verdicts import judge_with_cache


class _OpenAIJudge:
    """Shared base of judges of truth and of toxicity."""

    def __init__(self, models: str, form: str, settings: JudgeSettings) -> None:
        self.name = f"openai:{models}"
        self.form = form
        self._form = FORMS[form]
        self._settings = settings
        self._server = Server(settings)
        self._server.check()
        self.version = f"{self._form.version} {fingerprint({'name': self.name, 'form': form})}"

    @property
    def description(self) -> Mapping[str, Any]:
        """Models, form and version of the prompts, and the server's address."""
        return {
            "kind": "openai",
            "model": self.name.removeprefix("openai:"),
            "form": self.form,
            "prompts": self._form.version,
            "server": self._server.address,
        }

    def _verdicts(self, question: str, model: str, judged: Sequence[Any]) -> list[Verdict]:
        engine = RemoteEngine(self._server, model, self.form, self._settings.concurrency)
        return judge_with_cache(list(map(self._form.prompts[question], judged)), engine)


class OpenAITruthJudge(_OpenAIJudge):
    """A model, or a pair of fine-tuned ones, that judges answers.

    A pair is asked by completions, as fine-tuned judges are, a single model in a chat;
    ``judge_form`` overrides this.

    Args:
        models: ``MODEL`` or ``TRUTH_MODEL,INFO_MODEL``, as the server calls them.
        settings: Address, form, limits.

    Raises:
        InputError: No key for OpenAI's own server, no ``openai`` package, or a form that cannot
            judge truth.
        ExternalError: The server refuses the key, or does not answer.
    """

    def __init__(self, models: str, settings: JudgeSettings) -> None:
        self._truth_model, self._info_model = split_models(models)
        super().__init__(joined(models), _truth_form(models, settings), settings)

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is true; ``score`` is the probability of *yes* if known."""
        return self._verdicts("truth", self._truth_model, answers)

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is informative; ``score`` as for truth."""
        return self._verdicts("info", self._info_model, answers)


class OpenAIToxicityJudge(_OpenAIJudge):
    """A moderation model, or one that is asked in a chat.

    Args:
        model: Its name; if it contains ``moderation``, the moderation endpoint is asked.
        settings: Address, form, limits.

    Raises:
        InputError: As for truth.
        ExternalError: As for truth.
    """

    def __init__(self, model: str, settings: JudgeSettings) -> None:
        self._model = model
        super().__init__(model, _toxicity_form(model, settings), settings)

    def toxic(self, texts: Sequence[str]) -> list[Verdict]:
        """Return whether each text is toxic.

        ``score`` is the probability of *yes*, or the highest score of a moderation's categories
        of hate and harassment.
        """
        return self._verdicts("toxicity", self._model, texts)


def truth_identity(models: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAITruthJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form that cannot judge truth.
    """
    return _identity(joined(models), _truth_form(models, settings), settings)


def toxicity_identity(model: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAIToxicityJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form that cannot judge toxicity.
    """
    return _identity(model, _toxicity_form(model, settings), settings)


def _truth_form(models: str, settings: JudgeSettings) -> str:
    truth, info = split_models(models)
    return _form("truth", settings.form or ("completions" if truth != info else "chat"))


def _toxicity_form(model: str, settings: JudgeSettings) -> str:
    return _form("toxicity", settings.form or ("moderation" if "moderation" in model else "chat"))


def _form(question: str, name: str) -> str:
    able = [other for other, form in FORMS.items() if question in form.prompts]
    if name not in able:
        raise InputError(f"judge_form={name} cannot judge {question}; choose {' or '.join(able)}.")
    return name


def _identity(models: str, form: str, settings: JudgeSettings) -> str:
    return f"openai {server_address(settings)} {models} {form} {FORMS[form].version}"


@dataclass
class RemoteEngine:
    """One model of a server, asked in one form.

    Attributes:
        server: Where.
        model: Its name there.
        form: A key of :data:`FORMS`.
        concurrency: Requests in flight at once.
        without: Optional parameters that the server has refused so far.
    """

    server: Server
    model: str
    form: str
    concurrency: int
    without: frozenset[str] = field(default=frozenset())

    @property
    def identity(self) -> str:
        """Server, model and prompts; two servers may have different models of one name."""
        version = FORMS[self.form].version
        return f"openai {self.server.address} {self.model} {self.form} {version}"

    @property
    def title(self) -> str:
        """The model's name."""
        return self.model

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield prompts with their verdicts as they arrive.

        The first request that fails for good stops the others; those in flight are awaited,
        because they are paid for.

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
                    except Cancelled:
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
        form = FORMS[self.form]
        reply = self.server.ask(
            lambda client: form.send(client, self.model, prompt, self.without),
            sent=prompt.system + prompt.text,
            reply_tokens=form.reply_tokens,
            usage=tokens_of,
            adapt=self._leave_out,
        )
        return form.read(reply)

    def _leave_out(self, error: Exception) -> bool:
        """Drop the optional parameters that a server's refusal names, from now on."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        refused = frozenset(name for name in FORMS[self.form].optional if name in str(error))
        new = refused - self.without
        self.without |= new
        return bool(new)
