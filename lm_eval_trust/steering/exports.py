"""What a steering vector can be written as for other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lm_eval_trust.core.errors import unknown_name
from lm_eval_trust.steering.control_vectors import write_llama_cpp, write_repeng
from lm_eval_trust.steering.formats import write_lm_eval
from lm_eval_trust.steering.vectors import SteeringVector


class Writer(Protocol):
    """Writes α times the scaled directions of some layers to a file."""

    def __call__(
        self, vector: SteeringVector, path: Path, *, layers: list[int], alpha: float, scale: str
    ) -> None:
        """Write ``path``."""


@dataclass(frozen=True)
class Format:
    """A file format of another tool.

    Attributes:
        write: Writes it.
        usage: How the other tool is told to use the file; ``{file}`` stands for it.
    """

    write: Writer
    usage: str


FORMATS: Mapping[str, Format] = {
    "lm_eval": Format(
        write_lm_eval, "run it with `--model steered --model_args …,steer_path={file}`"
    ),
    "gguf": Format(write_llama_cpp, "run it with `llama-server -m MODEL --control-vector {file}`"),
    "repeng": Format(write_repeng, "read it with `ControlVector.import_gguf('{file}')`"),
}


def find_format(name: str) -> Format:
    """Return the format of this name.

    Raises:
        InputError: There is none.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]
