"""What a pre-training run is: the shape of the model, its hyperparameters, and named presets.

The field names of both configurations are part of the keys by which trained models are found on
disk; renaming one makes finished runs look like other runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lm_eval_trust.core.errors import InputError, unknown_name

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
        rms_norm_eps: Added to the mean square in the norms, against division by zero.
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
        """Return the shape of a Llama, given its folder or its name on the Hub.

        Raises:
            InputError: It cannot be read, or it is not a Llama.
        """
        from transformers import AutoConfig, LlamaConfig

        from lm_eval_trust.models.loading import loading_errors

        with loading_errors(f"a model configuration from {source}"):
            found = AutoConfig.from_pretrained(source)
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
        batch_size: Windows per step.
        window: Tokens per window.
        peak_learning_rate: Learning rate after the warm-up.
        warmup_steps: Steps of linear warm-up.
        save_steps: Steps at which a checkpoint is saved, ascending: the first is checkpoint
            ``ckpt_000``, the second ``ckpt_001``, …
        resume_every: Steps between two states to resume from.
        seed: Seed of the initial weights and of the order of the data.
        final_share: Learning rate at the end, as a share of the peak (cosine decay).
        betas: AdamW's betas.
        weight_decay: AdamW's weight decay.
        gradient_clipping: Largest norm of the gradient.
        threads: CPU threads of the run; part of the configuration, since another number of them
            adds in another order and changes the last bits of the weights.
        micro_batch: Windows per forward pass, to save memory; ``None`` for a process's whole share.
            The gradient is that of the whole batch, summed in another order.
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
        """Return what the weights depend on; how often a state is saved is not part of it."""
        return {key: value for key, value in asdict(self).items() if key != "resume_every"}


def checkpoint_name(position: int) -> str:
    """Return the name of a checkpoint, numbered like Amber's revisions, e.g. ``ckpt_000``."""
    return f"ckpt_{position:03d}"


def granular_steps(steps: int, *, early_until: int, every: int) -> tuple[int, ...]:
    """Return steps to save at: 0, 1, 2, 4, … up to ``early_until``, then evenly, and the last.

    Models change most in their first steps, so is where the checkpoints are dense.

    Args:
        steps: Steps of the run.
        early_until: Last step of the doubling part.
        every: Distance between checkpoints of the even part.
    """
    early = [0, *(2**power for power in range(early_until.bit_length()))]
    even = range(every, steps, every)
    chosen = {s for s in early if s <= early_until} | {s for s in even if s > early_until}
    return tuple(sorted({s for s in chosen if s <= steps} | {steps}))


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay to ``final_share``.

    Step 0 has 1 / ``warmup_steps`` of the peak already; the last step of the warm-up has the peak,
    and the last step of the run comes close to ``final_share`` of it.
    """
    if step < config.warmup_steps:
        return config.peak_learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.peak_learning_rate * (config.final_share + (1 - config.final_share) * cosine)


@dataclass(frozen=True)
class Preset:
    """A model's shape and how it is trained.

    Attributes:
        note: One line for the help page.
        shape: Shape of the model.
        vocabulary: Size of a tokenizer made from the corpus.
        steps: Optimizer steps.
        batch_size: Windows per step.
        micro_batch: Windows per forward pass; ``None`` for a process's whole share.
        window: Tokens per window.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        checkpoints: Number of evenly spaced checkpoints, besides the early ones.
        precision: Precision of matrix products.
    """

    note: str
    shape: ModelConfig
    vocabulary: int
    steps: int
    batch_size: int
    micro_batch: int | None
    window: int
    learning_rate: float
    warmup_steps: int
    checkpoints: int
    precision: str


_AMBER_BATCH, _AMBER_WINDOW, _AMBER_TOKENS = 2240, 2048, 1_259_000_000_000

PRESETS = {
    "small": Preset(
        note="a Llama of two million parameters, minutes on a CPU",
        shape=ModelConfig(128, 352, 6, 4, 4, 512),
        vocabulary=4096,
        steps=1000,
        batch_size=16,
        micro_batch=None,
        window=128,
        learning_rate=2e-3,
        warmup_steps=50,
        checkpoints=10,
        precision="float32",
    ),
    # Liu et al. 2023, arXiv 2312.06550, section 3 and table 2; the micro batch is a choice.
    "amber": Preset(
        note="Amber, 7 billion parameters on 1.26 trillion tokens, for many GPUs",
        shape=ModelConfig(4096, 11008, 32, 32, 32, _AMBER_WINDOW),
        vocabulary=32_000,
        steps=_AMBER_TOKENS // (_AMBER_BATCH * _AMBER_WINDOW),
        batch_size=_AMBER_BATCH,
        micro_batch=1,
        window=_AMBER_WINDOW,
        learning_rate=3e-4,
        warmup_steps=2000,
        checkpoints=360,
        precision="bf16",
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        InputError: There is no preset of that name.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
