"""A model that is loaded once for all cells of a job."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from lm_eval_trust.models.activations import compute_dtype
from lm_eval_trust.models.sources import Source, load_tokenizer
from lm_eval_trust.study.cells import EvaluationCell
from lm_eval_trust.study.harness import load_model

_AS_IT_IS: tuple[str, dict[str, Any]] = ("amber", {})


class LoadedModel:
    """Weights in memory, inside one of our wrappers of the harness.

    The wrapper of the model as it is serves activations and evaluations, steered or not; that of
    an adapter or a proxy-tuned ensemble takes its place when its first cell comes.

    Args:
        source: Where it lies, and which model it is.
        dtype: In which it runs.
        device: A torch device, or ``auto`` for CUDA where there is one.
        batch_size: Of evaluations.
    """

    def __init__(self, source: Source, *, dtype: str, device: str, batch_size: int) -> None:
        self.source = source
        here = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = here if device == "auto" else device
        self._dtype, self._batch_size = dtype, batch_size
        self._wrapped: Any = None
        self._wrapped_as: tuple[str, dict[str, Any]] | None = None

    @property
    def model(self) -> Any:
        """The model as it is, in evaluation mode.

        Raises:
            InputError: It cannot be loaded.
        """
        return self._wrap(*_AS_IT_IS).model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, as it is."""
        return load_tokenizer(self.source)

    @property
    def dtype(self) -> str:
        """In which the model runs."""
        return str(compute_dtype(self.model)).removeprefix("torch.")

    def harness_model(self, cell: EvaluationCell) -> Any:
        """Return the wrapper that a cell evaluates.

        Raises:
            InputError: It cannot be loaded, or an adapter or expert does not fit.
        """
        return self._wrap(*wrapper_of(cell))

    def close(self) -> None:
        """Let go of the weights."""
        if self._wrapped is None:
            return
        self._wrapped = self._wrapped_as = None
        # The harness's model holds itself in circles.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _wrap(self, wrapper: str, arguments: dict[str, Any]) -> Any:
        if self._wrapped_as != (wrapper, arguments):
            self.close()
            here = Path(self.source.location).is_dir()
            self._wrapped = load_model(
                self.source.location,
                arguments if here else arguments | self.source.arguments,
                wrapper=wrapper,
                dtype=self._dtype,
                device=self._device,
                batch_size=self._batch_size,
            )
            self._wrapped_as = (wrapper, arguments)
        return self._wrapped


def wrapper_of(cell: EvaluationCell) -> tuple[str, dict[str, Any]]:
    """Return the harness model that evaluates a cell, and its arguments beside the model."""
    if cell.adapter is not None:
        return "lora_amber", {"adapter": cell.adapter.spec}
    if cell.proxy is not None:
        experts = {"expert": cell.proxy.expert.spec, "antiexpert": cell.proxy.antiexpert.spec}
        return "proxy_amber", {**experts, "proxy_alpha": cell.proxy.alpha}
    return _AS_IT_IS
