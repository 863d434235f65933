"""Steering inside vLLM: each request of a batch under a plan of its own."""
