"""Harness tasks, one folder a benchmark."""
