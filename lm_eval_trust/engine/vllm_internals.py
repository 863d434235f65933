"""What is used of the inside of vLLM (tested: vllm 0.32).

No fork and no forward hooks: decoder blocks get a subclass that adds rows of the worker's table to
their output; the model runner writes, before each step, which row a token takes; blocks of the
prefix cache that hold steered positions get their own hashes; and a request whose steering
cannot be applied is refused where it comes in, since an error in a worker ends the engine for all.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.engine.divergence import Compared, DivergenceMeter
from lm_eval_trust.engine.middleware import NamedSteering
from lm_eval_trust.engine.requests import (
    PLANS_VARIABLE,
    RequestSteering,
    plans_folder,
    read_plan,
    slots,
)
from lm_eval_trust.engine.table import SteeringTable, check_affine
from lm_eval_trust.steering.plan import SteeringPlan

#: Releases (major, minor) whose inside is known.
TESTED = ("0.32",)
_MARK = "_lm_eval_trust"
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)$")


def register() -> None:
    """Make the engine of this process steer; the entry point of ``vllm.general_plugins``.

    Without :data:`PLANS_VARIABLE` in the environment nothing is changed.

    Raises:
        InputError: The release of vLLM is not one of :data:`TESTED`.
    """
    if plans_folder() is None:
        return
    check_version()
    _divide_prefix_cache()
    _check_requests()
    _steer_workers()


def check_registered() -> None:
    """Raise unless the plugin has been loaded in this process.

    Raises:
        InputError: vLLM has left it out, so requests would run unsteered.
    """
    from vllm.v1.engine.input_processor import InputProcessor

    if not hasattr(InputProcessor._validate_params, _MARK):
        raise InputError(
            "vLLM has not loaded the plugin of lm_eval_trust, so that nothing would be steered. "
            "Take lm_eval_trust into VLLM_PLUGINS, or unset it, and reinstall the package."
        )


class ServerSteering(NamedSteering):
    """The middleware of ``vllm serve``, in a process whose engine steers.

    Raises:
        InputError: vLLM has left the plugin out.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        check_registered()
        super().__init__(app)


class SteeringExtension:
    """A worker's answer to whether it steers; vLLM's ``worker_extension_cls``."""

    model_runner: Any

    def steers(self) -> bool:
        """Return whether the model that this worker has loaded can be steered."""
        return hasattr(self.model_runner, _MARK)

    def leave_output_layer(self) -> None:
        """Keep adapters from the output layer, where vLLM's LoRA fails on requests that score."""
        for module in list(self.model_runner.model.modules()):
            for name, child in list(module.named_children()):
                if type(child).__name__ == "LogitsProcessorWithLoRA":
                    setattr(module, name, child.base_layer)

    def take_divergences(self) -> list[tuple[str, str, float]]:
        """Return what the worker has compared since last asked; see ``DivergenceMeter``."""
        found: list[tuple[str, str, float]] = getattr(self.model_runner, _MARK).meter.take()
        return found


def check_version() -> None:
    """Raise unless vLLM's inside is known.

    Raises:
        InputError: It is another release.
    """
    found = Version(version("vllm"))
    if f"{found.major}.{found.minor}" not in TESTED:
        raise InputError(
            f"Steering inside vLLM was tested with {', '.join(TESTED)}, and this is {found}. "
            f"Install vllm~={TESTED[-1]}.0, or bake the steering into a folder "
            f"(lm-eval-trust bake), which any release runs."
        )


def _wrapped(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Any]) -> None:
    """Put a wrapper around a function of a module or class, once."""
    stock = getattr(owner, name)
    if hasattr(stock, _MARK):
        return
    wrapped = functools.wraps(stock)(wrapper(stock))
    setattr(wrapped, _MARK, True)
    setattr(owner, name, wrapped)


def _plan_of(steering: RequestSteering | None) -> SteeringPlan | None:
    folder = plans_folder()
    if steering is None or not steering.plan or folder is None:
        return None
    plan = read_plan(folder, steering.plan)
    return plan if plan.active_steps else None


