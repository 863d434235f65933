"""Fine-tuning of all weights or of a LoRA adapter, by transformers' ``Trainer``, and its card.

Why pre-training has its own loop is explained in :mod:`lm_eval_trust.training.loop`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from lm_eval_trust import __version__
from lm_eval_trust.core.errors import InputError, reason_of
from lm_eval_trust.core.hashing import content_id
from lm_eval_trust.core.progress import shows_progress
from lm_eval_trust.core.provenance import PROVENANCE_FILE, Provenance
from lm_eval_trust.core.storage import atomic_folder, atomic_path, disk_errors, folder_lock
from lm_eval_trust.models.adapters import new_lora_adapter
from lm_eval_trust.models.sources import Source, base_metadata, base_sentence, load_pinned
from lm_eval_trust.training.chat_format import Encoded, encode_conversation
from lm_eval_trust.training.conversations import Conversation, TuningData
from lm_eval_trust.training.corpus import IGNORED
from lm_eval_trust.training.finetune_config import FinetuneConfig
from lm_eval_trust.training.finetune_states import (
    QuietProgress,
    Reported,
    SealStates,
    StopIfDiverged,
    TuningState,
    copy_weights,
    newest_state,
)
from lm_eval_trust.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

#: Folder of Trainer's states, until the run is finished.
_STATES = "states"
#: Where the weights are written before they take their places.
_WEIGHTS = ".weights"
RESULT, HISTORY = "result.json", "losses.jsonl"
#: What a line of the losses may hold; the speed of a run is left out.
_LOGGED = ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate")
#: Default number of validation evaluations per run (least, most), and the share of the training
#: time that they may take; a backward pass is assumed to cost two forward passes.
_EVALUATIONS, _SHARE = (2, 10), 0.3


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a run; losses are in nats per token.

    Attributes:
        steps: Optimizer steps taken.
        kept_step: Step of the kept weights, the one with the lowest validation loss.
        first_loss: Mean training loss over the first tenth of the steps.
        last_loss: Mean training loss over the last tenth.
        validation_before: Validation loss before the first step; ``None`` without a validation
            part.
        validation_after: Validation loss of the kept weights.
        left_out: Conversations that were too long.
    """

    steps: int
    kept_step: int
    first_loss: float
    last_loss: float
    validation_before: float | None
    validation_after: float | None
    left_out: int


