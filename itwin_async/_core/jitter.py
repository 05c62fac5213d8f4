"""Jitter, so that clients do not retry in lockstep."""

import random
from typing import Final

# Not the generator of the process: `random.seed(0)` in each worker, or a fork, would make all of
# them wait equally long, and a program that seeds it would get other numbers with this library.
_source: Final = random.SystemRandom()


def jitter(least: float, most: float) -> float:
    """A random number between the two."""
    return _source.uniform(least, most)
