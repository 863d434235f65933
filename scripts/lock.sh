#!/usr/bin/env bash
# Write requirements.lock: the releases of constraints.txt that `make` installs, with their hashes.
# torch, and the CUDA packages that its Linux builds bring, are left out: their files differ between
# PyPI and the indexes of CPU and CUDA builds. constraints.txt pins torch's release.
set -euo pipefail
cd "$(dirname "$0")/.."
left_out=(torch triton)
while read -r name; do left_out+=("$name"); done < <(
  uv pip compile --universal --python-version 3.11.5 --quiet --no-header --no-annotate \
    --constraint constraints.txt --extra dev pyproject.toml |
    grep -oE '^(nvidia|cuda)-[a-z0-9-]+' || true
)
uv pip compile --universal --python-version 3.11.5 --quiet --no-header --no-annotate \
  --generate-hashes --constraint constraints.txt --extra dev "${left_out[@]/#/--no-emit-package=}" \
  pyproject.toml --output-file requirements.lock
