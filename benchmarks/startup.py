"""What the start-up hook costs a Python process that does not use lm_eval.

Starts `python -c pass` in turn with the hook's .pth file in place and without it, so that both see
the same load of the machine, and prints the median difference. (An editable install has setuptools'
own start-up file on top, which is not counted here.)

    python benchmarks/startup.py [--rounds 200]
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import lm_eval_trust

INSTALLED = Path(sysconfig.get_path("purelib"), "lm_eval_trust.pth")


def environment(folder: Path, start_up: str) -> Path:
    """Make an environment that can import the package, with this line at start-up."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    package = site_packages / "lm_eval_trust"
    shutil.copytree(Path(lm_eval_trust.__file__).parent, package)
    compileall.compile_dir(package, quiet=1)  # as pip does when it installs a wheel
    if start_up:
        (site_packages / "lm_eval_trust.pth").write_text(start_up)
    return folder / "bin" / "python"


def start(python: Path) -> float:
    """Return the milliseconds that `python -c pass` takes."""
    begin = time.perf_counter()
    subprocess.run([str(python), "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - begin)


def own_import_time(python: Path) -> float:
    """Return the milliseconds that `-X importtime` counts for our modules."""
    command = [str(python), "-X", "importtime", "-c", "pass"]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    lines = [line.split("|") for line in report.splitlines() if "lm_eval_trust" in line]
    return sum(float(line[0].rpartition(":")[2]) for line in lines) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        bare = environment(Path(name, "bare"), "")
        hooked = environment(Path(name, "hooked"), INSTALLED.read_text())
        pairs = [(start(bare), start(hooked)) for _ in range(rounds)]
        imports = statistics.median(own_import_time(hooked) for _ in range(20))
    without, with_hook = (statistics.median(column) for column in zip(*pairs, strict=True))
    difference = statistics.median(hooked_ms - bare_ms for bare_ms, hooked_ms in pairs)
    print(f"python -c pass, median of {rounds}: {without:.2f} ms without, {with_hook:.2f} ms with")
    print(f"median difference {difference:+.2f} ms; importtime of our modules {imports:.2f} ms")


if __name__ == "__main__":
    main()
