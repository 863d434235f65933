"""Benchmarks as data: official files to labelled statements and task rows."""
