"""``steered_vllm`` for many configurations: all of their requests go to the engine in one stream.

Requests of one prompt follow one another, so they find its unsteered beginning in the prefix
cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

from lm_eval_trust.core.errors import InputError, unknown_name
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.nonfinite import NONFINITE
from lm_eval_trust.core.progress import progress_bar
from lm_eval_trust.engine.divergence import Compared
from lm_eval_trust.engine.requests import check_steps, slots
from lm_eval_trust.engine.table import check_affine
from lm_eval_trust.model_wrappers.amber_arguments import AMBER, AMBER_CHAT
from lm_eval_trust.model_wrappers.arguments import as_flag
from lm_eval_trust.model_wrappers.lora_vllm import LoraVLLM
from lm_eval_trust.model_wrappers.prompt_ends import TokenRequest
from lm_eval_trust.model_wrappers.steered_vllm import Scoring, SteeredVLLM, is_finite
from lm_eval_trust.model_wrappers.swept_model import Answers, SweptModel, answer_key, score_key
from lm_eval_trust.model_wrappers.tuned import check_whole
from lm_eval_trust.steering.plan import SteeringPlan

#: Requests that the engine is given at once; what they gave is kept when all are done.
_AT_ONCE = 4096
_RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
_UNSTEERED = SteeringPlan()
_T = TypeVar("_T")


class StreamedVLLM(SweptModel, SteeredVLLM):
    """``steered_vllm`` with the configurations of a sweep; see :func:`load_stream`."""

    DEFAULT_MODEL: ClassVar[str] = AMBER
    DEFAULT_STEERING: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, pretrained: Any = None, **arguments: Any) -> None:
        if os.environ.setdefault(_RUNNER, "0") != "0":
            raise InputError(
                f"The KL divergence is measured in vLLM's V1 model runner; unset {_RUNNER}."
            )
        super().__init__(pretrained, **{**arguments, "batch_size": "auto"})

    def sweep(self, plans: Sequence[SteeringPlan], answers: Answers) -> None:
        """Answer for these plans at once from now on; see ``SweptModel``.

        Raises:
            InputError: A plan does not fit the model, or the engine.
        """
        for plan in plans:
            self._publish(plan)
        super().sweep(plans, answers)

    def _model_generate(
        self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
    ) -> Any:
        greedy = all(p.temperature == 0 and p.n == 1 for p in sampling_params)
        if not self._plans or not greedy:
            return super()._model_generate(requests, generate, sampling_params)
        keys = [
            fingerprint({"prompt": tokens, "settings": repr(parameters)})
            for tokens, parameters in zip(requests, sampling_params, strict=True)
        ]
        wanted = self._lacking(keys)
        if wanted:
            lacking = set().union(*wanted.values())
            missing = dict(zip(keys, zip(requests, sampling_params, strict=True), strict=True))
            self._generate({k: v for k, v in missing.items() if k in lacking}, list(wanted))
        texts = ("" if text == NONFINITE else text for text in self._own_texts(keys))
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text)]) for text in texts]

    def _check_generated(self, outputs: Sequence[Any]) -> None:
        if not self._plans:
            super()._check_generated(outputs)
        self._broken_answers += sum(not is_finite(output) for output in outputs)

    def _generate(
        self, missing: Mapping[str, tuple[list[int], Any]], plans: Sequence[SteeringPlan]
    ) -> None:
        with progress_bar(
            total=len(missing) * len(plans), title="Generating", unit="answer"
        ) as bar:
            for part in _parts(list(missing.items()), _AT_ONCE // len(plans)):
                for group in _parts(plans, slots()):
                    asked = [(key, plan, *found) for key, found in part for plan in group]
                    outputs = self._generated(
                        [tokens for _, _, tokens, _ in asked],
                        [self._generating(parameters, plan) for _, plan, _, parameters in asked],
                    )
                    self._answers.put_many(
                        (
                            answer_key(key, plan),
                            output.outputs[0].text if is_finite(output) else NONFINITE,
                        )
                        for (key, plan, _, _), output in zip(asked, outputs, strict=True)
                    )
                    bar.update(len(asked))

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        if not self._plans:
            return super()._loglikelihood_tokens(requests, disable_tqdm)
        found = [self._scoring(request) for request in requests]
        keys = [
            score_key(each.tokens[: each.scored], each.tokens[each.scored :], each.prompt_end)
            for each in found
        ]
        wanted = self._lacking(keys)
        if wanted:
            lacking = set().union(*wanted.values())
            missing = {k: one for k, one in zip(keys, found, strict=True) if k in lacking}
            self._score(missing, list(wanted))
        return self._own_scores(keys, requests)

    def _score(self, missing: Mapping[str, Scoring], plans: Sequence[SteeringPlan]) -> None:
        steered = [plan for plan in plans if plan.active_steps]
        with progress_bar(
            total=len(missing) * len(plans), title="Scoring", unit="continuation"
        ) as bar:
            for part in _parts(list(missing.items()), _AT_ONCE // (len(steered) + 1)):
                scores = self._scores(part, [_UNSTEERED])  # The others are compared with it.
                for group in _parts(steered, slots()):
                    scores |= self._scores(part, group)
                found = {(key, _UNSTEERED.fingerprint): 0.0 for key, _ in part}
                found |= self._divergences()
                self._answers.put_many(
                    (
                        answer_key(key, plan),
                        [
                            *scores[key, plan],
                            found[key, plan.fingerprint] if plan.active_steps else 0.0,
                        ],
                    )
                    for key, _ in part
                    for plan in [_UNSTEERED, *steered]
                )
                bar.update(len(part) * len(plans))

    def _scores(
        self, part: Sequence[tuple[str, Scoring]], plans: Sequence[SteeringPlan]
    ) -> dict[tuple[str, SteeringPlan], tuple[float, bool]]:
        """Return the score of each request under each plan."""
        asked = [(key, found, plan) for key, found in part for plan in plans]
        parameters = []
        for key, found, plan in asked:
            one = self._scoring_parameters(found, plan)
            name = plan.fingerprint if plan.active_steps else ""
            one.extra_args |= Compared(key, name, max(found.scored - 1, 0)).arguments()
            parameters.append(one)
        scores = self._scored([found for _, found, _ in asked], parameters)
        return {(key, plan): score for (key, _, plan), score in zip(asked, scores, strict=True)}

    def _divergences(self) -> dict[tuple[str, str], float]:
        """Return what the workers have compared, in nats, by request and plan."""
        told = self.model.collective_rpc("take_divergences")
        return {(text, plan): kl for each in told for text, plan, kl in each}


class StreamedLora(StreamedVLLM, LoraVLLM):
    """``lora_vllm`` with the configurations of a sweep."""

    DEFAULT_MODEL: ClassVar[str] = AMBER_CHAT


def check_before_loading(plans: Sequence[SteeringPlan], arguments: Mapping[str, Any]) -> None:
    """Raise if an engine with these arguments cannot run a plan; no model is needed.

    Raises:
        InputError: It cannot; the message says what can.
    """
    eager = as_flag("enforce_eager", arguments.get("enforce_eager", False))
    for plan in plans:
        check_steps(plan)
        if not eager:
            check_affine(plan)


def stream_class(model: str) -> type[StreamedVLLM]:
    """Return the class of a model that runs inside vLLM.

    Raises:
        InputError: It does not.
    """
    if model not in MODELS:
        raise unknown_name("model for engine vllm", model, MODELS)
    return MODELS[model]


def load_stream(
    model: str, arguments: Mapping[str, Any], plans: Sequence[SteeringPlan]
) -> StreamedVLLM:
    """Load a model in vLLM, to answer for many plans in one stream of requests.

    Args:
        model: A name among :data:`MODELS`.
        arguments: Its model arguments, without steering; those of ``steered_vllm``.
        plans: What it will be steered by, as far as that is known.

    Raises:
        InputError: Another model, a plan that does not run inside vLLM, an argument that is not
            vLLM's.
        ExternalError: The model is neither local nor reachable.
    """
    kind = stream_class(model)
    check_before_loading(plans, arguments)
    if model == "finetuned_amber":
        check_whole(arguments.get("pretrained"))
    loaded = kind(**arguments)
    if loaded.plan.steps:
        raise InputError("The steering is not among the model arguments here; leave it out.")
    return loaded


def _parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    size = max(size, 1)
    yield from (items[start : start + size] for start in range(0, len(items), size))


#: Harness models that run inside vLLM.
MODELS: dict[str, type[StreamedVLLM]] = {
    "amber": StreamedVLLM,
    "finetuned_amber": StreamedVLLM,
    "lora_amber": StreamedLora,
}
