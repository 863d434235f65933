"""Harness tasks, one folder per benchmark."""