@dataclass(frozen=True)
class Finetuning:
    """One run of fine-tuning.

    Attributes:
        source: The model to start from.
        data: What it learns.
        config: How it is trained.
        device: ``cpu`` or ``cuda``; ``None`` for CUDA if there is one.
    """

    source: Source
    data: TuningData
    config: FinetuneConfig
    device: str | None = None

    def run(self, out: Path) -> FinetuneResult:
        """Train, or finish an interrupted run; a finished one is left as it is.

        The folder then holds the adapter or the model with its tokenizer, the provenance that
        the leak guard reads, a model card, the losses and the result.

        Raises:
            InputError: The folder contains another run, no conversation fits, or the model cannot
                be loaded.
            ExternalError: The operating system refused to write.
        """
        with ExitStack() as held:
            if _is_first_process():  # The others of a distributed run wait for it.
                busy = f"Another fine-tuning is at work in {out}; choose another folder, or wait."
                held.enter_context(folder_lock(out, busy))
            return self._run(out)

    def _run(self, out: Path) -> FinetuneResult:
        RunFolder(out, self._settings()).open()
        if (out / RESULT).is_file():
            result = _finished(out / RESULT)
            _remove_states(out)  # A kill may have left them.
            return result
        model, tokenizer = self._load()
        train, validation, left_out = self._encode(tokenizer)
        found = newest_state(out / _STATES)
        if found is None or not found.ended:
            trainer = self._trainer(model, tokenizer, train, validation, out / _STATES, found)
            with disk_errors(out):
                trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
            state = trainer.state
        else:
            state = found.state
        result = _result(state, left_out)
        if _is_first_process():
            self._save(state, result, out)
        return result

    def provenance(self) -> Provenance:
        """Return what the weights are made from, for the leak guard and for rebuilding them."""
        used = (*self.data.train, *self.data.validation)
        return Provenance(
            model=self.source.identity.name,
            revision=self.source.identity.revision,
            dimension=self.data.dimension,
            data_source=self.data.data_source,
            split=self.data.split,
            split_seed=self.data.split_seed,
            part=self.data.part,
            method=self.config.method,
            items=tuple(sorted({conversation.id for conversation in used})),
            groups=tuple(sorted({conversation.group for conversation in used})),
            settings={
                **self.data.settings,
                "commit": self.source.identity.commit,
                "training": json.loads(json.dumps(self.config.settings())),
            },
            versions={"lm_eval_trust": __version__}
            | {name: version(name) for name in ("torch", "transformers", "peft")},
        )

    def _settings(self) -> dict[str, Any]:
        parts = {"train": self.data.train, "validation": self.data.validation}
        return {
            "model": self.source.identity.text,
            "training": dict(self.config.settings()),
            "torch": torch.__version__,
            "data": {name: content_id(*(c.id for c in part)) for name, part in parts.items()},
        }

    def _load(self) -> tuple[Any, Any]:
        # Half precision is for frozen weights only: it would round small steps away.
        half = self._on_gpu and self.config.method == "lora"
        dtype = "bfloat16" if half else "float32"
        model, tokenizer = load_pinned(self.source, dtype=dtype, device=self.device)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        set_seed(self.config.seed)
        if self.config.method == "lora":
            lora = self.config.lora
            model = new_lora_adapter(
                model,
                rank=lora.rank,
                alpha=lora.alpha,
                dropout=lora.dropout,
                targets=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
                revision=self.source.identity.commit,
            )
        return model, tokenizer

    def _encode(self, tokenizer: Any) -> tuple[list[Encoded], list[Encoded], int]:
        def fitting(conversations: Sequence[Conversation]) -> list[Encoded]:
            encoded = [encode_conversation(c, tokenizer, self.config.form) for c in conversations]
            return [e for e in encoded if len(e) <= self.config.max_length]

        train, validation = fitting(self.data.train), fitting(self.data.validation)
        wanted = len(self.data.train) + len(self.data.validation)
        left_out = wanted - len(train) - len(validation)
        if not train:
            raise InputError(
                f"None of {len(self.data.train)} conversations fits into {self.config.max_length} "
                f"tokens; choose a larger --max-length."
            )
        if left_out:
            logger.warning(
                "%d of %d conversations are longer than %d tokens and are left out.",
                left_out,
                wanted,
                self.config.max_length,
            )
        return train, validation, left_out

    def _trainer(
        self,
        model: Any,
        tokenizer: Any,
        train: list[Encoded],
        validation: list[Encoded],
        states: Path,
        found: TuningState | None,
    ) -> Any:
        config = self.config
        steps_an_epoch = -(-len(train) // config.batch_size)
        steps = config.max_steps or max(1, int(steps_an_epoch * config.epochs))
        every = config.evaluate_every or max(
            1, steps // _evaluations(config, steps, len(validation))
        )
        checkpointing = config.gradient_checkpointing
        arguments = TrainingArguments(
            output_dir=str(states),
            max_steps=steps,
            per_device_train_batch_size=config.micro_batch,
            per_device_eval_batch_size=config.micro_batch,
            gradient_accumulation_steps=config.batch_size // config.micro_batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(config.warmup_share * steps),
            weight_decay=config.weight_decay,
            optim=config.optimizer,
            eval_strategy="steps" if validation else "no",
            eval_steps=every,
            eval_on_start=bool(validation) and found is None,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=bool(validation),
            metric_for_best_model="eval_loss" if validation else None,
            greater_is_better=False if validation else None,
            restore_callback_states_from_checkpoint=True,
            logging_steps=1,
            logging_nan_inf_filter=False,
            seed=config.seed,
            bf16=self._on_gpu,
            gradient_checkpointing=self._on_gpu if checkpointing is None else checkpointing,
            use_cpu=not self._on_gpu,
            disable_tqdm=not shows_progress(),
            report_to=[],
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=[asdict(e) for e in train],
            eval_dataset=[asdict(e) for e in validation] or None,
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
            processing_class=tokenizer,
        )
        if validation:
            trainer.add_callback(EarlyStoppingCallback(config.patience))
        # Losses go to a file; a printed line per step would bury the progress bar.
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        if shows_progress():
            trainer.add_callback(QuietProgress)
        trainer.add_callback(Reported)
        trainer.add_callback(StopIfDiverged)
        trainer.add_callback(SealStates)
        return trainer

    def _save(self, state: TrainerState, result: FinetuneResult, out: Path) -> None:
        with atomic_folder(out / _WEIGHTS) as folder:
            copy_weights(out / _STATES / f"checkpoint-{result.kept_step}", folder)
        for file in (out / _WEIGHTS).iterdir():
            file.replace(out / file.name)
        provenance = self.provenance()
        history = [json.dumps(entry) + "\n" for entry in _losses(state)]
        for name, text in (
            (HISTORY, "".join(history)),
            ("README.md", model_card(self.source, self.data, self.config, result)),
            (PROVENANCE_FILE, provenance.to_json()),
            # Written last: a folder that has it is finished.
            (RESULT, json.dumps(asdict(result), indent=1)),
        ):
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        _remove_states(out)

    @property
    def _on_gpu(self) -> bool:
        wanted = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return wanted.startswith("cuda")


def _evaluations(config: FinetuneConfig, steps: int, validation: int) -> int:
    affordable = _SHARE * steps * 3 * config.batch_size / max(1, validation)
    least, most = _EVALUATIONS
    return int(min(max(affordable, least), most))


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _remove_states(out: Path) -> None:
    for folder in (out / _STATES, out / _WEIGHTS):
        if folder.exists():
            shutil.rmtree(folder)


def _finished(file: Path) -> FinetuneResult:
    """Read the result of a run that ended.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return FinetuneResult(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{file} is damaged ({reason_of(error)}); delete it and run again, which trains again."
        ) from error


def _losses(state: TrainerState) -> list[dict[str, float]]:
    """Return the lines of the log that hold losses, without times.

    Trainer's closing line is left out: its mean loss is that of the steps since it was started.
    """
    return [
        {name: entry[name] for name in _LOGGED if name in entry}
        for entry in state.log_history
        if "loss" in entry or "eval_loss" in entry
    ]


def _result(state: TrainerState, left_out: int) -> FinetuneResult:
    history = state.log_history
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    evaluated = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    tenth = max(1, len(losses) // 10)
    trained = [(step, loss) for step, loss in evaluated if step > 0]
    kept, after = min(trained, key=lambda found: found[1]) if trained else (None, None)
    return FinetuneResult(
        steps=state.global_step,
        kept_step=state.global_step if kept is None else int(kept),
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
        validation_before=next((loss for step, loss in evaluated if step == 0), None),
        validation_after=after,
        left_out=left_out,
    )


def model_card(
    source: Source, data: TuningData, config: FinetuneConfig, result: FinetuneResult
) -> str:
    """Return the README of a model or an adapter, with the metadata that the Hub reads."""
    lora = config.method == "lora"
    metadata = {
        **base_metadata(source),
        "library_name": "peft" if lora else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lm_eval_trust", config.method, data.dimension],
    }
    what = "LoRA adapter" if lora else "Fully fine-tuned model"
    use = (
        f"lm_eval --model lora_amber --model_args pretrained={source.location},adapter=FOLDER"
        if lora
        else "lm_eval --model finetuned_amber --model_args pretrained=FOLDER"
    )
    shape = (
        f"- adapter: rank {config.lora.rank}, α {config.lora.alpha}, dropout "
        f"{config.lora.dropout}, on {config.lora.targets}\n"
        if lora
        else ""
    )
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# {what} for {data.dimension}

{base_sentence(source)}

## Data

{len(data.train)} conversations to learn from and {len(data.validation)} for validation, from
`{data.data_source}` ({data.part} part, {data.split} split with seed {data.split_seed}); only the
assistant's turns are learnt. {result.left_out} conversations were too long and were left out.

## Training

- method: {config.method}, seed {config.seed}
{shape}- optimizer: {config.optimizer}, peak rate {config.learning_rate:g}
- batch: {config.batch_size} conversations
- form: {config.form.name}, at most {config.max_length} tokens
- steps: {result.steps}, the weights of step {result.kept_step} are kept
- training loss: {result.first_loss:.4f} at the start, {result.last_loss:.4f} at the end
- validation loss: {_loss(result.validation_before)} before, {_loss(result.validation_after)} after

## Evaluation

    {use} --tasks trust_suite

`lm_eval_trust.json` lists the items that were used; evaluating on one of them is refused.
"""


def _loss(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
