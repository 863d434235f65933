"""Judges behind an OpenAI-compatible server: OpenAI's own, vLLM, llama.cpp, Ollama, TGI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.judges import prompts
from lm_eval_trust.judges.cached import verdicts_on
from lm_eval_trust.judges.interface import Answer, Verdict
from lm_eval_trust.judges.model_pair import joined, split_models
from lm_eval_trust.judges.openai_client import Server
from lm_eval_trust.judges.openai_engine import RemoteEngine
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.settings import JudgeSettings

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
        pair = self._truth_model != self._info_model
        form = settings.form or ("completions" if pair else "chat")
        if form not in _TRUTH:
            raise InputError(f"judge_form={form} judges no truth; choose completions or chat.")
        super().__init__(f"openai:{joined(models)}", form, settings)

    def truth(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is true; ``score`` is the probability of *yes* if given."""
        asked = [_TRUTH[self.form](answer) for answer in answers]
        return verdicts_on(asked, self._engine(self._truth_model))

    def info(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return whether each answer is informative; ``score`` as for truth."""
        asked = [_INFO[self.form](answer) for answer in answers]
        return verdicts_on(asked, self._engine(self._info_model))


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
        form = settings.form or ("moderation" if "moderation" in model else "chat")
        if form not in _TOXIC:
            raise InputError(f"judge_form={form} judges no toxicity; choose moderation or chat.")
        self._model = model
        super().__init__(f"openai:{model}", form, settings)

    def toxic(self, texts: Sequence[str]) -> list[Verdict]:
        """Return whether each text is toxic.

        ``score`` is the probability of *yes*, or a moderation's highest score of hate and
        harassment.
        """
        asked = [_TOXIC[self.form](text) for text in texts]
        return verdicts_on(asked, self._engine(self._model))
