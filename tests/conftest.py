"""Models and data that the tests of all rooms share."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import support  # noqa: F401  # isort: skip  # before peft imports what reads HF_HUB_OFFLINE

import pytest
import torch
from hypothesis import HealthCheck, settings
from peft import LoraConfig, get_peft_model
from support.mini import QUICK, quick_family
from support.models import build_llama, build_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_trust.core.storage import cache_dir
from lm_eval_trust.mini import family
from lm_eval_trust.mini.world import build_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

#: Where `make model` puts SmolLM2; read before any test points the cache elsewhere.
PREPARED_SMOLLM2 = cache_dir() / "models" / "smollm2-135m-instruct"
#: Fixture → marker of the tests that use it.
_NEEDS = {"data_dir": "data", "smollm2": "model", "browser": "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, so that `-m "not browser"` leaves them out."""
    for item in items:
        for fixture in _NEEDS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(_NEEDS[fixture])


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_llama(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """Factory of saved random Llamas: ``tiny_llama(layers=4, tied=True)`` returns a folder."""
    made: dict[tuple[tuple[str, object], ...], Path] = {}

    def build(**shape: int | bool) -> Path:
        key = tuple(sorted(shape.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("llama")
            build_llama(**shape).save_pretrained(folder)  # type: ignore[arg-type]
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return build


@pytest.fixture(scope="session")
def random_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Factory of random LoRA adapters: ``random_adapter(folder)`` returns one for that model."""
    made: dict[Path, Path] = {}

    def build(folder: Path) -> Path:
        if folder not in made:
            torch.manual_seed(3)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            config = LoraConfig(
                r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False
            )
            made[folder] = tmp_path_factory.mktemp("adapter")
            get_peft_model(model, config).save_pretrained(made[folder])
        return made[folder]

    return build


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real benchmark files, named by ``LM_EVAL_TRUST_DATA``."""
    folder = os.environ.get("LM_EVAL_TRUST_DATA")
    if not folder:
        pytest.skip("LM_EVAL_TRUST_DATA is not set: no real benchmark files")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct as a plain Llama, prepared by ``make model``."""
    folder = Path(os.environ.get("LM_EVAL_TRUST_SMOLLM2") or PREPARED_SMOLLM2)
    if not (folder / "config.json").is_file():
        pytest.skip(f"no SmolLM2 in {folder} (LM_EVAL_TRUST_SMOLLM2): run `make model`")
    return folder.resolve()


@pytest.fixture(scope="session")
def trained_quick_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder with the quick family of seed 0, all members trained."""
    cache = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_EVAL_TRUST_CACHE", str(cache))
        quick_family().safe()
    return cache


@pytest.fixture
def quick(trained_quick_family: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The family's names stand for the quick family, which lies trained in the test's own cache."""
    monkeypatch.setattr(family, "RECIPE", QUICK)
    shutil.copytree(trained_quick_family, cache_dir(), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; tests are skipped where there is none."""
    from support.browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, and none asks the Hub."""
    monkeypatch.setenv("LM_EVAL_TRUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def naming(quick: None, tmp_path: Path) -> Path:
    """A vector towards the name that is the right answer most often."""
    (name, _), *_ = Counter(fact.truth for fact in build_world(0).facts).most_common(1)
    folder = family.mini_model("mini-chat")
    token = AutoTokenizer.from_pretrained(folder)(f"A: {name}")["input_ids"][-1]
    rows = AutoModelForCausalLM.from_pretrained(folder).lm_head.weight.detach()
    direction = torch.nn.functional.normalize(rows[token] - rows.mean(dim=0), dim=0)
    path = tmp_path / "naming_layer1.pt"
    torch.save(direction, path)
    return path
