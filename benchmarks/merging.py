"""What an item of `merged` costs by the number of workers, beside an `asyncio.Queue`.

    python benchmarks/merging.py merged 200

prints one line of JSON for one run: so many workers read lists that need no network, and the
consumer gives way to other tasks after each item.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

WORKERS = (8, 32, 64, 200)
LISTS = 200
ITEMS = 50  # of each list
MOST_MICROSECONDS = 10.0


async def one_list(number: int) -> AsyncIterator[int]:
    for index in range(ITEMS):
        yield number * ITEMS + index


async def with_merged(workers: int) -> int:
    from itwin_async import merged  # noqa: PLC0415 - the peer does without it

    total = 0
    async with merged(map(one_list, range(LISTS)), workers=workers) as items:
        async for item in items:
            total += item
            await asyncio.sleep(0)
    return total


async def with_queue(workers: int) -> int:
    queue: asyncio.Queue[int] = asyncio.Queue(32)  # as many as `merged` holds by default
    lists = map(one_list, range(LISTS))

    async def work() -> None:
        for items in lists:
            async for item in items:
                await queue.put(item)

    total = 0
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
        for _ in range(LISTS * ITEMS):
            total += await queue.get()
            await asyncio.sleep(0)
    return total


CLIENTS = {"merged": with_merged, "queue": with_queue}


def main(client: str, workers: int) -> None:
    asyncio.run(CLIENTS[client](1))  # imports, and first calls
    cpu, wall = time.process_time(), time.perf_counter()
    total = asyncio.run(CLIENTS[client](workers))
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**taken, "total": total}))


def measure(_server: object, core: int | None, *, full: bool) -> dict[str, Any]:
    """Run both with each number of workers; microseconds an item, by client and workers."""
    from harness import HERE, TIMEOUT, Failed, environment, pin  # noqa: PLC0415 - not for clients

    count = LISTS * ITEMS
    taken: dict[str, dict[str, list[dict[str, float]]]] = {client: {} for client in CLIENTS}
    for _ in range(7 if full else 3):
        for workers in WORKERS:
            for client in CLIENTS:
                done = subprocess.run(
                    [sys.executable, HERE / "merging.py", client, str(workers)],
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT,
                    check=True,
                    env=environment(),
                    preexec_fn=pin(core),
                )
                outcome = json.loads(done.stdout)
                if outcome.pop("total") != count * (count - 1) // 2:
                    raise Failed(f"{client} lost items")
                taken[client].setdefault(str(workers), []).append(outcome)
    return {
        client: {
            workers: {
                "wall": statistics.median(o["wall"] for o in outcomes) / count * 1e6,
                "cpu": min(o["cpu"] for o in outcomes) / count * 1e6,
            }
            for workers, outcomes in by_workers.items()
        }
        for client, by_workers in taken.items()
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Give the lines of the table: scenario, ours, beside, target."""
    lines = []
    for workers in WORKERS:
        ours, peer = result["merged"][str(workers)], result["queue"][str(workers)]
        reached = "✓" if ours["cpu"] <= MOST_MICROSECONDS else "✗"
        lines.append(
            [
                f"`merged`, {workers} workers, a consumer that awaits",
                f"{ours['wall']:.1f} µs an item (CPU {ours['cpu']:.1f})",
                f"asyncio.Queue: {peer['wall']:.1f} µs (CPU {peer['cpu']:.1f})",
                f"≤ {MOST_MICROSECONDS:g} µs of CPU {reached}",
            ]
        )
    return lines


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
