#!/usr/bin/env bash
# Steering inside vLLM on a GPU: answers, and throughput steered, unsteered and of transformers.
#
#     scripts/gpu/engine.sh [--dry] [FOLDER]
#
# Needs the extra `vllm`; nothing is downloaded. A Llama of 7B's shape with random weights in
# bfloat16 (13 GB in FOLDER, by default a temporary one) is compared with our hooks on transformers,
# in eager and compiled engines with CUDA graphs, by both of vLLM's model runners. --dry does the
# same with a tiny model in float32 on a CPU, by the one runner that CPUs have.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-python}"

dry=false
if [ "${1:-}" = --dry ]; then dry=true; shift; fi
folder="${1:-}"
if [ -z "$folder" ]; then
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
fi

if "$dry"; then
  export VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_CPU_KVCACHE_SPACE=1
  shape=tiny dtype=float32 device=cpu runners="0"
  load=(--requests 16 --tokens 8 --rounds 2 --prompts 4)
else
  command -v nvidia-smi >/dev/null || { echo "No GPU here; --dry runs on a CPU." >&2; exit 2; }
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  shape=7b dtype=bfloat16 device=cuda runners="0 1"
  load=(--requests 512 --tokens 128 --rounds 5 --prompts 32)
fi

check() { "$PYTHON" scripts/gpu/engine_check.py "$@" --model "$folder/model" --dtype "$dtype" --device "$device"; }
check make --shape "$shape"
check beside --answers "$folder/beside.json"
failed=0
for runner in $runners; do
  for mode in eager compiled; do
    echo "== runner V$((runner + 1)), $mode"
    VLLM_USE_V2_MODEL_RUNNER="$runner" check inside --mode "$mode" --answers "$folder/beside.json" || failed=1
  done
done

echo "== throughput"
"$PYTHON" -u benchmarks/engine.py --model "$folder/model" --dtype "$dtype" --device "$device" \
  --compiled --transformers "${load[@]}"
exit "$failed"
