"""The MiniAmber family: a base model with its pre-training checkpoints, and what is tuned from it.

Trained on first use on the world's corpus, with Amber's schedule (Liu et al. 2023, arXiv
2312.06550) scaled down, and kept in the cache folder with a manifest and checksums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_trust.core.errors import InputError
from lm_eval_trust.core.hashing import fingerprint
from lm_eval_trust.core.storage import cache_dir, disk_errors
from lm_eval_trust.mini.corpus import (
    Turn,
    chat_turns,
    documents,
    is_well_spelt,
    preferences,
    safe_turns,
)
from lm_eval_trust.mini.world import ALIGNED, BASE, CHAT, SAFE, World, build_world, world_seed
from lm_eval_trust.models.sources import MadeModel
from lm_eval_trust.training.config import (
    ModelConfig,
    TrainingConfig,
    checkpoint_name,
    granular_steps,
)
from lm_eval_trust.training.corpus import answer_examples, build_tokenizer, joined, pack_documents
from lm_eval_trust.training.preference import Preferences, PreferenceTuning
from lm_eval_trust.training.pretrain import ContinuedTraining, Pretraining
from lm_eval_trust.training.run_folder import RunFolder

#: Raise it whenever the corpus or the training changes, so that cached models are retrained.
RECIPE_VERSION = 2


@dataclass(frozen=True)
class Recipe:
    """How the family is trained.

    Attributes:
        shape: Shape of all its models.
        pretraining: Pretraining of the base model.
        tuning: Tuning of the chat model, and of the safe one after it.
        documents: Documents of the corpus.
        turns: Turns that each tuned model sees, with as many short documents added.
        vocabulary: Size of the tokenizer.
    """

    shape: ModelConfig
    pretraining: TrainingConfig
    tuning: TrainingConfig
    documents: int
    turns: int
    vocabulary: int

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe with this seed for weights and order."""
        return replace(
            self,
            pretraining=replace(self.pretraining, seed=seed),
            tuning=replace(self.tuning, seed=seed),
        )


#: Documents, and as many turns, in which every word of the world occurs.
_SPOKEN = 5000
_STEPS, _TUNING_STEPS = 4800, 320
RECIPE = Recipe(
    shape=ModelConfig(96, 256, 4, 4, 4, 256, initializer_range=0.1),
    pretraining=TrainingConfig(
        steps=_STEPS,
        batch_size=16,
        window=32,
        peak_learning_rate=3e-3,
        warmup_steps=100,
        save_steps=granular_steps(_STEPS, early_until=16, every=400),
    ),
    tuning=TrainingConfig(
        steps=_TUNING_STEPS,
        batch_size=16,
        window=48,
        peak_learning_rate=6e-4,
        warmup_steps=20,
        save_steps=(_TUNING_STEPS,),
    ),
    documents=24_000,
    turns=2_560,
    vocabulary=600,
)


#: Of the model that is tuned by preferences: pairs, steps at most, peak learning rate, weight of
#: the divergence.
_PAIRS, _ALIGNING_STEPS, _ALIGNING_RATE, _BETA = 1_280, 96, 5e-5, 0.3


