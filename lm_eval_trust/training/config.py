"""What a training run is: the shape of the model, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.errors import InputError

if TYPE_CHECKING:
    from transformers import LlamaConfig

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a Llama.

    Attributes:
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the feed-forward layers.
        layers: Number of decoder blocks.
        heads: Attention heads; they divide the width.
        key_value_heads: Heads of keys and values; they divide ``heads``.
        max_length: Longest sequence, in tokens.
        initializer_range: Standard deviation of the initial weights.
        rms_norm_eps: Term that keeps the norms from dividing by zero.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    max_length: int
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for value, parts, what in (
            (self.hidden_size, self.heads, "hidden_size into heads"),
            (self.heads, self.key_value_heads, "heads into key_value_heads"),
        ):
            if parts < 1 or value % parts:
                raise InputError(f"Cannot divide {what}: {value} is not a multiple of {parts}.")

    @classmethod
    def from_pretrained(cls, source: str) -> ModelConfig:
        """Return the shape of a Llama, from its folder or its name on the Hub.

        Raises:
            InputError: It cannot be read, or is no Llama.
        """
        from transformers import AutoConfig, LlamaConfig

        try:
            found = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"Cannot read a model's configuration at {source}: {reason}"
            ) from error
        if not isinstance(found, LlamaConfig):
            raise InputError(f"{source} is a {found.model_type}; expected a Llama.")
        return cls(
            hidden_size=found.hidden_size,
            intermediate_size=found.intermediate_size,
            layers=found.num_hidden_layers,
            heads=found.num_attention_heads,
            key_value_heads=found.num_key_value_heads,
            max_length=found.max_position_embeddings,
            initializer_range=found.initializer_range,
            rms_norm_eps=found.rms_norm_eps,
        )

    def to_llama(self, *, vocabulary: int, pad: int | None, eos: int | None) -> LlamaConfig:
        """Return the transformers configuration for a tokenizer's vocabulary."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            max_position_embeddings=self.max_length,
            initializer_range=self.initializer_range,
            rms_norm_eps=self.rms_norm_eps,
            pad_token_id=pad,
            bos_token_id=eos,
            eos_token_id=eos,
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; the defaults are Amber's (Liu et al. 2023, arXiv 2312.06550).

    Attributes:
        steps: Optimizer steps.
        batch_size: Windows a step.
        window: Tokens a window.
        peak_learning_rate: Learning rate after the warm-up.
        warmup_steps: Steps of linear warm-up.
        save_steps: Steps at which a checkpoint is saved, ascending: checkpoint ``ckpt_000`` is
            the first of them, ``ckpt_001`` the second, …
        resume_every: Steps between two states to resume from.
        seed: Seed of the initial weights and of the data's order.
        final_share: Learning rate at the end, as a share of the peak (cosine decay).
        betas: Of AdamW.
        weight_decay: Of AdamW.
        gradient_clipping: Largest norm of the gradient.
        threads: CPU threads of the run; part of the configuration, since another number sums in
            another order and so gives other weights in the last bits.
        micro_batch: Windows of one forward pass, for memory; all of a process's if absent. The
            gradient is that of the whole batch, in another order of summation.
        precision: ``float32``, or ``bf16`` for matrix products in bfloat16 (the weights and the
            optimizer stay in float32).
    """

    steps: int
    batch_size: int
    window: int
    peak_learning_rate: float
    warmup_steps: int
    save_steps: tuple[int, ...]
    resume_every: int = 200
    seed: int = 0
    final_share: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    gradient_clipping: float = 1.0
    threads: int = 2
    micro_batch: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "window", "resume_every", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError(f"micro_batch is {self.micro_batch}; it must be at least 1.")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}."
            )
        if not 0 <= self.warmup_steps <= self.steps:
            raise InputError(f"warmup_steps is {self.warmup_steps}; expected 0 to {self.steps}.")
        saves = self.save_steps
        if not saves or list(saves) != sorted(set(saves)) or not 0 <= saves[0] <= saves[-1]:
            raise InputError(f"save_steps are {saves}; expected ascending steps, each once.")
        if saves[-1] > self.steps:
            raise InputError(f"save_steps end at {saves[-1]}, after the last step {self.steps}.")

    def settings(self) -> Mapping[str, Any]:
        """Return what changes the weights; how often a state is saved does not."""
        return {key: value for key, value in asdict(self).items() if key != "resume_every"}


def checkpoint_name(position: int) -> str:
    """Return the name of a checkpoint in the manner of Amber's revisions: ``ckpt_000`` and on."""
    return f"ckpt_{position:03d}"
