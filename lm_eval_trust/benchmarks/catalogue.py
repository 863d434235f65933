"""The benchmarks' files: where each comes from and what it must contain.

Addresses are ``owner/repository/commit/path`` on GitHub. Where a mirror is named, the benchmark's
own repository holds the same file; the checksum decides, not the address. Commits are those that
the checksums were taken from, abbreviated where only the abbreviation is on record. A file
without an address comes from the local folder alone, or, for PKU-SafeRLHF, from the Hub
(:mod:`lm_eval_trust.benchmarks.hub`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lm_eval_trust.benchmarks.conversions import glue_header, stereoset_intersentence
from lm_eval_trust.benchmarks.mmlu_checksums import ADDRESS, CHECKSUMS
from lm_eval_trust.core.errors import unknown_name


@dataclass(frozen=True)
class DataFile:
    """One file.

    Attributes:
        path: Its place in the data folder, e.g. ``toxigen/toxiGen.json``.
        sha256: SHA-256 of its bytes (after ``convert``); ``None`` where users bring their own
            conversion, so that no bytes can be demanded.
        address: ``owner/repository/commit/path`` on GitHub, or ``None``.
        convert: Turns the downloaded bytes into the file's.
    """

    path: str
    sha256: str | None
    address: str | None = None
    convert: Callable[[bytes], bytes] | None = None

    @property
    def benchmark(self) -> str:
        """The folder that the file lies in."""
        return self.path.split("/")[0]


_TRACINGLLM = "ChnQ/TracingLLM/14d35b47a913fe3fe626bb2e6bd8381ad41881bf/src/datasets"
_CONFAIDE = "skywalker023/confAIde/3174c63/benchmark"
_EASYSTEER = "ZJU-REAL/EasySteer/312c6d8/experiment/hallucination"
_GLUE = "TaoCesc/binary_cls/6a73b09b39af0efe049622662211f3657c75a15e/data/SST-2"
_SAFENLP = "microsoft/SafeNLP/9c6d42530e4375656e8539e099f17f241dca95c6/data"
_STEREOSET = "enjoeyland/unlearning_bias/75670316d9a2e138b8a5d52e64c442160b701557/data"

_FILES = (
    DataFile(
        "truthfulqa/TruthfulQA.csv",
        "f9bd9e859cc102cb1f647f1064da7e009be752c416845cf9fa56e6eaae403a7d",
        f"{_EASYSTEER}/TruthfulQA.csv",
    ),
    DataFile(
        "truthfulqa/mc_task.json",
        "3b0da647dc7ee212916b1f1ea30efd01f9dd383eb3096774649a0be1b32ebf61",
        f"{_EASYSTEER}/mc_task.json",
    ),
    DataFile(
        "toxigen/toxiGen.json",
        "42863b997f545833b8c9bfe7fc950aeaccc274d49f7386384db147face745fc3",
        f"{_SAFENLP}/toxiGen.json",
    ),
    DataFile(
        "confaide/tier_2a.txt",
        "a869099fab404cde9dd50f23c20668063021afa8f080e190b348a5a4da14b979",
        f"{_CONFAIDE}/tier_2a.txt",
    ),
    DataFile(
        "confaide/tier_2b.txt",
        "8c194006c92816f56a9ee2f6ec3bf09f29bb1a543408ce154096c8c67f72df37",
        f"{_CONFAIDE}/tier_2b.txt",
    ),
    DataFile(
        "confaide/tier_2_labels.txt",
        "cd573da5a542a4d92f3a81ed5b09b66cc25a6ae0ea656aaaf754af43304bbb34",
        f"{_CONFAIDE}/tier_2_labels.txt",
    ),
    DataFile(
        "stereoset/intersentence.jsonl",
        "ce024fbc1a944f3b49f263f267c1d549edf6a3a73d98a7227749979ba039361f",
        f"{_STEREOSET}/stereoset.json",
        stereoset_intersentence,
    ),
    DataFile(
        "sst2/dev.tsv",
        "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
        f"{_GLUE}/dev.tsv",
        glue_header,
    ),
    DataFile("pku_saferlhf/pku_saferlhf_pairs.jsonl", None),
    DataFile(
        "tracingllm/confaide.csv",
        "e817ecacea5948576edcb021253ba33727fa3d69527d00b236c78eeca19b867c",
        f"{_TRACINGLLM}/confaide.csv",
    ),
    DataFile(
        "tracingllm/sst2.csv",
        "0606418a6a1bc6b80ec29acf3ead4e30211af98a7c1a803d3c8a2b4f5954fa6f",
        f"{_TRACINGLLM}/sst2.csv",
    ),
    DataFile(
        "tracingllm/stereoset.csv",
        "0a648d03836c988efb67f156c6eb7b3327b3aee2f73bb8db06b0570d6ee3aca5",
        f"{_TRACINGLLM}/stereoset.csv",
    ),
    DataFile(
        "tracingllm/toxigen.csv",
        "8f7ead8fbde13b4e56c1c1b4df8de89d56047768b81e746b6b565bb4b0108047",
        f"{_TRACINGLLM}/toxigen.csv",
    ),
    DataFile(
        "tracingllm/truthfulqa_test.csv",
        "67653de78eb58b21fc66e3981b0d6285b6ad2448a861061da3c269879e3967ca",
        f"{_TRACINGLLM}/truthfulqa_test.csv",
    ),
    DataFile(
        "tracingllm/truthfulqa_train.csv",
        "a35b128d62def4fe8a14a74f9c9dd38a0fa4f2039e6714892e88d04b47907e92",
        f"{_TRACINGLLM}/truthfulqa_train.csv",
    ),
    DataFile("arc/arc_challenge_test.jsonl", None),
    DataFile(
        "lambada/lambada_test.jsonl",
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
        "cybertronai/bflm/620fff7/lambada_test.jsonl",
    ),
    DataFile(
        "mathqa/test.json",
        "dfe7bc4691caf26842ccd4cf14e8f978327bab4f2989e0b076a4e6b38a9371d1",
        "shaigue/mathqa/175079e/data/MathQA/test.json",
    ),
    DataFile("race/race_high_test.jsonl", None),
)

_MMLU = tuple(
    DataFile(f"mmlu/{part}/{name}", sha256, f"{ADDRESS}/{part}/{name}")
    for subject, checksums in CHECKSUMS.items()
    for part, sha256 in zip(("dev", "test"), checksums, strict=True)
    for name in (f"{subject}_{part}.csv",)
)

CATALOGUE: dict[str, DataFile] = {file.path: file for file in (*_FILES, *_MMLU)}


def find_file(path: str) -> DataFile:
    """Return the entry of ``path``.

    Raises:
        InputError: No such file is known.
    """
    if path not in CATALOGUE:
        raise unknown_name("data file", path, CATALOGUE)
    return CATALOGUE[path]
