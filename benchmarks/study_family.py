"""A family of random Llamas and a study of it, for the benchmarks of studies."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from support.models import build_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

STUDY = """
study: benchmark
family: {family}
dimensions: [reliability, fairness]
data: {{source: mini, statements: 120}}
layers: 0+2
compute: [probes, information, vectors]
information: {{permutations: 20, samples: 120}}
probes: {{controls: 2}}
evaluations:
  - {{name: plain, models: checkpoints, tasks: [trust_stereoset_mini], limit: 4}}
  - name: transfer
    models: [{chat}]
    tasks: [trust_stereoset_mini, trust_world_text_mini]
    limit: 4
    steering: {{sources: checkpoints, dimensions: [fairness], layers: [2], alphas: [0, 1, 4]}}
engine: {{threads: 1}}
"""


FLOW = """
study: flow
family: {{file: {family}}}
dimensions: [reliability, fairness]
data: {{source: mini, statements: 120}}
layers: 0+2
method: leace
compute: [probes, vectors, transfer]
probes: {{controls: 2}}
evaluations:
  - name: transfer
    models: checkpoints
    tasks: [trust_stereoset_mini]
    limit: 4
    steering: {{sources: checkpoints, dimensions: [fairness], layers: [2], alphas: [0, 1]}}
  - name: erased
    models: checkpoints
    tasks: [trust_stereoset_mini]
    limit: 4
    steering:
      sources: own
      dimensions: [reliability, fairness]
      layers: [2]
      alphas: [0, 1]
      action: erase
      positions: all
engine: {{threads: 1}}
"""
STAGES = """
family: three-stages
stages:
  - {{stage: pretraining, folder: {place}/family}}
  - {{stage: sft, model: {place}/sft}}
  - {{stage: dpo, model: {place}/dpo}}
"""


def save_llama(folder: Path, seed: int, *, hidden: int = 64, layers: int = 4) -> Path:
    """Write a random Llama with a byte-level tokenizer; return its folder."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def write_study(place: Path, checkpoints: int) -> Path:
    """Write a family of checkpoints, a chat model and a study of them; return its file."""
    family = place / "family"
    for number in range(checkpoints):
        save_llama(family / f"ckpt_{number:03d}", number)
    chat = save_llama(place / "chat", 1000)
    file = place / "study.yaml"
    file.write_text(STUDY.format(family=f"{{folder: {family}}}", chat=chat), encoding="utf-8")
    return file


def exported(out: Path) -> dict[str, bytes]:
    """Return every exported file, figures included."""
    folder = out / "export"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*"))}


def write_flow(place: Path, checkpoints: int) -> Path:
    """Write a family of three stages and a study of it; return its file."""
    for number in range(checkpoints):
        save_llama(place / "family" / f"ckpt_{number:03d}", number)
    for number, stage in enumerate(("sft", "dpo"), 1000):
        save_llama(place / stage, number)
    family, file = place / "family.yaml", place / "study.yaml"
    family.write_text(STAGES.format(place=place), encoding="utf-8")
    file.write_text(FLOW.format(family=family), encoding="utf-8")
    return file
