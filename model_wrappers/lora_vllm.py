"""``lora_vllm``: a model with a LoRA adapter that vLLM itself applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.engine.vllm_internals import lora_rank
from lm_eval_trust.model_wrappers.amber_arguments import AMBER_CHAT
from lm_eval_trust.model_wrappers.arguments import as_flag
from lm_eval_trust.model_wrappers.steered_vllm import SteeredVLLM
from lm_eval_trust.models.adapters import find_adapter
from lm_eval_trust.models.sources import Source


class LoraVLLM(SteeredVLLM):
    """Harness model ``lora_vllm``: ``lora_amber`` inside vLLM.

    Args:
        pretrained: The adapter's base model; ``LLM360/AmberChat`` by default.
        adapter: Folder or Hub name (``NAME[@REVISION]``) of the adapter.
        merge: Only ``false``: vLLM computes the adapter with the weights.
        any_base: Put the adapter also on another model than the one that it was trained on.
        **arguments: See :class:`lm_eval_trust.model_wrappers.steered_vllm.SteeredVLLM`.

    Raises:
        InputError: No adapter, one that vLLM cannot apply, or another base model.
        ExternalError: It is neither local nor reachable.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {}
    OWN_ARGUMENTS: ClassVar[frozenset[str]] = SteeredVLLM.OWN_ARGUMENTS | {
        "adapter",
        "merge",
        "any_base",
    }

    def __init__(
        self,
        pretrained: Any = None,
        *,
        adapter: str | None = None,
        merge: Any = False,
        any_base: Any = False,
        **arguments: Any,
    ) -> None:
        if adapter is None:
            raise InputError(
                "lora_vllm needs adapter=FOLDER_OR_NAME; train one with `lm-eval-trust finetune`."
            )
        if as_flag("merge", merge):
            raise InputError(
                "vLLM computes an adapter beside the weights: leave merge out, or use lora_amber."
            )
        self._adapter = find_adapter(adapter)
        self._any_base = as_flag("any_base", any_base)
        if self._adapter.stores_embeddings:
            raise InputError(
                f"{adapter} stores embeddings of its own, which vLLM does not take; use lora_amber."
            )
        for name in ("lm_head", "embed_tokens"):
            if any(f".{name}." in weight for weight in self._adapter.weights):
                raise InputError(
                    f"{adapter} changes {name}, which vLLM leaves out where it scores texts; use "
                    f"lora_amber."
                )
        provenance = self._adapter.provenance
        if self._adapter.tokenizer is not None:
            arguments.setdefault("tokenizer", self._adapter.tokenizer)
        super().__init__(
            pretrained,
            identities={"adapter": self._adapter.identity},
            trained_on=(provenance,) if provenance else (),
            lora=(str(self._adapter.folder), lora_rank(self._adapter.folder)),
            **arguments,
        )
        self.model.collective_rpc("leave_output_layer")

    def _check_source(self, source: Source | None) -> None:
        if source is not None and not self._any_base:
            self._adapter.check_base(source.identity)
