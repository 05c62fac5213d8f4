"""Chance that spreads a crowd, whatever a program does with the process's own generator."""

import random
from typing import Final

# `random.seed(0)` in each worker would let all of them wait alike; and a program that seeds its own
# chance gets the same numbers with and without this library. Nor does a fork copy its state.
_source: Final = random.SystemRandom()


def jitter(least: float, most: float) -> float:
    """A number between the two."""
    return _source.uniform(least, most)
