"""Steering inside vLLM: each request of a batch under a plan of its own."""

TRANSFORMERS, VLLM = "transformers", "vllm"
#: What models run on; the first is the default.
ENGINES = (TRANSFORMERS, VLLM)
