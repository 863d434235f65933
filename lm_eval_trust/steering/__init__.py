"""Steering vectors: how they are built, stored and applied."""
