"""Models evaluated on tasks by the harness; each outcome is kept and found again."""