def _divide_prefix_cache() -> None:
    """Give blocks with steered positions hashes that only the same steering finds.

    Blocks wholly before the first steered position stay everybody's.
    """
    from vllm.v1.core import block_pool, kv_cache_utils

    def wrapper(stock: Callable[..., Any]) -> Callable[..., Any]:
        def keys(request: Any, start: int, end: int, *rest: Any) -> Any:
            extra, following = stock(request, start, end, *rest)
            steering = RequestSteering.of(request.sampling_params)
            if steering is None:
                return extra, following
            prompt_end = steering.end_in(request.num_prompt_tokens)
            own = (request.request_id,) if steering.private and end > prompt_end else ()
            plan = _plan_of(steering)
            reaches_all = any(
                step.positions == "all" for step in (plan.active_steps if plan else ())
            )
            steered = plan is not None and (reaches_all or end > prompt_end)
            if steered or own:
                mark = (steering.plan, prompt_end) if steered else ()
                extra = (*(extra or ()), ("lm_eval_trust", *mark, *own))
            return extra, following

        return keys

    _wrapped(kv_cache_utils, "generate_block_hash_extra_keys", wrapper)
    ours = kv_cache_utils.generate_block_hash_extra_keys
    block_pool.generate_block_hash_extra_keys = ours
    if offload := sys.modules.get("vllm.v1.simple_kv_offload.manager"):
        offload.generate_block_hash_extra_keys = ours  # type: ignore[attr-defined]


def _check_requests() -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.input_processor import InputProcessor

    def wrapper(stock: Callable[..., Any]) -> Callable[..., Any]:
        def check(self: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                _check(RequestSteering.of(params), self.model_config)
            except InputError as error:
                raise VLLMValidationError(str(error), parameter="steering") from error
            return stock(self, params, *args, **kwargs)

        return check

    _wrapped(InputProcessor, "_validate_params", wrapper)


def _check(steering: RequestSteering | None, model: Any) -> None:
    """Raise unless a worker can run a request.

    Raises:
        InputError: The plan is unknown, does not fit the model, or needs an eager engine.
    """
    if steering is not None and (steering.prompt_end or 0) < -1:
        raise InputError(f"prompt_end={steering.prompt_end} of the request is no position.")
    plan = _plan_of(steering)
    if plan is not None:
        check_plan(plan, model)


def check_plan(plan: SteeringPlan, model: Any) -> None:
    """Raise unless a worker can run a plan.

    Args:
        plan: The steering.
        model: vLLM's ``ModelConfig``.

    Raises:
        InputError: The plan does not fit the model or its dtype, or needs an eager engine.
    """
    config = model.hf_config.get_text_config()
    plan.check(blocks=config.num_hidden_layers, width=config.hidden_size, model=model.model)
    plan.check_dtype(model.dtype)
    if not model.enforce_eager:
        check_affine(plan)


def lora_rank(folder: Path) -> int:
    """Return the rank that vLLM has to allow for an adapter; no model is needed.

    Args:
        folder: Folder of the adapter, as PEFT saves it.

    Raises:
        InputError: vLLM cannot apply it.
    """
    from typing import get_args

    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.lora.peft_helper import PEFTHelper

    try:
        found = PEFTHelper.from_local_dir(str(folder), None)
        needed = max(found.r, *found.rank_pattern.values(), 1)
        ranks = [rank for rank in sorted(get_args(MaxLoRARanks)) if rank >= needed]
        if not ranks:
            raise ValueError(f"its rank is {needed}")
        found.validate_legal(LoRAConfig(max_lora_rank=ranks[0]))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"vLLM cannot apply the adapter {folder} ({reason_of(error)}); use lora_amber."
        ) from error
    return int(ranks[0])


def _steer_workers() -> None:
    from vllm.platforms import current_platform
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner as SecondRunner
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    runners: list[Any] = [GPUModelRunner, SecondRunner]
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        runners.append(CPUModelRunner)
    for runner in runners:
        if "load_model" in vars(runner):
            _wrapped(runner, "load_model", _loading)
    _wrapped(GPUModelRunner, "_prepare_inputs", _preparing)
    _wrapped(GPUModelRunner, "_get_prompt_logprobs_dict", _comparing)
    _wrapped(SecondRunner, "prepare_inputs", _preparing_second)


def _loading(stock: Callable[..., Any]) -> Callable[..., Any]:
    def load_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = stock(self, *args, **kwargs)
        if not hasattr(self, _MARK):
            setattr(self, _MARK, _Worker(self))
        return loaded

    return load_model


