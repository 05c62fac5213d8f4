"""What `Pager.ahead` costs of the rate limit: requests past the end of a list, counted.

    python benchmarks/read_ahead.py

prints the table in docs/streaming.md. The emulator counts the requests; each response takes 20 ms.
"""

import asyncio
import time

from itwin_async import ITwinSession, Limiter, StaticToken
from itwin_async.emulator import Emulator

LATENCY = 0.02  # seconds
PAGE_SIZE = 10
PAGES = (1, 2, 3, 5, 10, 20, 50, 100)
WINDOWS = (0, 1, 4, 8, 16)
LIST = "list_extended_data"


async def read(pages: int, window: int, lists: int = 1) -> tuple[int, float]:
    """Requests besides those for the pages, and the seconds that all lists took together."""
    async with (
        Emulator(imodels=1, changesets=pages * PAGE_SIZE, latency=LATENCY) as emulator,
        ITwinSession(
            StaticToken(emulator.issue_token()),
            base_url=emulator.url,
            limiter=Limiter(500),
        ) as itwin,
    ):
        owner = await anext(aiter(itwin.itwins.list_itwins(sub_class="Project")))
        imodel = await anext(aiter(itwin.imodels.list_imodels(owner.id)))
        pager = itwin.imodels.list_extended_data(imodel.id, page_size=PAGE_SIZE).ahead(window)
        start = time.perf_counter()
        await asyncio.gather(*(consume(pager, pages * PAGE_SIZE) for _ in range(lists)))
        seconds = time.perf_counter() - start
        return emulator.count(LIST) - pages * lists, seconds


async def consume(pager, expected: int) -> None:
    """Read a list to its end."""
    assert len([entry async for entry in pager]) == expected


async def main() -> None:
    """Print the table."""
    print("| pages |", " | ".join(f"`ahead({window})`" for window in WINDOWS), "|")
    print("| ---: |", " | ".join("---:" for _ in WINDOWS), "|")
    for pages in PAGES:
        cells = []
        for window in WINDOWS:
            wasted, seconds = await read(pages, window)
            cells.append(f"{wasted} ({seconds * 1_000:.0f} ms)")
        print(f"| {pages} |", " | ".join(cells), "|", flush=True)
    wasted, seconds = await read(5, 8, lists=200)
    print(f"\n200 lists of 5 pages at once, ahead(8): {wasted} ({seconds:.2f} s)")


if __name__ == "__main__":
    asyncio.run(main())
