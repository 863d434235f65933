#!/usr/bin/env bash
# What a GPU does to the suite: exactness in bfloat16 and float16, speeds at the size of a 7B model.
#
#     scripts/gpu/check.sh [--dry] [--out FOLDER]
#
# needs the package installed in the environment of `python`; `--dry` runs all of it in tiny shapes
# on a CPU. Results are FOLDER/check.json and a table on standard output.
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-python}" check.py "$@"
