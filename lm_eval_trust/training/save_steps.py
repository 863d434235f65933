"""When to save: often early, where most changes, and evenly later."""

from __future__ import annotations


def granular_steps(steps: int, *, early_until: int, every: int) -> tuple[int, ...]:
    """Return steps to save at: 0, 1, 2, 4, 8, … up to ``early_until``, then evenly, then the last.

    Args:
        steps: Steps of the run.
        early_until: Where doubling ends.
        every: Distance of the even ones.
    """
    early = [0, *(2**power for power in range(early_until.bit_length()))]
    even = range(every, steps, every)
    chosen = {s for s in early if s <= early_until} | {s for s in even if s > early_until}
    return tuple(sorted({s for s in chosen if s <= steps} | {steps}))
