"""``lora_amber`` and ``finetuned_amber``: Amber after training by the project, or by others."""

from __future__ import annotations

from typing import Any, ClassVar

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.model_wrappers.amber import Amber
from lm_eval_trust.model_wrappers.amber_arguments import AMBER_CHAT
from lm_eval_trust.model_wrappers.arguments import as_flag
from lm_eval_trust.models.adapters import attach_adapter, find_adapter, is_adapter, merge_adapter


class LoraAmber(Amber):
    """Harness model ``lora_amber``: a model with a LoRA adapter.

    Args:
        pretrained: The adapter's base model; ``LLM360/AmberChat`` by default.
        adapter: Folder or Hub name (``NAME[@REVISION]``) of the adapter.
        merge: Add the adapter's change to the weights, which is faster and the same up to
            rounding; not for quantised models.
        any_base: Allow a base model other than the one that the adapter was trained on.
        tokenizer: By default the adapter's own if its folder has one, otherwise the base model's.
            For tokens that it adds, the model gets new rows: the adapter's own if it has them.
        **arguments: See :class:`lm_eval_trust.model_wrappers.amber.Amber`; layers of a steering
            are the base model's.

    Raises:
        InputError: No adapter, one that does not fit, or another base model.
        ExternalError: It is neither local nor reachable.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    OWN_ARGUMENTS: ClassVar[frozenset[str]] = Amber.OWN_ARGUMENTS | {"adapter", "merge", "any_base"}

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
                "lora_amber needs adapter=FOLDER_OR_NAME; train one with `lm-eval-trust finetune`."
            )
        self._adapter = find_adapter(adapter)
        self._merge = as_flag("merge", merge)
        self._any_base = as_flag("any_base", any_base)
        provenance = self._adapter.provenance
        arguments.setdefault("tokenizer", self._adapter.tokenizer)
        self._has_own_tokenizer = arguments["tokenizer"] is not None
        super().__init__(
            pretrained,
            identities={"adapter": self._adapter.identity, "merge": str(self._merge)},
            trained_on=[provenance] if provenance else [],
            **arguments,
        )

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        if self._source is not None and not self._any_base:
            self._adapter.check_base(self._source.identity)
        super()._create_model(pretrained, **kwargs)
        tokenizer = self.tokenizer if self._has_own_tokenizer else None
        adapted = attach_adapter(
            self.model, self._adapter, tokenizer=tokenizer, to_merge=self._merge
        )
        self._model: Any = merge_adapter(adapted) if self._merge else adapted


class FinetunedAmber(Amber):
    """Harness model ``finetuned_amber``: a model whose weights were trained further.

    Args:
        pretrained: Folder or Hub name of the model; there is no default.
        **arguments: See :class:`lm_eval_trust.model_wrappers.amber.Amber`.

    Raises:
        InputError: No model, or an adapter instead of one.
    """

    def __init__(self, pretrained: Any = None, **arguments: Any) -> None:
        check_whole(pretrained)
        super().__init__(pretrained, **arguments)


def check_whole(pretrained: Any) -> None:
    """Raise unless a model is named that is more than an adapter.

    Raises:
        InputError: There is none, or it is an adapter.
    """
    if pretrained is None:
        raise InputError(
            "finetuned_amber needs pretrained=FOLDER_OR_NAME; make one with "
            "`lm-eval-trust finetune --method full`."
        )
    if isinstance(pretrained, str) and is_adapter(pretrained):
        raise InputError(
            f"{pretrained} is a LoRA adapter and no whole model: use "
            f"`--model lora_amber --model_args adapter={pretrained}`."
        )
