"""``steered_vllm``: the harness's ``vllm`` whose requests run under a steering plan."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from lm_eval.api.instance import Instance

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.engine.requests import RequestSteering, default_folder, publish
from lm_eval_trust.engine.vllm_internals import (
    SteeringExtension,
    check_plan,
    check_registered,
    check_version,
    engine_environment,
)
from lm_eval_trust.model_wrappers.amber_arguments import AMBER_CHAT, AmberArguments
from lm_eval_trust.model_wrappers.guarded import GuardedLM
from lm_eval_trust.model_wrappers.identities import identity_of, part_identities, source_of
from lm_eval_trust.model_wrappers.lm_eval_internals import keep_responses_apart
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest
from lm_eval_trust.models.sources import provenance_of_model
from lm_eval_trust.steering.plan import SteeringPlan

try:
    from lm_eval.models.vllm_causallms import VLLM
    from vllm import SamplingParams, TokensPrompt
    from vllm.engine.arg_utils import EngineArgs
except ModuleNotFoundError as error:
    raise InputError(
        'steered_vllm needs vLLM, which is not installed: pip install "lm-eval-trust[vllm]". '
        "steered_amber does the same on transformers."
    ) from error

#: Arguments that no answer depends on.
_EXECUTION_ARGUMENTS = frozenset(("batch_size", "max_batch_size", "gpu_memory_utilization"))


class SteeredVLLM(AmberArguments, GuardedLM, VLLM):  # type: ignore[misc]
    """Harness model ``steered_vllm``.

    Every request carries its steering; positions mean what they mean for ``steered_amber``, and
    the engine batches, caches and preempts as usual.

    Args:
        pretrained: Hub name or folder, ``LLM360/AmberChat`` by default.
        **arguments: Those of :class:`lm_eval_trust.model_wrappers.amber.SteeredAmber` that say
            the steering, and all of the harness's ``vllm``, which go on to the engine.

    Raises:
        InputError: An unknown argument, a release of vLLM whose inside is not known, steering that
            does not fit the model.
        ExternalError: The model is neither local nor reachable.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {"dimension": "universal"}

    def __init__(self, pretrained: Any = None, **arguments: Any) -> None:
        check_version()
        asked = self.asked_for(pretrained, arguments)
        self.plan, self._allow_leak = asked.plan, asked.allow_leak
        source = source_of(asked.pretrained, asked.rest)
        own = provenance_of_model(source) if source else None
        self._trained_on = (own,) if own else ()
        self._arguments = {
            "engine": f"vllm {version('vllm')}",
            "model": identity_of(asked.pretrained, source, asked.rest),
            **{n: str(v) for n, v in asked.rest.items() if n not in _EXECUTION_ARGUMENTS},
            **part_identities(asked.rest),
        }
        if int(asked.rest.get("data_parallel_size", 1)) > 1:
            raise InputError(
                "steered_vllm runs one engine; spread it by tensor_parallel_size, or start one run "
                "for each GPU. data_parallel_size=1 is what it takes."
            )
        #: As ``hf``'s truncation=true: prompts that are too long are refused unless asked for.
        self._may_cut = "truncation_side" in asked.rest
        self._plans = default_folder()
        os.environ.update(engine_environment(self._plans))
        publish(self.plan, self._plans)
        extension = f"{SteeringExtension.__module__}.{SteeringExtension.__qualname__}"
        if asked.rest.setdefault("worker_extension_cls", extension) != extension:
            raise InputError("steered_vllm has a worker_extension_cls of its own; leave yours out.")
        super().__init__(asked.pretrained, **asked.rest)
        check_registered()
        if not all(self.model.collective_rpc("steers")):
            raise InputError("A worker of vLLM has not loaded the plugin; see VLLM_PLUGINS.")
        check_plan(self.plan, self.model.llm_engine.model_config)

    @classmethod
    def harness_arguments(cls) -> frozenset[str]:
        """Return the names of the arguments that the harness's ``vllm`` and its engine take."""
        declared = inspect.signature(VLLM.__init__).parameters.values()
        own = {p.name for p in declared if p.kind is not p.VAR_KEYWORD} - {"self"}
        return frozenset(own | {field.name for field in dataclasses.fields(EngineArgs)})

    def steer_by(self, plan: SteeringPlan) -> None:
        """Steer by another plan from now on.

        Raises:
            InputError: The plan does not fit the model, or the engine; the old plan stays.
        """
        check_plan(plan, self.model.llm_engine.model_config)
        publish(plan, self._plans)
        self.plan = plan
        keep_responses_apart(self.cache_hook, self.trust_fingerprint)

    @property
    def _rolling_length(self) -> int:
        return self.max_length - 2  # A token of context, and one that the engine generates.

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate continuations; see ``VLLM``."""
        self._guard(requests)
        for request in requests:
            new = int(request.args[1].get("max_gen_toks", self.max_gen_toks))
            self._refuse_overlong(len(self.tok_encode(request.args[0])), self.max_length - new)
        answers: list[str] = super().generate_until(requests, disable_tqdm)
        return answers

    def _refuse_overlong(self, tokens: int, limit: int) -> None:
        if tokens > limit and not self._may_cut:
            raise InputError(
                f"A prompt of {tokens} tokens does not fit: the model takes {limit} besides what "
                f"is to be generated. Pass a larger max_model_len, or truncation_side=left to cut "
                f"prompts on the left."
            )

    def _steering(self, prompt_end: int | None = None, *, private: bool = False) -> dict[str, str]:
        plan = self.plan.fingerprint if self.plan.active_steps else ""
        return RequestSteering(plan, prompt_end, private).arguments()

    def _model_generate(
        self,
        requests: list[list[int]],
        generate: bool = False,
        sampling_params: Any = None,
    ) -> Any:
        several = sampling_params if isinstance(sampling_params, list) else [sampling_params]
        for parameters in several:
            parameters.extra_args = {**(parameters.extra_args or {}), **self._steering()}
        return super()._model_generate(requests, generate, sampling_params)

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        limit = self.max_length - 1  # The engine generates at least one token.
        prompts, parameters, contexts = [], [], []
        for _, context, continuation in requests:
            tokens = (context + continuation)[-limit:]
            # A long continuation can push all of the context out of the window.
            kept = max(len(tokens) - len(continuation), 0)
            self._refuse_overlong(len(context) + len(continuation), limit)
            prompts.append(TokensPrompt(prompt_token_ids=tokens))
            contexts.append(kept)
            end = kept - 1 if self._rolling_ends is None else next(self._rolling_ends)
            parameters.append(
                SamplingParams(
                    temperature=0,
                    prompt_logprobs=1,
                    max_tokens=1,
                    detokenize=False,
                    skip_reading_prefix_cache=False,
                    extra_args=self._steering(end, private=True),
                )
            )
        outputs = self.model.generate(
            prompts, sampling_params=parameters, use_tqdm=not disable_tqdm
        )
        scores = []
        for (key, _, _), output, kept in zip(requests, outputs, contexts, strict=True):
            score = self._parse_logprobs(output.prompt_token_ids, output, kept)
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, score)
            scores.append(score)
        return scores
