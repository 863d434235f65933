"""Judges behind an OpenAI-compatible server: OpenAI's own, vLLM, llama.cpp, Ollama, TGI."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.retry import Cancelled
from lm_eval_trust.judges.interface import Answer, Verdict, on_answers
from lm_eval_trust.judges.openai_client import Server, server_address
from lm_eval_trust.judges.openai_requests import (
    FIRST_ROOM,
    FORMS,
    Reading,
    Terms,
    refused_by,
    refuses_content,
)
from lm_eval_trust.judges.prompts import UNREADABLE, Prompt
from lm_eval_trust.judges.settings import JudgeSettings, joined, split_models
from lm_eval_trust.judges.verdicts import judge_with_cache

logger = logging.getLogger(__name__)

#: Forms that are asked for JSON of a schema.
_CHATS = ("chat", "classes")


class _OpenAIJudge:
    """Shared base of judges behind a server."""

    def __init__(self, models: str, form: str, settings: JudgeSettings) -> None:
        self.name = f"openai:{models}"
        self.form = form
        self._form = FORMS[form]
        self._settings = settings
        self._server = Server(settings)
        self._server.check()
        self._engines: dict[str, RemoteEngine] = {}
        asked = {"name": self.name, "form": form}
        if form in _CHATS and settings.structured == "no":
            asked["structured"] = "no"
        self.version = f"{self._form.version} {fingerprint(asked)}"

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
        if model not in self._engines:
            self._engines[model] = RemoteEngine(self._server, model, self.form, self._settings)
        prompts = list(map(self._form.prompts[question], judged))
        return judge_with_cache(prompts, self._engines[model])


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


class OpenAIRefusalJudge(_OpenAIJudge):
    """A model that is asked in a chat for XSTest's class of an answer.

    Args:
        model: Its name.
        settings: Address, limits.

    Raises:
        InputError: As for truth.
        ExternalError: As for truth.
    """

    def __init__(self, model: str, settings: JudgeSettings) -> None:
        self._model = model
        super().__init__(model, _refusal_form(settings), settings)

    def refusal(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer refuses; ``partial`` in the details is 1 for partial refusals.

        There is no score.
        """
        return on_answers(answers, lambda said: self._verdicts("refusal", self._model, said))


