"""Concurrent requests answered by one model on this machine, in batches."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.api.instance import Instance


@dataclass(frozen=True)
class Settings:
    """How an answer is generated.

    Attributes:
        max_tokens: Tokens at most.
        temperature: 0 for greedy decoding.
        top_p: Share of the probability that is sampled from.
        top_k: Number of tokens that are sampled from.
        stop: Texts that end an answer, and are cut off.
        seed: Seed of sampling.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Generation arguments as tasks of the harness have them."""
        found: dict[str, Any] = {"until": list(self.stop), "max_gen_toks": self.max_tokens}
        if self.temperature == 0:
            return {**found, "do_sample": False}
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        given = {name: value for name, value in sampling.items() if value is not None}
        return {**found, "do_sample": True, **given}


@dataclass
class _Request:
    prompt: str
    settings: Settings
    seed: int | None
    answer: str | None = None
    error: Exception | None = None

    @property
    def is_open(self) -> bool:
        return self.answer is None and self.error is None


@dataclass
class Answerer:
    """Answers prompts from several threads; whoever gets the model answers for others that wait.

    Args:
        model: A harness model, used by one thread at a time.
    """

    model: Any
    _waiting: list[_Request] = field(default_factory=list)
    _asked: Counter[tuple[str, Settings]] = field(default_factory=Counter)
    _list: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def batch_size(self) -> int:
        """How many prompts are answered together."""
        size = self.model.batch_size
        return size if isinstance(size, int) else 1

    def answer(self, prompt: str, settings: Settings) -> str:
        """Return the answer to a prompt.

        The seed of a sampled answer follows from the setting, the prompt and how often it was asked
        before, so the order of concurrent requests does not matter, and epochs differ.

        Raises:
            InputError: The prompt is too long, or the model's logits are not numbers.
        """
        with self._list:
            times = self._asked[prompt, settings]
            self._asked[prompt, settings] += 1
            request = _Request(prompt, settings, _seed(prompt, settings, times))
            self._waiting.append(request)
        while request.is_open:
            with self._turn:
                if request.is_open:
                    self._answer(self._take(request))
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer

    def _take(self, own: _Request) -> list[_Request]:
        """Take a request off the list, with others of its settings if it is not sampled."""
        with self._list:
            alike = [
                each
                for each in self._waiting
                if each is not own
                and each.settings == own.settings
                and not own.settings.temperature
            ]
            taken = [own, *alike[: self.batch_size - 1]]
            self._waiting = [each for each in self._waiting if not any(each is t for t in taken)]
            return taken

    def _answer(self, batch: list[_Request]) -> None:
        try:
            for request, answer in zip(batch, self._generate(batch), strict=True):
                request.answer = answer
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            # One of them is at fault: the others get their answers.
            for request in batch:
                self._answer([request])

    def _generate(self, batch: list[_Request]) -> list[str]:
        instances = [
            Instance("generate_until", {}, (each.prompt, each.settings.arguments), number)
            for number, each in enumerate(batch)
        ]
        # Sampling leaves the process's own random numbers as they are.
        with torch.random.fork_rng(enabled=batch[0].settings.temperature > 0):
            if batch[0].seed is not None:
                torch.manual_seed(batch[0].seed)
            found: list[str] = self.model.generate_until(instances, disable_tqdm=True)
            return found


def _seed(prompt: str, settings: Settings, times: int) -> int | None:
    if settings.seed is None:
        return None
    text = f"{settings.seed}/{times}/{prompt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