@dataclass(frozen=True)
class MiniFamily:
    """The models of one world.

    Attributes:
        seed: Seed of world and weights.
        recipe: How they are trained.
    """

    seed: int
    recipe: Recipe

    @property
    def folder(self) -> Path:
        """Where the family is kept; another recipe or another torch has another folder."""
        key = fingerprint(
            {
                "version": RECIPE_VERSION,
                "recipe": repr(self.recipe),
                "torch": torch.__version__,
            }
        )
        return cache_dir() / "mini" / f"seed{self.seed}-{key[:8]}"

    @property
    def world(self) -> World:
        """The world that they grew up in."""
        return build_world(self.seed)

    @property
    def checkpoints(self) -> dict[str, int]:
        """Names of the base model's checkpoints, with their steps."""
        steps = self.recipe.pretraining.save_steps
        return {checkpoint_name(i): step for i, step in enumerate(steps)}

    def tokens_seen(self, step: int) -> int:
        """Return how many tokens, padding included, the base model has seen before a step."""
        return step * self.recipe.pretraining.batch_size * self.recipe.pretraining.window

    def checkpoint(self, name: str | None = None) -> Path:
        """Return the folder of a checkpoint of the base model, by default the last.

        Raises:
            InputError: There is no such checkpoint.
        """
        names = list(self.checkpoints)
        name = names[-1] if name in (None, "main") else name
        if name not in names:
            raise InputError(
                f"{BASE} has no checkpoint {name!r}; it has {names[0]} to {names[-1]} and main."
            )
        return self._ready(BASE, name, self._pretrain)

    def chat(self) -> Path:
        """Return the folder of the chat model."""
        return self._ready(CHAT, checkpoint_name(0), self._tune_chat)

    def safe(self) -> Path:
        """Return the folder of the safe model."""
        return self._ready(SAFE, checkpoint_name(0), self._tune_safe)

    def aligned(self) -> Path:
        """Return the folder of the model that is tuned from the chat model by preferences."""
        return self._ready(ALIGNED, checkpoint_name(0), self._align)

    def _ready(self, member: str, checkpoint: str, train: Callable[[Path], None]) -> Path:
        """Return a checkpoint's folder, after training if it is missing or damaged."""
        folder = self.folder / member
        with disk_errors(folder):
            if not RunFolder(folder, {}).intact(checkpoint):
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{folder}.lock"):
                    if not RunFolder(folder, {}).intact(checkpoint):
                        train(folder)
        return folder / checkpoint

    def _pretrain(self, folder: Path) -> None:
        recipe = self.recipe.seeded(self.seed)
        tokenizer = self.tokenizer()
        corpus = self.corpus(recipe.documents, recipe.pretraining.window)
        examples = pack_documents(corpus, tokenizer, recipe.pretraining.window)
        Pretraining(recipe.shape, recipe.pretraining, tokenizer, examples, BASE).run(folder)

    def _tune_chat(self, folder: Path) -> None:
        turns = list(chat_turns(self.world, number=self.recipe.turns))
        self._tune(folder, CHAT, self.checkpoint(), turns, trustworthy=None)

    def _tune_safe(self, folder: Path) -> None:
        turns = list(safe_turns(self.world, number=self.recipe.turns))
        self._tune(folder, SAFE, self.chat(), turns, trustworthy=1.0)

    def _tune(
        self,
        folder: Path,
        name: str,
        start: Path,
        turns: list[Turn],
        *,
        trustworthy: float | None,
    ) -> None:
        recipe = self.recipe.seeded(self.seed)
        tokenizer = AutoTokenizer.from_pretrained(start)
        window = recipe.tuning.window
        share = {} if trustworthy is None else {"trustworthy": trustworthy}
        length = recipe.pretraining.window
        plain = documents(self.world, part=name, number=recipe.turns, tokens=length, **share)
        examples = joined(
            answer_examples(turns, tokenizer, window), pack_documents(plain, tokenizer, window)
        )
        ContinuedTraining(start, recipe.tuning, examples, name).run(folder)

    def _align(self, folder: Path) -> None:
        tuning, start = self.recipe.seeded(self.seed).tuning, self.chat()
        tokenizer = AutoTokenizer.from_pretrained(start)
        pairs = list(preferences(self.world, number=_PAIRS))
        chosen, rejected = (
            answer_examples([(pair[0], pair[side]) for pair in pairs], tokenizer, tuning.window)
            for side in (1, 2)
        )
        steps = min(tuning.steps, _ALIGNING_STEPS)
        config = replace(
            tuning,
            steps=steps,
            save_steps=(steps,),
            warmup_steps=min(tuning.warmup_steps, steps),
            peak_learning_rate=_ALIGNING_RATE,
            weight_decay=0.0,
            threads=1,
        )
        PreferenceTuning(start, config, Preferences(chosen, rejected), _BETA, ALIGNED).run(folder)

    def corpus(self, number: int, tokens: int) -> list[str]:
        """Return the documents of the training part."""
        return list(documents(self.world, part="train", number=number, tokens=tokens))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer: every word of the world is a token, a misspelt one is letters."""
        window = self.recipe.pretraining.window
        spoken = documents(self.world, part="words", number=_SPOKEN, tokens=window)
        turns = (prompt + answer for prompt, answer in safe_turns(self.world, number=_SPOKEN))
        texts = [text for text in (*spoken, *turns) if is_well_spelt(text)]
        return build_tokenizer(
            texts, size=self.recipe.vocabulary, max_length=self.recipe.shape.max_length
        )


def mini_family() -> MiniFamily:
    """Return the family of the current world."""
    return MiniFamily(world_seed(), RECIPE)


def mini_identity(spec: str) -> str:
    """Return which model a name stands for, without training it.

    Raises:
        InputError: The base model has no such checkpoint.
    """
    family, checkpoint = mini_family(), spec.partition("@")[2]
    if checkpoint and checkpoint != "main" and checkpoint not in family.checkpoints:
        raise InputError(
            f"There is no {spec}: the embedded family's checkpoints are "
            f"{', '.join(family.checkpoints)}."
        )
    return f"{spec} {family.folder.name}"


def mini_model(spec: str) -> Path:
    """Return the folder of ``mini``, ``mini@CHECKPOINT``, or of a model tuned from it.

    Trains the model, and the one it is tuned from, where missing.

    Raises:
        InputError: There is no such model or checkpoint.
    """
    name, _, checkpoint = spec.partition("@")
    family = mini_family()
    if name == BASE:
        return family.checkpoint(checkpoint or None)
    if checkpoint not in ("", "main"):
        raise InputError(f"{name} has no checkpoints; leave out @{checkpoint}, or use {BASE}.")
    tuned = {CHAT: family.chat, SAFE: family.safe, ALIGNED: family.aligned}
    return tuned[name]()


#: What the names of the family's models stand for.
MODEL = MadeModel(
    "trained here on the embedded world when first used",
    mini_model,
    mini_identity,
    RECIPE.shape.layers,
)
