"""Families of checkpoints, and how they come to this disk and go from it."""
