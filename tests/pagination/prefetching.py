"""Lists of which pages are asked for ahead."""

import asyncio

from raw_pages import (
    Call,
    PageServer,
    listing,
)

LIST = "list_extended_data"


class Held:
    """A list in pages of five, whose later pages are answered when they may be."""

    def __init__(self, total: int = 200, size: int = 0, first: int = 5) -> None:
        self._answer = listing(total, 5, size)
        self._first = first  # `$skip` of the first page that has to wait
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if call.skip >= self._first:
            await call.until(self.open)
        await self._answer(call)


def past(server: PageServer, total: int) -> int:
    """Requests for pages behind the end."""
    return sum(call.skip >= total for call in server.calls)
