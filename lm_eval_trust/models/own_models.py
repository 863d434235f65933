"""Models that users hold in Python: any causal ``torch.nn.Module``, TransformerLens, nnsight.

A module that is not a model of transformers is wrapped as one, without a cache: each step of a
generation reads the whole row. Its decoder blocks are found by running it once, or named.
TransformerLens (tested: 4.3.0) and nnsight (tested: 0.8.1) are recognised by their classes, and
imported by nobody here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from lm_eval_trust.core.errors import InputError, reason_of

#: Tokens of the pass by which blocks are found.
_TRIED = 4
#: A tokenizer without a limit of its own says a number beyond this.
_NO_LIMIT = 10**7
#: What runs a module: tokens (rows, positions) and their mask, or ``None`` → its output.
Call = Callable[[torch.Tensor, "torch.Tensor | None"], Any]


def as_transformers_model(
    model: Any, tokenizer: Any, *, blocks: str | None = None, max_length: int | None = None
) -> tuple[Any, Any]:
    """Return a user's model as one of transformers, and its tokenizer.

    Args:
        model: A model of transformers or PEFT, which is returned as it is; a ``torch.nn.Module``
            whose forward pass takes token ids and gives logits; a ``TransformerBridge`` (or
            ``HookedTransformer``) of TransformerLens; a ``LanguageModel`` of nnsight.
        tokenizer: Its tokenizer; by default the one that it carries.
        blocks: Name of the list of its decoder blocks, such as ``transformer.h``.
        max_length: Longest input in tokens, where the model does not say.

    Raises:
        InputError: It is none of these, or cannot be used; the message says what to do.
    """
    if "nnsight" in _libraries(model):
        model, own = _of_nnsight(model)
        tokenizer = tokenizer or own
    if not isinstance(model, nn.Module):
        raise InputError(
            f"An object of type {type(model).__name__} is not a model; give a name, a folder, or a "
            f"torch.nn.Module."
        )
    tokenizer = tokenizer or getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError(
            f"{type(model).__name__} comes without a tokenizer; pass tokenizer=… (a transformers "
            f"tokenizer)."
        )
    if isinstance(model, PreTrainedModel) or hasattr(model, "get_base_model"):
        if blocks is not None:
            raise InputError(
                f"blocks={blocks!r}: the blocks of {type(model).__name__}, a model of "
                f"transformers, are found without it; leave it out."
            )
        return model, tokenizer
    call = _call_of(model)
    limit = max_length or _limit_of(model, tokenizer)
    model.eval()
    return WrappedModel(model, call, _blocks_of(model, call, blocks), limit), tokenizer


class WrappedConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of a :class:`WrappedModel`: its size, as far as it is used."""

    model_type = "lm_eval_trust_wrapped"


class WrappedModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A module as a causal model of transformers.

    Args:
        module: What computes.
        call: Runs it.
        blocks: Its decoder blocks, first to last.
        max_length: Longest input in tokens.
    """

    config_class = WrappedConfig
    base_model_prefix = "decoder"

    def __init__(
        self, module: nn.Module, call: Call, blocks: Sequence[nn.Module], max_length: int
    ) -> None:
        width, vocabulary = _sizes(module, call, blocks)
        super().__init__(
            WrappedConfig(
                name_or_path=type(module).__name__,
                num_hidden_layers=len(blocks),
                hidden_size=width,
                vocab_size=vocabulary,
                max_position_embeddings=max_length,
                use_cache=False,
                tie_word_embeddings=False,
            )
        )
        self.decoder = _Decoder(module, call, blocks)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **unused: Any,
    ) -> CausalLMOutput:
        """Return logits of shape (rows, positions, vocabulary)."""
        return CausalLMOutput(logits=self.decoder(input_ids, attention_mask=attention_mask))

    def generate(self, *args: Any, **settings: Any) -> Any:
        """Generate without a cache; see transformers."""
        return super().generate(*args, **{**settings, "use_cache": False})

    def get_input_embeddings(self) -> nn.Module:
        """Return the first embedding, whose device token ids go to."""
        found = (module for module in self.decoder.module.modules() if _has_table(module))
        return next(found, self.decoder.module)

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the module's weights are its own business."""


AutoModelForCausalLM.register(WrappedConfig, WrappedModel)


class _Decoder(nn.Module):
    """Holds the blocks where they are looked for, and runs the module."""

    def __init__(self, module: nn.Module, call: Call, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.module, self._call = module, call

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **unused: Any
    ) -> torch.Tensor:
        return _logits(self.module, self._call(input_ids, attention_mask))


def _libraries(model: object) -> set[str]:
    """Return the packages that a model's class and its bases come from."""
    return {kind.__module__.partition(".")[0] for kind in type(model).__mro__}


def _of_nnsight(model: Any) -> tuple[Any, Any]:
    """Return the module that nnsight traces, with its weights loaded, and the tokenizer."""
    if getattr(model, "_edits", None):
        raise InputError(
            "This nnsight model has edits, which apply inside its traces only, so an evaluation "
            "would leave them out. Call clear_edits(), and steer with a vector instead."
        )
    model.dispatch()
    return model._module, getattr(model, "tokenizer", None)


