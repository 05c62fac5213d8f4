"""Decoding of large JSON without runs of the garbage collector in the middle.

See docs/adr/0006-pausing-the-collector.md for the reason and the figures.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
LARGE: Final = 8 * 1024  # bytes; smaller JSON makes too few objects for a collection
_COLLECTS_DURING_DECODE: Final = sys.version_info < (3, 12)


def decode_uncollected(decode: Callable[[Any], T], data: bytes | bytearray) -> T:
    """Call ``decode(data)``; for large data on Python 3.11, with the collector paused meanwhile.

    ``decode`` must be a decoder of msgspec: one C call, in which no other Python code runs.
    """
    if not _COLLECTS_DURING_DECODE or len(data) < LARGE or not gc.isenabled():
        return decode(data)
    gc.disable()
    try:
        return decode(data)
    finally:
        gc.enable()
