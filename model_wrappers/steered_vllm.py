"""``steered_vllm``: the harness's ``vllm`` whose requests run under a steering plan."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

from lm_eval.api.instance import Instance

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.provenance import Provenance
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
from lm_eval_trust.models.sources import Source, provenance_of_model
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
_EXECUTION_ARGUMENTS = frozenset(
    ("batch_size", "max_batch_size", "device", "gpu_memory_utilization")
)


@dataclass(frozen=True)
class Scoring:
    """A request to score.

    Attributes:
        tokens: All that is sent.
        scored: Index of the first token that is scored.
        prompt_end: Index of the last prompt token; negative where the window has none.
    """

    tokens: list[int]
    scored: int
    prompt_end: int


class SteeredVLLM(AmberArguments, GuardedLM, VLLM):  # type: ignore[misc]
    """Harness model ``steered_vllm``.

    Every request carries its steering; positions mean what they mean for ``steered_amber``, and
    the engine batches, caches and preempts as usual.

    Args:
        pretrained: Hub name or folder, ``LLM360/AmberChat`` by default.
        identities: Name → identity of what belongs to the model in addition to ``pretrained``.
        trained_on: What this was trained on, for the leak guard.
        lora: Folder and rank of an adapter.
        **arguments: Those of :class:`lm_eval_trust.model_wrappers.amber.SteeredAmber` that say
            the steering, and all of the harness's ``vllm``, which continue to the engine.

    Raises:
        InputError: An unknown argument, a release of vLLM whose inside is not known, steering that
            does not fit the model.
        ExternalError: The model is neither local nor reachable.
    """

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {"dimension": "universal"}

    def __init__(
        self,
        pretrained: Any = None,
        *,
        identities: Mapping[str, str] | None = None,
        trained_on: Sequence[Provenance] = (),
        lora: tuple[str, int] | None = None,
        **arguments: Any,
    ) -> None:
        check_version()
        asked = self.asked_for(pretrained, arguments)
        self.plan, self._allow_leak = asked.plan, asked.allow_leak
        source = source_of(asked.pretrained, asked.rest)
        self._check_source(source)
        own = provenance_of_model(source) if source else None
        self._trained_on = (*((own,) if own else ()), *trained_on)
        self._arguments = {
            **(identities or {}),
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
        if "lora_local_path" in asked.rest:
            raise InputError("Give the adapter as `--model lora_vllm` and adapter=FOLDER_OR_NAME.")
        if lora is not None:
            asked.rest["lora_local_path"], asked.rest["max_lora_rank"] = lora
        #: As ``hf``'s truncation=true: prompts that are too long are refused unless asked for.
        self._may_cut = "truncation_side" in asked.rest
        self._plans_folder = default_folder()
        os.environ.update(engine_environment(self._plans_folder))
        publish(self.plan, self._plans_folder)
        extension = f"{SteeringExtension.__module__}.{SteeringExtension.__qualname__}"
        if asked.rest.setdefault("worker_extension_cls", extension) != extension:
            raise InputError("steered_vllm has a worker_extension_cls of its own; leave yours out.")
        # An engine that is collected takes its process groups along, of one that starts just then
        # as well.
        gc.collect()
        super().__init__(asked.pretrained, **asked.rest)
        check_registered()
        if not all(self.model.collective_rpc("steers")):
            raise InputError("A worker of vLLM has not loaded the plugin; see VLLM_PLUGINS.")
        check_plan(self.plan, self.model.llm_engine.model_config)

    def _check_source(self, source: Source | None) -> None:
        """Refuse a model that does not fit what is put on it, before it is loaded."""

    @classmethod
    def harness_arguments(cls) -> frozenset[str]:
        """Return the names of the arguments that the harness's ``vllm`` and its engine take."""
        declared = inspect.signature(VLLM.__init__).parameters.values()
        own = {p.name for p in declared if p.kind is not p.VAR_KEYWORD} - {"self"}
        # The harness's command gives every model a device, which its `vllm` ignores.
        return frozenset(own | {"device"} | {f.name for f in dataclasses.fields(EngineArgs)})

    def steer_by(self, plan: SteeringPlan) -> None:
        """Steer by another plan from now on.

        Raises:
            InputError: The plan does not fit the model, or the engine; the old plan stays.
        """
        self._publish(plan)
        self.plan = plan
        keep_responses_apart(self.cache_hook, self.trust_fingerprint)

    def _publish(self, plan: SteeringPlan) -> None:
        check_plan(plan, self.model.llm_engine.model_config)
        publish(plan, self._plans_folder)

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

    def _model_generate(
        self,
        requests: list[list[int]],
        generate: bool = False,
        sampling_params: Any = None,
    ) -> Any:
        outputs = self._generated(
            requests, [self._generating(parameters, self.plan) for parameters in sampling_params]
        )
        self._check_generated(outputs)
        return outputs

    def _generating(self, parameters: Any, plan: SteeringPlan) -> Any:
        """Return the harness's parameters of a generation, with a plan in them."""
        found = parameters.clone()
        found.extra_args = {**(found.extra_args or {}), **RequestSteering(_name(plan)).arguments()}
        found.logprobs = 0  # Of the tokens themselves: they tell whether the logits are numbers.
        return found

    def _generated(self, requests: Sequence[list[int]], parameters: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = super()._model_generate(
            list(requests), generate=True, sampling_params=list(parameters)
        )
        return outputs

    def _check_generated(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            if not is_finite(output):
                prompt = self.tokenizer.decode(output.prompt_token_ids[-20:])
                raise InputError(
                    f"The model gives logits that are NaN or infinite after {prompt!r}; steer less "
                    f"strongly, or try dtype=float32."
                )

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        found = [self._scoring(request) for request in requests]
        scores = self._scored(
            found,
            [self._scoring_parameters(each, self.plan) for each in found],
            use_tqdm=not disable_tqdm,
        )
        for (key, _, _), score in zip(requests, scores, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, score)
        return scores

    def _scoring(self, request: TokenRequest) -> Scoring:
        _, context, continuation = request
        limit = self.max_length - 1  # The engine generates at least one token.
        self._refuse_overlong(len(context) + len(continuation), limit)
        tokens = (context + continuation)[-limit:]
        # A long continuation can push all of the context out of the window.
        kept = max(len(tokens) - len(continuation), 0)
        end = kept - 1 if self._rolling_ends is None else next(self._rolling_ends)
        return Scoring(tokens, kept, end)

    def _scoring_parameters(self, found: Scoring, plan: SteeringPlan) -> Any:
        return SamplingParams(
            temperature=0,
            prompt_logprobs=1,
            max_tokens=1,
            detokenize=False,
            skip_reading_prefix_cache=False,
            extra_args=RequestSteering(_name(plan), found.prompt_end, private=True).arguments(),
        )

    def _scored(
        self, asked: Sequence[Scoring], parameters: Sequence[Any], *, use_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return log-probability and greediness of each request."""
        outputs = self.model.generate(
            [TokensPrompt(prompt_token_ids=each.tokens) for each in asked],
            sampling_params=list(parameters),
            use_tqdm=use_tqdm,
            lora_request=self.lora_request,
        )
        return [
            self._parse_logprobs(output.prompt_token_ids, output, each.scored)
            for each, output in zip(asked, outputs, strict=True)
        ]


def is_finite(output: Any) -> bool:
    """Tell whether the logits of a vLLM answer's tokens are numbers."""
    told = output.outputs[0].cumulative_logprob
    return told is None or math.isfinite(told)


def _name(plan: SteeringPlan) -> str:
    return plan.fingerprint if plan.active_steps else ""
