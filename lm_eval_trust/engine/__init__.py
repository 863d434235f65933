"""Steering inside vLLM: each request of a batch under its own plan."""

TRANSFORMERS, VLLM = "transformers", "vllm"
#: What models run on; the first is the default.
ENGINES = (TRANSFORMERS, VLLM)