def _preparing(stock: Callable[..., Any]) -> Callable[..., Any]:
    def prepare(self: Any, output: Any, counts: Any, *args: Any, **kwargs: Any) -> Any:
        batch = self.input_batch
        rows = slice(batch.num_reqs)
        computed = batch.num_computed_tokens_cpu[rows].tolist()
        getattr(self, _MARK).prepare(output, batch.req_ids[rows], computed, counts[rows].tolist())
        return stock(self, output, counts, *args, **kwargs)

    return prepare


def _preparing_second(stock: Callable[..., Any]) -> Callable[..., Any]:
    def prepare(self: Any, output: Any, *args: Any, **kwargs: Any) -> Any:
        batch = stock(self, output, *args, **kwargs)
        computed = batch.num_computed_tokens_np.tolist()
        counts = batch.num_scheduled_tokens.tolist()
        getattr(self, _MARK).prepare(output, batch.req_ids, computed, counts)
        return batch

    return prepare


def _comparing(stock: Callable[..., Any]) -> Callable[..., Any]:
    def prompt_logprobs(self: Any, states: Any, counts: Any, *args: Any, **kwargs: Any) -> Any:
        for name in self.num_prompt_logprobs:
            request, count = self.requests[name], counts.get(name)
            asked = Compared.of(request.sampling_params)
            if asked is not None and count is not None:
                offset = int(self.query_start_loc.np[self.input_batch.req_id_to_index[name]])
                getattr(self, _MARK).meter.read(
                    asked,
                    len(request.prompt_token_ids),
                    request.num_computed_tokens,
                    states[offset : offset + count],
                )
        return stock(self, states, counts, *args, **kwargs)

    return prompt_logprobs


class _Worker:
    """The table of a model runner, and the plans of the requests that it runs."""

    def __init__(self, runner: Any) -> None:
        config = runner.model_config.hf_config.get_text_config()
        self.table = SteeringTable(
            blocks=config.num_hidden_layers,
            width=config.hidden_size,
            tokens=runner.max_num_tokens,
            slots=slots(),
            dtype=runner.model_config.dtype,
            device=runner.device,
            compiled=not runner.model_config.enforce_eager,
        )
        self.meter = DivergenceMeter(runner.model.compute_logits)
        self._running: dict[str, tuple[SteeringPlan, int]] = {}
        classes: dict[type, type] = {}
        for name, module in runner.model.named_modules():
            found = _BLOCK.search(name)
            if found and type(module).__name__ != "PPMissingLayer":
                stock = type(module)
                module.__class__ = classes.setdefault(stock, _steered_class(stock))
                object.__setattr__(module, _MARK, (self.table, int(found[1])))
        if not classes:
            raise InputError(
                f"No decoder blocks were found in {type(runner.model).__name__}, so that it cannot "
                f"be steered inside vLLM."
            )

    def prepare(
        self, output: Any, requests: Iterable[str], computed: list[int], counts: list[int]
    ) -> None:
        """Take in new requests, let finished ones go, and write the rows of a step's tokens."""
        for request in output.finished_req_ids:
            if request in self._running:
                self.table.release(self._running.pop(request)[0], request)
        for new in output.scheduled_new_reqs:
            steering = RequestSteering.of(new.sampling_params)
            plan = _plan_of(steering)
            if steering is not None and plan is not None:
                self.table.admit(plan, new.req_id)
                self._running[new.req_id] = (plan, steering.end_in(len(new.prompt_token_ids)))
        self.table.write_rows(
            (*self._running.get(request, (None, 0)), first, count)
            for request, first, count in zip(requests, computed, counts, strict=True)
        )


def _steered_class(stock: Any) -> type:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = stock.forward(self, *args, **kwargs)
        table, layer = getattr(self, _MARK)
        if not isinstance(output, tuple):
            return table.steer(layer, output, None)
        hidden, *rest = output
        # Blocks of vLLM keep the residual apart; those of transformers may tell other things.
        apart = rest[0] if rest and isinstance(rest[0], torch.Tensor) else None
        if apart is not None and apart.shape != hidden.shape:
            apart = None
        return (table.steer(layer, hidden, apart), *rest)

    return type(f"Steered{stock.__name__}", (stock,), {"forward": forward})


def engine_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables under which an engine steers by the plans of a folder."""
    return {PLANS_VARIABLE: str(folder.resolve())}
