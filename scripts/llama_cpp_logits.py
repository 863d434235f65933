"""Logits of llama.cpp with and without a control vector; for an interpreter with llama-cpp-python.

    python scripts/llama_cpp_logits.py JOB.json OUT.npz

The job holds ``model`` (a GGUF file), ``control`` (a GGUF control vector, or null), ``rows`` (token
ids of prompts) and ``new_tokens`` (how many to generate greedily). Out come, for row i,
``plain_i`` and ``steered_i`` of shape (tokens, vocabulary) and the generated ``plain_text_i`` and
``steered_text_i``. The control vector is read by llama.cpp's own reader of GGUF files and put into
its buffer as its ``common_control_vector_load`` does: direction.1 first, missing ones zero.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np


def main() -> None:
    """Run the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    longest = max(map(len, job["rows"])) + job["new_tokens"] + 1
    model = llama_cpp.Llama(job["model"], n_ctx=longest, logits_all=True, verbose=False)
    found = answers(model, job, "plain")
    if job["control"]:
        steer(model, read_control(job["control"]))
        found |= answers(model, job, "steered")
    np.savez(sys.argv[2], **found)


def answers(model: Any, job: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the logits at every prompt token, and the greedy continuation."""
    found = {}
    for i, row in enumerate(job["rows"]):
        model.reset()
        model.eval(row)
        found[f"{name}_{i}"] = np.array(model.scores[: len(row)])
        new: list[int] = []
        for _ in range(job["new_tokens"]):
            new.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            model.eval(new[-1:])
        found[f"{name}_text_{i}"] = model.detokenize(new).decode("utf-8", errors="replace")
    return found


def steer(model: Any, directions: dict[int, np.ndarray]) -> None:
    """Set the control vector at all its layers."""
    width = model.n_embd()
    layers = llama_cpp.llama_model_n_layer(model.model)
    buffer = np.zeros((layers, width), dtype=np.float32)  # Row i is layer i + 1.
    for layer, direction in directions.items():
        buffer[layer - 1] += direction
    pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    failed = llama_cpp.llama_set_adapter_cvec(model.ctx, pointer, buffer.size, width, 1, layers)
    if failed:
        raise SystemExit(f"llama_set_adapter_cvec returned {failed}.")


class _Parameters(ctypes.Structure):
    """``gguf_init_params``."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


def read_control(path: str) -> dict[int, np.ndarray]:
    """Return layer → direction of a control vector, read by llama.cpp's own GGUF reader."""
    library = ggml()
    context = ctypes.c_void_p()
    parameters = _Parameters(False, ctypes.pointer(context))
    file = library.gguf_init_from_file(path.encode(), parameters)
    if not file:
        raise SystemExit(f"llama.cpp cannot read {path}.")
    directions = {}
    for index in range(library.gguf_get_n_tensors(file)):
        name = library.gguf_get_tensor_name(file, index)
        tensor = library.ggml_get_tensor(context, name)
        width = library.ggml_nelements(tensor)
        layer = int(name.decode().removeprefix("direction."))
        if (
            layer < 1
            or library.ggml_n_dims(tensor) != 1
            or library.ggml_nbytes(tensor) != 4 * width
        ):
            raise SystemExit(f"llama.cpp would not take {name.decode()} of {path}.")
        data = ctypes.cast(library.ggml_get_data_f32(tensor), ctypes.POINTER(ctypes.c_float))
        directions[layer] = np.ctypeslib.as_array(data, (width,)).copy()
    return directions


def ggml() -> ctypes.CDLL:
    """Return the library that llama-cpp-python brings, with the functions' types."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, arguments, result in (
        ("gguf_init_from_file", [ctypes.c_char_p, _Parameters], pointer),
        ("gguf_get_n_tensors", [pointer], number),
        ("gguf_get_tensor_name", [pointer, number], ctypes.c_char_p),
        ("ggml_get_tensor", [pointer, ctypes.c_char_p], pointer),
        ("ggml_nelements", [pointer], number),
        ("ggml_nbytes", [pointer], ctypes.c_size_t),
        ("ggml_n_dims", [pointer], ctypes.c_int),
        ("ggml_get_data_f32", [pointer], pointer),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


if __name__ == "__main__":
    main()
