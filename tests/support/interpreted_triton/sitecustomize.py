"""Lets vLLM's second model runner, whose kernels are Triton's, run on a CPU.

Triton's interpreter (``TRITON_INTERPRET=1``) executes kernels on CPU tensors. vLLM asks first
whether a backend for CPUs is there, so this names one that nothing is compiled with.
"""

from __future__ import annotations

from typing import Any

from triton.backends import backends


class _Active:
    @staticmethod
    def is_active() -> bool:
        return True


_Backend: Any = type(next(iter(backends.values())))
backends["cpu"] = _Backend(compiler=None, driver=_Active)
