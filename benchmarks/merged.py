"""What `merged` costs for an item, by the number of workers, beside `asyncio.Queue`.

    python benchmarks/merged.py

The lists never wait, so all workers but one are blocked by a full buffer all the time; the consumer
gives the loop a turn after each item. Microseconds of CPU for an item, the smallest of five runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from itwin_async import merged

ITEMS = 20_000
WORKERS = (8, 32, 64, 200)


class Numbers:
    """A list that never waits."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self._count):
            yield number


async def with_merged(workers: int) -> None:
    """Take all items from a merged stream."""
    lists = [Numbers(ITEMS // workers) for _ in range(workers)]
    async with merged(lists, workers=workers) as items:
        async for _ in items:
            await asyncio.sleep(0)


async def with_queue() -> None:
    """Take all items from a queue that one task fills."""
    queue: asyncio.Queue[int] = asyncio.Queue(32)

    async def fill() -> None:
        for number in range(ITEMS):
            await queue.put(number)

    filling = asyncio.create_task(fill())
    for _ in range(ITEMS):
        await queue.get()
        await asyncio.sleep(0)
    await filling


def microseconds(run: Callable[[], Awaitable[None]]) -> float:
    """CPU for an item, the smallest of five runs."""

    async def timed() -> float:
        start = time.process_time()
        await run()
        return time.process_time() - start

    return min(asyncio.run(timed()) for _ in range(5)) / ITEMS * 1e6


def main() -> None:
    """Print the figures."""
    for workers in WORKERS:
        print(f"merged, {workers} workers: {microseconds(lambda n=workers: with_merged(n)):.1f} µs")
    print(f"asyncio.Queue: {microseconds(with_queue):.1f} µs")


if __name__ == "__main__":
    main()
