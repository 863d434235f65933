"""Models to hold in Python: load one, steer it, generate, score."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, TypeAlias, overload

import torch
from lm_eval.api.instance import Instance
from torch import nn

from lm_eval_trust.api.vectors import VectorLike, steering_plan
from lm_eval_trust.core.errors import InputError, TrustError, reason_of
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.models.loading import loading_errors
from lm_eval_trust.models.own_models import as_transformers_model
from lm_eval_trust.models.sources import ModelIdentity, existing_device, made_model, resolve_dtype
from lm_eval_trust.steering.plan import SteeringPlan
from lm_eval_trust.steering.spec import STEERING_KEYS
from lm_eval_trust.sweep.sweep_model import load_sweep_model

#: Arguments of the harness's model that tell nothing about the weights.
_PLAIN = frozenset(("model", "pretrained", "revision", "dtype", "max_length"))
#: Loggers that say how a loaded model would be distributed, or swept.
_REMARKS = ("lm_eval", "lm_eval_trust.sweep.sweep_model")
#: Several texts. A text is a sequence of texts itself, so ``Sequence[str]`` would be either.
Texts: TypeAlias = list[str] | tuple[str, ...]


class Model:
    """A loaded model that can be steered; :func:`load` makes one.

    Use one model from one thread at a time: steering belongs to the model, so another thread that
    used it inside ``with model.steer(…)`` would get steered answers. That raises an error.
    Calls from several threads on an unsteered model wait for each other.

    Attributes:
        name: How results call it.
        identity: Which weights it has.
        lm: The harness's model that answers; an ``lm_eval.api.model.LM``.
        arguments: Model arguments with which ``lm_eval`` loads the same model.
    """

    def __init__(
        self, name: str, identity: ModelIdentity, lm: Any, arguments: dict[str, Any]
    ) -> None:
        self.name, self.identity, self.lm, self.arguments = name, identity, lm, arguments
        self._lock = threading.RLock()
        self._steered_by: int | None = None

    def __repr__(self) -> str:
        state = "unsteered"
        if self.plan.steps:
            state = "; ".join(
                f"steered at layer {step.layer} by {step.origin}, α = {step.alpha:g}"
                for step in self.plan.steps
            )
        return f"<Model {self.name}: {self.n_layers} layers of width {self.width}, {state}>"

    @property
    def module(self) -> nn.Module:
        """The PyTorch module. Outside of this class's methods its forward pass is not steered."""
        module: nn.Module = self.lm.model
        return module

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.lm.tokenizer

    @property
    def n_layers(self) -> int:
        """How many decoder blocks there are; they are numbered from 0."""
        from lm_eval_trust.models.decoder_blocks import number_of_blocks

        return number_of_blocks(self.module)

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        from lm_eval_trust.models.decoder_blocks import hidden_size

        return hidden_size(self.module)

    @property
    def plan(self) -> SteeringPlan:
        """How the model is steered now; a plan without steps outside of :meth:`steer`."""
        plan: SteeringPlan = self.lm.plan
        return plan

    @property
    def kind(self) -> str:
        """Name of the harness's model, unsteered."""
        return "lora_amber" if "adapter" in self.arguments else "amber"

    @property
    def described(self) -> dict[str, Any]:
        """What results say of the model under ``config``: its kind and arguments."""
        kind = "steered_amber" if self.plan.active_steps else self.kind
        return {"model": kind, "model_args": {k: str(v) for k, v in self.arguments.items()}}

    @property
    def fingerprint(self) -> str:
        """Identity of all that answers depend on, as ``trust_fingerprint`` in results."""
        return str(self.lm.trust_fingerprint)

    def steer(
        self,
        vector: VectorLike,
        *,
        layer: int | str | Sequence[int] | None = None,
        alpha: float | None = None,
        **settings: Any,
    ) -> Steering:
        """Return a context in which the model is steered: ``with model.steer(…): …``.

        Inside it :meth:`generate`, :meth:`score` and ``evaluate`` use the steered model. When the
        block ends, also by an exception, the model is as it was.

        Args:
            vector: A vector, the name of its file, a steering file (``.yaml``), or a plan that
                :func:`~lm_eval_trust.api.vectors.steering_plan` made.
            layer: 0-based decoder blocks; by default the vector's only one.
            alpha: Strength; 1 by default.
            **settings: ``positions``, ``action``, ``scale``, ``target`` and ``when``; see
                :class:`lm_eval_trust.steering.spec.SteeringSpec`.

        Raises:
            InputError: A setting is unknown or wrong, or the vector lacks the layer. When the
                block begins: the vector does not fit the model, or the model is steered already.
        """
        return Steering(self, steering_plan(vector, layer=layer, alpha=alpha, **settings))

    @overload
    def generate(self, prompts: str, **settings: Any) -> str: ...

    @overload
    def generate(self, prompts: Texts, **settings: Any) -> list[str]: ...

    def generate(
        self,
        prompts: str | Texts,
        *,
        max_new_tokens: int = 64,
        stop: str | Sequence[str] = (),
        chat: bool = False,
        temperature: float = 0.0,
        seed: int | None = None,
        **settings: Any,
    ) -> str | list[str]:
        """Return what the model says next.

        Args:
            prompts: A prompt, or several; they may have different lengths.
            max_new_tokens: Tokens at most.
            stop: Texts before which the answer ends.
            chat: Write each prompt as a user's turn by the tokenizer's chat template.
            temperature: 0 always takes the likeliest token; above 0 draws tokens.
            seed: Seed of the draws; by default they continue from torch's generator.
            **settings: Further arguments of transformers' ``generate``.

        Returns:
            The answer without the prompt, or a list of answers in the prompts' order.

        Raises:
            InputError: A prompt is too long or empty, there is no chat template, or the logits are
                not finite.
        """
        texts = _texts("prompts", prompts)
        if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens}; expected a whole number from 1.")
        if temperature < 0:
            raise InputError(f"temperature is {temperature}; expected 0 or more.")
        if chat:
            texts = [self._as_chat(text) for text in texts]
        until = [stop] if isinstance(stop, str) else list(stop or ())
        given = {"until": until, "max_gen_toks": max_new_tokens, **settings}
        if temperature > 0:
            given |= {"do_sample": True, "temperature": temperature}
        requests = [_request("generate_until", text, given, i) for i, text in enumerate(texts)]
        with self.in_use(), torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            with _settings_errors():
                answers: list[str] = self.lm.generate_until(requests, disable_tqdm=True)
        return answers[0] if isinstance(prompts, str) else answers

    @overload
    def score(self, prompt: str, continuation: str) -> float: ...

    @overload
    def score(self, prompt: str | Texts, continuation: Texts) -> list[float]: ...

    def score(self, prompt: str | Texts, continuation: str | Texts) -> float | list[float]:
        """Return the log-likelihood of a continuation after a prompt, in nats.

        It is the sum over the continuation's tokens. Mind the blank between the two: write
        ``model.score("Q: … A:", " yes")``.

        Args:
            prompt: One prompt for all continuations, or one for each.
            continuation: A continuation, or several.

        Raises:
            InputError: A continuation is empty, the numbers differ, or a text is too long.
        """
        ends = _texts("continuation", continuation)
        starts = [prompt] * len(ends) if isinstance(prompt, str) else _listed("prompt", prompt)
        if len(starts) != len(ends):
            raise InputError(
                f"There are {len(starts)} prompts and {len(ends)} continuations; give one prompt "
                f"for all, or one for each continuation."
            )
        pairs = zip(starts, ends, strict=True)
        requests = [_request("loglikelihood", s, e, i) for i, (s, e) in enumerate(pairs)]
        with self.in_use():
            found = self.lm.loglikelihood(requests, disable_tqdm=True)
        scores = [float(logprob) for logprob, _ in found]
        return scores[0] if isinstance(continuation, str) else scores

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the model for one thread.

        Raises:
            InputError: Another thread is steering it.
        """
        self._refuse_other_thread()
        with self._lock:
            self._refuse_other_thread()
            yield

    def unsteered(self, what: str) -> None:
        """Raise if the model is steered.

        Args:
            what: What needs it as it is, for the message.

        Raises:
            InputError: It is.
        """
        if self.plan.steps:
            raise InputError(f"{what} inside `with model.steer(…)` is not possible; end it first.")

    def _refuse_other_thread(self) -> None:
        if self._steered_by not in (None, threading.get_ident()):
            raise InputError(
                f"Another thread is steering {self.name}. Load a second model for this thread, or "
                f"wait until that `with` block has ended."
            )

    def _as_chat(self, text: str) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(f"{self.name} has no chat template; leave out chat=True.")
        return str(self.lm.apply_chat_template([{"role": "user", "content": text}]))


class Steering:
    """A model while it is steered; :meth:`Model.steer` makes one for a ``with`` statement.

    Attributes:
        plan: How the model is steered inside.
    """

    def __init__(self, model: Model, plan: SteeringPlan) -> None:
        self.plan, self._model, self._entered = plan, model, False

    def __enter__(self) -> Model:
        model = self._model
        self._entered = True
        with model.in_use():
            if model._steered_by is not None:
                raise InputError(
                    f"{model.name} is being steered already. To steer by two vectors at once, add "
                    f"them: model.steer(let.steering_plan(a, …) + let.steering_plan(b, …))."
                )
            model.lm.steer_by(self.plan)
            model._steered_by = threading.get_ident()
        return model

    def __exit__(self, *_: object) -> None:
        self._model.lm.steer_by(SteeringPlan())
        self._model._steered_by = None

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn(
                "model.steer(…) did nothing: write `with model.steer(…):`.",
                RuntimeWarning,
                stacklevel=2,
            )


def load(
    model: Any,
    *,
    tokenizer: Any = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | str = 8,
    adapter: str | None = None,
    name: str | None = None,
    blocks: str | None = None,
    max_length: int | None = None,
    **arguments: Any,
) -> Model:
    """Load a model, or take one that is loaded already.

    Args:
        model: A Hub name with an optional revision (``LLM360/AmberChat``,
            ``LLM360/Amber@ckpt_179``), a folder, a model of the embedded world (``mini-chat``), or
            a model that you hold: of transformers or PEFT, any other ``torch.nn.Module`` that turns
            token ids into logits, a ``TransformerBridge`` of TransformerLens, or a
            ``LanguageModel`` of nnsight. Hooks that you put on it stay in force.
        tokenizer: Of a model that you hold; for a name, only if you want another one than its own.
        device: ``cpu``, ``cuda``, ``cuda:1``, …; by default CUDA if there is one. A model that you
            hold stays where it is.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto`` for the checkpoint's own; by
            default float32 on the CPU and ``auto`` elsewhere. A model that you hold keeps its own.
        batch_size: Prompts at once; ``auto`` finds out how many fit.
        adapter: Folder or Hub name of a LoRA adapter.
        name: How results call the model; by default its own name.
        blocks: Of a module that you hold: the list of its decoder blocks, e.g. ``transformer.h``;
            by default the only list that a forward pass runs.
        max_length: Longest input in tokens; by default what the model says.
        **arguments: Further arguments of the harness's model, such as ``trust_remote_code`` or
            ``load_in_4bit``.

    Raises:
        InputError: There is no such model, device or argument, or the model cannot be used.
        ExternalError: The Hub cannot be reached.
    """
    if steered := {*STEERING_KEYS, "steering"} & arguments.keys():
        raise InputError(
            f"{', '.join(sorted(steered))}: a model is loaded unsteered. Steer it by "
            f"`with model.steer(vector, layer=…, alpha=…):`."
        )
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(
            f"batch_size is {batch_size!r}; expected a whole number from 1, or 'auto'."
        )
    if max_length is not None:
        arguments["max_length"] = max_length
    if not isinstance(model, (str, Path)):
        fixed = {"device": device, "dtype": dtype, "adapter": adapter}
        if told := [option for option, value in fixed.items() if value is not None]:
            raise InputError(
                f"{', '.join(told)}: a model that is loaded already stays as it is; change it "
                f"before, or give its name."
            )
        module, tokenizer = as_transformers_model(
            model, tokenizer, blocks=blocks, max_length=max_length
        )
        return _held(module, tokenizer, name or _own_name(model), batch_size, arguments)
    if blocks is not None:
        raise InputError(f"blocks={blocks!r} is for a torch.nn.Module that you hold; leave it out.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    existing_device(device)
    given = {"dtype": resolve_dtype(dtype, device), **arguments}
    if tokenizer is not None:
        given["tokenizer"] = tokenizer
    if adapter is not None:
        given["adapter"] = adapter
    given = {**_place(str(model)), **given}
    placed = {"device": device, "batch_size": batch_size}
    lm = _loaded("amber" if adapter is None else "lora_amber", {**given, **placed}, str(model))
    return Model(name or str(model), _identity(lm), lm, given)


def loaded_model(model: Model | str | Path) -> Model:
    """Return a model, loaded if its name was given."""
    return model if isinstance(model, Model) else load(model)


def _place(model: str) -> dict[str, str]:
    """Return the arguments that name a model and its revision."""
    name, _, revision = model.partition("@")
    if not revision or made_model(model) or Path(model).expanduser().is_dir():
        return {"pretrained": model}
    return {"pretrained": name, "revision": revision}


def _held(
    module: Any, tokenizer: Any, name: str, batch_size: int | str, arguments: dict[str, Any]
) -> Model:
    """Return a model that is in memory already."""
    identity = ModelIdentity.in_memory(name)
    given = {
        "pretrained": module,
        "tokenizer": tokenizer,
        "identities": {"model": identity.text},
        "batch_size": batch_size,
        **arguments,
    }
    # What results say: nothing else identifies it.
    described = {"pretrained": name, "loaded": identity.revision, **arguments}
    return Model(name, identity, _loaded("amber", given, name), described)


def _own_name(model: Any) -> str:
    """Return the name of a model that its user holds."""
    config = getattr(model, "config", None)
    path = str(getattr(config, "name_or_path", "") or "")
    return PurePath(path).name or type(model).__name__


def _loaded(kind: str, arguments: dict[str, Any], what: str) -> Any:
    """Load a model of the harness, without remarks on what it is loaded for."""
    loggers = [logging.getLogger(name) for name in _REMARKS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with loading_errors(what, AttributeError, TypeError):
            return load_sweep_model(kind, arguments)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _identity(lm: Any) -> ModelIdentity:
    """Return which model answers: another one for each adapter, quantisation or tokenizer."""
    identity: ModelIdentity = lm.source.identity
    changes = {k: v for k, v in lm.identity["arguments"].items() if k not in _PLAIN}
    if not changes:
        return identity
    return replace(identity, revision=f"{identity.revision} with {fingerprint(changes)}")


def _texts(what: str, given: str | Texts) -> list[str]:
    texts = [given] if isinstance(given, str) else _listed(what, given)
    if not all(texts):
        raise InputError(f"{what} holds an empty text; give each some.")
    if not texts:
        raise InputError(f"{what} is empty; give at least one text.")
    return texts


def _listed(what: str, given: Any) -> list[str]:
    texts = list(given) if isinstance(given, Iterable) and not isinstance(given, bytes) else [given]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{what} holds {text!r:.80}, which is not a text.")
    return texts


@contextmanager
def _settings_errors() -> Iterator[None]:
    """Turn what transformers says of unknown or impossible settings into an error for the user."""
    try:
        yield
    except TrustError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"The model cannot generate like this: {reason_of(error)}") from error


def _request(kind: Any, first: str, second: Any, number: int) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=(first, second), idx=number)
