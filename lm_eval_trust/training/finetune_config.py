"""How a model is fine-tuned, and presets of settings that work together.

The field names are part of the keys by which finished runs are found in their folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.training.chat_format import Form

METHODS = ("lora", "full")


@dataclass(frozen=True)
class LoraSettings:
    """Shape of an adapter (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        rank: Rank of the added matrices.
        alpha: Their product is scaled by ``alpha / rank``.
        dropout: Dropout on the adapter's input during training.
        targets: Names of the adapted linear layers, or ``all-linear``.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"The rank of a LoRA adapter is {self.rank}; it must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise InputError(
                f"lora dropout is {self.dropout}; expected at least 0 and less than 1."
            )


@dataclass(frozen=True)
class FinetuneConfig:
    """How a model is fine-tuned.

    Attributes:
        method: ``lora`` or ``full``.
        learning_rate: Peak, after linear warm-up; decays to 0 along a cosine.
        form: How conversations are written.
        max_length: Longest conversation, in tokens; longer ones are left out and counted.
        epochs: Passes over the training part, unless ``max_steps`` is given.
        max_steps: Optimizer steps; ``None`` to use ``epochs``.
        batch_size: Conversations per step.
        micro_batch: Conversations per forward pass.
        warmup_share: Share of the steps with a rising learning rate.
        weight_decay: The optimizer's weight decay.
        optimizer: One of the names that transformers' ``TrainingArguments.optim`` takes.
        evaluate_every: Steps between validation evaluations, each with a state to resume from;
            ``None`` for two to ten per run, depending on their cost.
        patience: Evaluations without a better validation loss after which training stops; the
            best state is kept in any case.
        seed: Seed of new weights, order and dropout.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory;
            ``None`` for yes on GPUs only.
        lora: Shape of the adapter; ignored by ``full``.
    """

    method: str
    learning_rate: float
    form: Form = field(default_factory=Form)
    max_length: int = 512
    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 16
    micro_batch: int = 4
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    optimizer: str = "adamw_torch"
    evaluate_every: int | None = None
    patience: int = 3
    seed: int = 0
    gradient_checkpointing: bool | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("method", self.method, METHODS)
        for name in ("max_length", "batch_size", "micro_batch", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("max_steps", "evaluate_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.batch_size % self.micro_batch:
            raise InputError(
                f"A batch of {self.batch_size} conversations is not a multiple of the micro batch "
                f"of {self.micro_batch}."
            )
        if self.learning_rate <= 0 or self.epochs <= 0:
            raise InputError("learning_rate and epochs must be above 0.")

    def settings(self) -> Mapping[str, Any]:
        """Return what the weights depend on."""
        return asdict(self)


#: Name of a preset → method → settings. ``7b`` is for a Llama of seven billion parameters on one
#: GPU with 80 GB: LoRA after Dettmers et al. 2023 (arXiv 2305.14314, rate 2e-4 and all linear
#: layers); full fine-tuning with Adafactor, since AdamW's state alone would take 56 GB.
PRESETS: Mapping[str, Mapping[str, FinetuneConfig]] = {
    "7b": {
        "lora": FinetuneConfig("lora", learning_rate=2e-4),
        "full": FinetuneConfig("full", learning_rate=1e-5, optimizer="adafactor"),
    },
    "mini": {
        method: FinetuneConfig(
            method,
            learning_rate=rate,
            form=Form(answer_cue=" A: "),
            max_length=48,
            epochs=10,
            micro_batch=16,
            lora=LoraSettings(rank=8, alpha=16, dropout=0.0),
        )
        for method, rate in (("lora", 2e-3), ("full", 3e-4))
    },
}


def preset_config(preset: str, method: str, **changes: Any) -> FinetuneConfig:
    """Return a preset's settings for a method, with some of them changed.

    Args:
        preset: ``7b`` or ``mini``.
        method: ``lora`` or ``full``.
        **changes: Attributes of :class:`FinetuneConfig`; ``None`` keeps the preset's.

    Raises:
        InputError: Unknown preset or method, or impossible settings.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(PRESETS[preset][method], **given)
