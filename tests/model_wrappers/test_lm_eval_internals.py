"""What is used of lm-eval and sqlitedict beside their public interfaces is still there.

A failure here means that a release has moved something: see ``model_wrappers/steerable.py`` for
the overridden methods, ``model_wrappers/lm_eval_internals.py`` for the rest.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path

import pytest
from lm_eval.api.model import CacheHook, CachingLM
from lm_eval.models.huggingface import HFLM
from sqlitedict import SqliteDict

from lm_eval_trust.model_wrappers.lm_eval_internals import (
    harness_options,
    hflm_arguments,
    keep_responses_apart,
)
from lm_eval_trust.model_wrappers.steerable import SteerableLM

MOVED = f"lm_eval {version('lm_eval')} has moved this"
#: Methods that are overridden or called → their first parameters in lm_eval 0.4.13.
USED = {
    "_create_model": ["self", "pretrained"],
    "_get_backend": ["self", "config"],
    "_get_config": ["self", "pretrained"],
    "_detect_batch_size": ["self", "requests", "pos"],
    "_encode_pair": ["self", "context", "continuation"],
    "_loglikelihood_tokens": ["self", "requests", "disable_tqdm"],
    "_model_call": ["self", "inps", "attn_mask", "labels"],
    "_model_generate": ["self", "context", "max_length", "stop"],
    "generate_until": ["self", "requests", "disable_tqdm"],
    "get_model_info": ["self"],
    "loglikelihood": ["self", "requests", "disable_tqdm"],
    "loglikelihood_rolling": ["self", "requests", "disable_tqdm"],
    "set_cache_hook": ["self", "cache_hook"],
    "tok_batch_encode": ["self", "strings", "padding_side", "left_truncate_len", "truncation"],
}


@pytest.mark.parametrize("name", USED)
def test_the_harness_has_the_methods_that_are_used(name: str) -> None:
    method = getattr(HFLM, name, None)
    assert method is not None, f"{MOVED}: HFLM.{name}"
    found = list(inspect.signature(method).parameters)
    assert found[: len(USED[name])] == USED[name], f"{MOVED}: HFLM.{name}"


def test_the_options_of_its_command_are_known() -> None:
    assert {"--model", "--model_args", "--tasks", "--limit", "-t"} <= set(harness_options()), MOVED


def test_every_overridden_method_is_watched() -> None:
    overridden = {
        name
        for name, value in vars(SteerableLM).items()
        if inspect.isfunction(value) and hasattr(HFLM, name) and not name.startswith("__")
    }
    assert overridden <= set(USED)


def test_arguments_of_the_harness_are_known_by_name() -> None:
    assert {"pretrained", "dtype", "device", "batch_size", "max_length"} <= hflm_arguments(), MOVED


def test_one_file_of_responses_keeps_models_apart(tmp_path: Path) -> None:
    class Model:
        hook: CacheHook

        def set_cache_hook(self, hook: CacheHook) -> None:
            self.hook = hook

    model = Model()
    cache = CachingLM(model, str(tmp_path / "responses.db"))
    assert isinstance(model.hook.dbdict, SqliteDict) and model.hook.dbdict is cache.dbdict, MOVED
    for name in ("a", "b"):
        keep_responses_apart(model.hook, name)
        assert "key" not in cache.dbdict
        cache.dbdict["key"] = name
    keep_responses_apart(model.hook, "a")
    assert cache.dbdict["key"] == "a"
