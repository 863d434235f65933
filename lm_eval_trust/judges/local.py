"""Local models that judge: finding, loading, placing and freeing them."""

from __future__ import annotations

import gc
import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.judges.interface import Verdict
from lm_eval_trust.judges.prompts import Prompt
from lm_eval_trust.judges.settings import JudgeSettings
from lm_eval_trust.models.loading import load_whole, loading_errors
from lm_eval_trust.models.sources import (
    Source,
    existing_device,
    find_source,
    hub_errors,
    resolve_dtype,
)

logger = logging.getLogger(__name__)

_CONFIGURATION = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors", "*.bin")
#: Memory that a judge needs relative to its weight files; the rest is for activations.
_HEADROOM = 1.25


@dataclass(frozen=True)
class LocalModel:
    """A judge's model, whose files are on this machine.

    Attributes:
        source: Which model.
        folder: Its files.
        settings: How it is run.
    """

    source: Source
    folder: Path
    settings: JudgeSettings

    @classmethod
    def find(cls, spec: str, settings: JudgeSettings) -> LocalModel:
        """Find ``MODEL[@REVISION]``, and fetch its files from the Hub if they are missing.

        Raises:
            InputError: There is no such model.
            ExternalError: The Hub cannot be reached.
        """
        source = find_source(spec)
        return cls(source, _fetched(source), settings)

    @property
    def precision(self) -> dict[str, str]:
        """The dtype and quantization that were asked for."""
        return _precision(self.settings)

    @property
    def identity(self) -> str:
        """Its name, content and precision."""
        return model_identity(self.source, self.settings)

    def load(self, kind: Any) -> Any:
        """Load the model by one of transformers' ``AutoModelFor…`` classes.

        Raises:
            InputError: It is not of this kind, its weights are not whole, or the settings do not
                fit this machine.
        """
        device = choose_device(self.settings.device, self._size())
        arguments: dict[str, Any] = {
            "dtype": resolve_dtype(self.settings.dtype or None, device),
            "device_map": {"": device},
        }
        if self.settings.quantization:
            arguments["quantization_config"] = _quantization(self.settings.quantization)
        what = self._named(kind)
        return load_whole(kind, self.folder, what=what, **arguments).eval()

    def tokenizer(self) -> Any:
        """Return its tokenizer."""
        from transformers import AutoTokenizer

        return self._loaded(AutoTokenizer)

    def config(self) -> Any:
        """Return its configuration."""
        from transformers import AutoConfig

        return self._loaded(AutoConfig)

    def _loaded(self, kind: Any) -> Any:
        with loading_errors(self._named(kind)):
            return kind.from_pretrained(self.folder)

    def _named(self, kind: Any) -> str:
        return f"the judge {self.source.identity.name} by {kind.__name__}"

    def _size(self) -> int:
        files = [file for pattern in _WEIGHTS for file in self.folder.glob(pattern)]
        return sum(file.stat().st_size for file in files)


class LocalEngine(ABC):
    """A local model that judges; it is in memory only while it does.

    Args:
        model: The model.
    """

    #: One of transformers' ``AutoModelFor…`` classes.
    kind: str

    def __init__(self, model: LocalModel) -> None:
        self.model = model

    @property
    @abstractmethod
    def identity(self) -> str:
        """What its verdicts depend on, apart from the prompt."""

    @property
    def title(self) -> str:
        """The model's name."""
        return self.model.source.identity.name

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer()

    def judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]:
        """Yield prompts with their verdicts, batch by batch.

        Raises:
            InputError: The model cannot be loaded, or cannot judge.
        """
        try:
            yield from self._judge(prompts)
        finally:
            # The frame of _judge held the last reference to the model and is gone by now.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @abstractmethod
    def _judge(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Verdict]]: ...

    def _load(self) -> Any:
        import transformers

        return self.model.load(getattr(transformers, self.kind))


def model_identity(source: Source, settings: JudgeSettings) -> str:
    """Return a model's content and precision; its weights need not be here."""
    which = source.identity
    content = which.commit or which.revision
    return " ".join(["hf", which.name, content, *_precision(settings).values()])


def _precision(settings: JudgeSettings) -> dict[str, str]:
    asked = {"dtype": settings.dtype, "quantization": settings.quantization}
    return {name: value for name, value in asked.items() if value}


def choose_device(asked: str, weights: int) -> str:
    """Return the device for a judge whose weights take so many bytes.

    The model under test still occupies memory while the harness's filters run, so a GPU is used
    only if enough of its memory is free; otherwise the CPU, with a warning.

    Raises:
        InputError: ``asked`` is not a device of this machine.
    """
    if asked:
        return str(existing_device(asked, setting="judge_device"))
    if not torch.cuda.is_available():
        return "cpu"
    needed = weights * _HEADROOM
    free = {index: torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())}
    roomy = max(free, key=lambda index: free[index])
    if free[roomy] >= needed:
        return f"cuda:{roomy}"
    logger.warning(
        "The judge needs %.1f GB, which no GPU has free beside the model under test, so it runs on "
        "the CPU. judge_quantization=8bit makes it smaller; `lm-eval-trust judge` judges saved "
        "samples in a separate process.",
        needed / 1e9,
    )
    return "cpu"


def _fetched(source: Source) -> Path:
    """Return the folder of a model's files, with safetensors alone if the model has them."""
    if Path(source.location).is_dir():
        return Path(source.location)
    identity = source.identity
    with hub_errors(identity.name, identity.revision):
        folder = Path("")
        for weights in _WEIGHTS:
            folder = Path(
                snapshot_download(
                    source.location,
                    revision=identity.commit,
                    allow_patterns=[*_CONFIGURATION, weights],
                )
            )
            if any(folder.glob(weights)):
                return folder
    raise InputError(f"{identity.name} at {identity.revision} contains no weight files.")


def _quantization(kind: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"judge_quantization={kind} needs the package bitsandbytes: pip install bitsandbytes."
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit")


Item = TypeVar("Item")


def by_length(
    items: Sequence[Item], size: int, length: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield batches of similar length, which need little padding.

    The longest come first, so running out of memory shows at once.
    """
    ordered = sorted(items, key=length, reverse=True)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
