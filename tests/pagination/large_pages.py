"""Large pages, whole and cut."""

import asyncio
from collections.abc import Awaitable, Callable

from raw_pages import (
    Call,
    borders,
    entries,
    page,
)

LARGE = 60_000  # bytes of a payload; 80,000 in base64, so that four of them are more than small


def paced(first: int, then: asyncio.Event, text: bytes) -> Callable[[Call], Awaitable[None]]:
    """Sends ``first`` bytes, waits, and sends the rest."""

    async def answer(call: Call) -> None:
        await call.head(len(text))
        await call.send(text[:first])
        await then.wait()
        await call.send(text[first:])

    return answer


# A page cut short

SIX = page(entries(0, 6, LARGE))


ENDS = borders(SIX)
