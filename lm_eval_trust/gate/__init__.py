"""The gate for steering configurations: measure, compare with statistics, decide, report."""
