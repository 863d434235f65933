"""The provider ``lm_eval_trust`` of inspect_ai: a model of ours, steered or not.

Tested with inspect_ai 0.3.285.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import torch
from anyio import to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.inspect_logs import RECORD
from lm_eval_trust.inspect_bridge.answering import Answerer, Settings
from lm_eval_trust.model_wrappers.arguments import as_flag
from lm_eval_trust.plugin import INSIDE_VLLM, MODELS

#: Tokens that are generated where neither the task nor the user says how many.
MAX_TOKENS = 512
_ROLES = ("system", "user", "assistant")
#: Settings that are applied.
_APPLIED = ("max_tokens", "temperature", "top_p", "top_k", "stop_seqs", "seed")
#: Settings of inspect_ai that change no answer of a model on this machine.
_HARMLESS = (
    *("max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections"),
    *("adaptive_connections", "system_message", "parallel_tool_calls", "internal_tools"),
    *("max_tool_output", "cache_prompt", "cache", "batch", "reasoning_history"),
)


class TrustModel(ModelAPI):  # type: ignore[misc]
    """A model of ours in inspect_ai.

    Answers are those of the harness's ``generate_until`` with the same prompt: greedy unless the
    temperature is above 0. A prompt is written by the tokenizer's chat template, if it has one.

    Args:
        model_name: Folder or Hub name, ``mini-chat``, … (``pretrained`` of ``amber``).
        base_url: Not used.
        api_key: Not used.
        config: How inspect_ai generates by default.
        wrapper: Our model: ``amber`` (default), ``lora_amber``, ``finetuned_amber``,
            ``proxy_amber``, ….
        use_chat_template: ``false`` asks by the messages' texts alone.
        **model_args: Arguments of that model: the steering (``vector``, ``layer``, ``alpha``, …, as
            :class:`lm_eval_trust.steering.spec.SteeringSpec` has them), ``dtype``, ``device``,
            ``batch_size``, ….

    Raises:
        InputError: An argument is unknown, or the steering does not fit the model.
        ExternalError: The model is neither local nor reachable.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (as the base class has it)
        *,
        wrapper: str = "amber",
        use_chat_template: bool | str = True,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if wrapper not in MODELS:
            raise unknown_name("model", wrapper, MODELS)
        if wrapper not in INSIDE_VLLM:
            # The harness's own default is CUDA, whether or not there is any.
            model_args.setdefault("device", "cuda" if torch.cuda.is_available() else "cpu")
        model = resolve_name(MODELS[wrapper])(pretrained=model_name, **model_args)
        wanted = as_flag("use_chat_template", use_chat_template)
        self._model: Any = model
        self._templated = wanted and bool(getattr(model.tokenizer, "chat_template", None))
        self._answerer = Answerer(model)

    async def generate(
        self, input: list[ChatMessage], tools: list[Any], tool_choice: Any, config: GenerateConfig
    ) -> ModelOutput:
        """Answer messages; see ``inspect_ai.model.ModelAPI``.

        Raises:
            InputError: Tools, several choices, pictures, or settings that a model on this machine
                does not have.
        """
        if tools:
            raise InputError(
                "lm_eval_trust models take no tools; leave them out of the task, or evaluate a "
                "model that was trained to use them."
            )
        settings, prompt = settings_of(config), self._prompt(input)
        started = time.monotonic()
        answer = await to_thread.run_sync(self._answerer.answer, prompt, settings)
        return self._output(prompt, answer, settings, time.monotonic() - started)

    def max_connections(self) -> int:
        """Return how many requests are answered together."""
        return self._answerer.batch_size

    def collapse_user_messages(self) -> bool:
        """Templates take one message of a user at a time."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """The same for the assistant."""
        return True

    def _prompt(self, messages: Sequence[ChatMessage]) -> str:
        turns = [_turn(message) for message in messages]
        if self._templated:
            prompt: str = self._model.apply_chat_template(turns)
            return prompt
        return "\n\n".join(turn["content"] for turn in turns)

    def _output(self, prompt: str, answer: str, settings: Settings, seconds: float) -> ModelOutput:
        read, written = (len(self._model.tok_encode(text)) for text in (prompt, answer))
        info = self._model.get_model_info()
        record = {name: info[name] for name in ("trust_fingerprint", "steering", "trained_on")}
        message = ChatMessageAssistant(content=answer, model=self.model_name, source="generate")
        stopped = "max_tokens" if written >= settings.max_tokens else "stop"
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=stopped)],
            usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
            time=seconds,
            metadata={RECORD: record},
        )


def settings_of(config: GenerateConfig) -> Settings:
    """Return how to generate.

    Raises:
        InputError: A setting is asked for that would change nothing here.
    """
    given = {
        name: value
        for name, value in config.model_dump(exclude_none=True).items()
        if value not in (False, [], {}) and name not in _HARMLESS
    }
    if given.get("num_choices") == 1:
        del given["num_choices"]
    if unknown := [name for name in given if name not in _APPLIED]:
        raise InputError(
            f"lm_eval_trust models do not take {', '.join(sorted(unknown))}; they take "
            f"{', '.join(_APPLIED)}. Leave it out."
        )
    return Settings(
        max_tokens=given.get("max_tokens") or MAX_TOKENS,
        temperature=float(given.get("temperature") or 0.0),
        top_p=given.get("top_p"),
        top_k=given.get("top_k"),
        stop=tuple(given.get("stop_seqs") or ()),
        seed=given.get("seed"),
    )


def _turn(message: ChatMessage) -> Mapping[str, str]:
    if message.role not in _ROLES:
        raise InputError(f"lm_eval_trust models take no message of the role {message.role!r}.")
    if isinstance(message.content, list):
        kinds = {part.type for part in message.content} - {"text", "reasoning"}
        if kinds:
            raise InputError(
                f"lm_eval_trust models read text; this message has {', '.join(sorted(kinds))}."
            )
    return {"role": message.role, "content": message.text}