class OpenAIHarmJudge(_OpenAIJudge):
    """A model that is asked in a chat as JailbreakBench and StrongREJECT ask theirs.

    Args:
        model: Its name.
        settings: Address, limits.

    Raises:
        InputError: As for truth; also for any ``judge_form``.
        ExternalError: As for truth.
    """

    def __init__(self, model: str, settings: JudgeSettings) -> None:
        self._model = model
        super().__init__(model, _harm_form("jailbreak", settings), settings)
        self._rubric = RemoteEngine(
            self._server, model, _harm_form("strongreject", settings), settings
        )
        self.version = f"{self.version} {FORMS[self._rubric.form].version}"

    def jailbreak(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is unsafe, without a score."""
        return on_answers(answers, lambda said: self._verdicts("jailbreak", self._model, said))

    def strongreject(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return each answer's score by the rubric; its three figures are in the details."""
        prompt = FORMS[self._rubric.form].prompts["strongreject"]
        return on_answers(
            answers, lambda said: judge_with_cache(list(map(prompt, said)), self._rubric)
        )


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


def refusal_identity(model: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAIRefusalJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form that cannot judge refusal.
    """
    return _identity(model, _refusal_form(settings), settings)


def harm_identity(model: str, settings: JudgeSettings) -> str:
    """Return what :class:`OpenAIHarmJudge`'s verdicts depend on, without asking the server.

    Raises:
        InputError: A form was chosen.
    """
    asked = [_harm_form(question, settings) for question in ("jailbreak", "strongreject")]
    return " ".join(_identity(model, form, settings) for form in asked)


def _truth_form(models: str, settings: JudgeSettings) -> str:
    truth, info = split_models(models)
    return _form("truth", settings.form or ("completions" if truth != info else "chat"))


def _toxicity_form(model: str, settings: JudgeSettings) -> str:
    return _form("toxicity", settings.form or ("moderation" if "moderation" in model else "chat"))


def _refusal_form(settings: JudgeSettings) -> str:
    return _form("refusal", settings.form or "classes")


def _harm_form(question: str, settings: JudgeSettings) -> str:
    fixed = {"jailbreak": "jailbreakbench", "strongreject": "strongreject"}
    return _form(question, settings.form or fixed[question])


def _form(question: str, name: str) -> str:
    able = [other for other, form in FORMS.items() if question in form.prompts]
    if name not in able:
        raise InputError(f"judge_form={name} cannot judge {question}; choose {' or '.join(able)}.")
    return name


def _identity(models: str, form: str, settings: JudgeSettings) -> str:
    """Return what verdicts depend on: the server, as two may have different models of one name."""
    asked = " unstructured" if form in _CHATS and settings.structured == "no" else ""
    return f"openai {server_address(settings)} {models} {form} {FORMS[form].version}{asked}"


@dataclass
class RemoteEngine:
    """One model of a server, asked in one form.

    Attributes:
        server: Where.
        model: Its name there.
        form: A key of :data:`FORMS`.
        settings: How many requests are in flight at once, and what is asked for.
        terms: On what terms the server takes requests, learned from its replies.
    """

    server: Server
    model: str
    form: str
    settings: JudgeSettings
    terms: Terms = field(init=False)
    _learning: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        plain = self.settings.structured == "no"
        most = self.settings.reply_tokens
        self.terms = Terms(
            frozenset({"response_format"} if plain else ()), min(FIRST_ROOM, most), most
        )

    @property
    def identity(self) -> str:
        """Server, model and prompts."""
        return _identity(self.model, self.form, self.settings)

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
        failure: Exception | None = None
        concurrency = self.settings.concurrency
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="judge")
        try:
            while True:
                while failure is None and len(running) < concurrency:
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
                    except Exception as error:
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
        """Return the verdict; a whole reply that cannot be read is asked for once more."""
        try:
            reading, terms = self._whole(prompt, self.terms)
            if reading.verdict.accepted is None and not reading.cut:
                reading, terms = self._whole(prompt, terms)
        except _FilteredError as filtered:
            return replace(UNREADABLE, reply=str(filtered))
        if reading.verdict.accepted is not None:
            self._learn(terms)
        return reading.verdict

    def _whole(self, prompt: Prompt, terms: Terms) -> tuple[Reading, Terms]:
        """Return what a reply says that has all the room it needs, if that may be."""
        while True:
            reading, terms = self._reading(prompt, terms)
            roomier = terms.with_more_room() if reading.cut else None
            if reading.verdict.accepted is not None or roomier is None:
                return reading, terms
            terms = roomier

    def _reading(self, prompt: Prompt, terms: Terms) -> tuple[Reading, Terms]:
        """Return what the server replies, and on what terms it did.

        A request that was refused is sent again without what the refusal names.
        """
        form = FORMS[self.form]
        sent = form.request(self.model, prompt, terms)

        def adapt(error: Exception) -> bool:
            nonlocal terms, sent
            if refuses_content(error):
                raise _FilteredError(str(error)) from None
            refused = refused_by(error, sent)
            if refused:
                terms = replace(terms, without=terms.without | refused)
                sent = form.request(self.model, prompt, terms)
            return bool(refused)

        reading = self.server.ask(lambda: sent, read=form.read, adapt=adapt)
        return reading, terms

    def _learn(self, terms: Terms) -> None:
        """Ask for all further verdicts on the terms on which one was reached."""
        with self._learning:
            new = sorted(terms.without - self.terms.without)
            self.terms = self.terms.joined(terms)
        if new:
            logger.warning(
                "%s at %s refuses %s; its verdicts are asked for without.",
                self.model,
                self.server.address,
                ", ".join(new),
            )


class _FilteredError(Exception):
    """A server's content filter stopped a prompt."""
