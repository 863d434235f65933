"""Harness models: Amber and steered Amber."""