def _call_of(model: nn.Module) -> Call:
    """Return how a module is run: with a mask if its forward pass takes one."""
    taken = inspect.signature(model.forward).parameters
    fixed = {"return_type": "logits"} if "transformer_lens" in _libraries(model) else {}
    masked = "attention_mask" in taken

    def call(tokens: torch.Tensor, mask: torch.Tensor | None) -> Any:
        more = {"attention_mask": mask} if masked and mask is not None else {}
        return model(tokens, **fixed, **more)

    return call


def _limit_of(model: Any, tokenizer: Any) -> int:
    """Return the longest input in tokens."""
    for holder in (getattr(model, "config", None), getattr(model, "cfg", None)):
        for name in ("max_position_embeddings", "n_positions", "n_ctx", "block_size"):
            found = getattr(holder, name, None)
            if isinstance(found, int):
                return found
    found = getattr(tokenizer, "model_max_length", None)
    if isinstance(found, int) and found < _NO_LIMIT:
        return found
    raise InputError(
        f"Neither {type(model).__name__} nor its tokenizer says how long an input may be; pass "
        f"max_length=… in tokens."
    )


def _blocks_of(model: nn.Module, call: Call, name: str | None) -> list[nn.Module]:
    """Return the decoder blocks: those of the named list, or of the only one that is run."""
    if name is not None:
        try:
            found = model.get_submodule(name)
        except AttributeError:
            raise InputError(
                f"blocks={name!r}: {type(model).__name__} has no such part; its lists are "
                f"{_listed(dict(_lists(model)))}."
            ) from None
        if not isinstance(found, (nn.ModuleList, nn.Sequential)) or not len(found):
            raise InputError(
                f"blocks={name!r} is a {type(found).__name__}; name the ModuleList or Sequential "
                f"that holds the decoder blocks: {_listed(dict(_lists(model)))}."
            )
        return list(found)
    run = {place: blocks for place, blocks in _lists(model) if _all_run(model, call, blocks)}
    # Lists within a block run as well, as many times as there are blocks.
    inner = {id(part) for blocks in run.values() for block in blocks for part in block.modules()}
    outer = {p: b for p, b in run.items() if id(model.get_submodule(p)) not in inner}
    if len(outer) != 1:
        what = "no list of decoder blocks" if not outer else "several lists of blocks"
        raise InputError(
            f"{type(model).__name__} has {what} that a forward pass runs in order, each returning "
            f"hidden states; name it by blocks=…, of {_listed(outer or dict(_lists(model)))}."
        )
    return next(iter(outer.values()))


def _lists(model: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    for name, module in model.named_modules():
        if name and isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module):
            yield name, list(module)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _all_run(model: nn.Module, call: Call, blocks: Sequence[nn.Module]) -> bool:
    """Tell whether all blocks run once, in order, and give hidden states of one shape."""
    states = _states(model, call, blocks)
    shapes = {state.shape for _, state in states if state is not None}
    in_order = [number for number, _ in states] == list(range(len(blocks)))
    whole = all(state is not None for _, state in states)
    return in_order and whole and len(shapes) == 1 and next(iter(shapes))[:2] == (1, _TRIED)


@torch.no_grad()
def _states(
    model: nn.Module, call: Call, blocks: Sequence[nn.Module]
) -> list[tuple[int, torch.Tensor | None]]:
    """Return each run of a block with the hidden states it gave; ``None`` for anything else."""
    found: list[tuple[int, torch.Tensor | None]] = []

    def record(number: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            hidden = isinstance(first, torch.Tensor) and first.ndim == 3
            found.append((number, first if hidden else None))

        return hook

    handles = [block.register_forward_hook(record(i)) for i, block in enumerate(blocks)]
    try:
        _logits(model, call(_tokens(model), None))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The forward pass of {type(model).__name__} fails for token ids of shape "
            f"(1, {_TRIED}): {type(error).__name__}: {reason_of(error)}. It has to take int64 "
            f"token ids as its first argument."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _sizes(module: nn.Module, call: Call, blocks: Sequence[nn.Module]) -> tuple[int, int]:
    """Return the width of the hidden states, and the number of logits.

    Raises:
        InputError: A block does not run as a module, or gives no hidden states.
    """
    states = _states(module, call, blocks)
    if [number for number, _ in states] != list(range(len(blocks))):
        raise InputError(
            f"{len(states)} runs of {len(blocks)} blocks were seen in a forward pass of "
            f"{type(module).__name__}: each has to be called once, as a module, in order."
        )
    shapes = {None if state is None else tuple(state.shape) for _, state in states}
    width = next((shape[2] for shape in shapes if shape), 0)
    if shapes != {(1, _TRIED, width)}:
        raise InputError(
            f"The blocks of {type(module).__name__} return {sorted(map(str, shapes))}; expected "
            f"hidden states of one shape (rows, positions, width), or a tuple that begins with "
            f"them."
        )
    with torch.no_grad():
        return width, int(_logits(module, call(_tokens(module), None)).shape[2])


def _tokens(module: nn.Module) -> torch.Tensor:
    weight = next(module.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    return torch.arange(1, 1 + _TRIED, device=device)[None]


def _logits(module: nn.Module, output: Any) -> torch.Tensor:
    """Return the logits of a forward pass."""
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple) and output:
        found = output[0]
    if not isinstance(found, torch.Tensor) or found.ndim != 3:
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(
            f"The forward pass of {type(module).__name__} gives {shape}; expected logits of shape "
            f"(rows, positions, vocabulary), as they are, first in a tuple, or as .logits."
        )
    return found


def _has_table(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 2
