"""The clients that are compared, each run in a process of its own.

    python benchmarks/clients.py raw '{"base": …, "lists": […], …}'

prints one line of JSON: what the work took, and its counts. Every client gets the same lists,
the same bound of requests in flight and the same headers, decodes every payload, and counts what
is in it. A client's own packages are imported when it is chosen, so that no client's memory
holds another's code. The client in TypeScript is `ts_client.mjs`; it takes and prints the same.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import CLIENTS
from work import Client, Get, Spec, Tally, Work

STATUS = Path("/proc/self/status")


async def heartbeat(stalls: list[float]) -> None:
    """Note how much later than asked each sleep of a millisecond ended: the loop's stalls."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        stalls.append(time.perf_counter() - before - 0.001)


async def walk(work: Work, lists: Iterable[str], tally: Tally) -> None:
    """Walk all lists at once."""
    await asyncio.gather(*(work(imodel_id, tally) for imodel_id in lists))


async def single(get: Get, imodel_id: str, indexes: range, at_once: int, tally: Tally) -> None:
    """Get single entries, so many at once: workers that share one supply."""
    supply = iter(indexes)

    async def worker() -> None:
        for index in supply:
            await get(imodel_id, index, tally)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def measure(client: Client, spec: Spec) -> dict[str, Any]:
    """Warm up, do the work, and measure what it took."""
    before = memory("VmRSS")
    tally = Tally()
    stalls: list[float] = []
    async with client(spec) as (work, get):
        # A program creates connections, decoders and caches once: they are not measured.
        if spec.requests:
            await single(get, spec.lists[0], range(1, spec.bound + 1), spec.bound, Tally())
        else:
            await walk(work, spec.warm_up, Tally())
        gc.collect()
        heart = asyncio.create_task(heartbeat(stalls)) if spec.stall else None
        await asyncio.sleep(0.005)  # in which the heart begins to beat
        stalls.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        if spec.requests:
            await single(get, spec.lists[0], range(1, spec.requests + 1), spec.bound, tally)
        else:
            await walk(work, spec.lists, tally)
        done, cpu_done = time.perf_counter(), time.process_time()
        if heart is not None:
            await asyncio.sleep(0.005)  # the last stall is seen when the heart beats again
            heart.cancel()
        peak = memory("VmHWM")
    return {
        "wall": done - wall,
        "cpu": cpu_done - cpu,
        "first": tally.first - wall,
        "memory": peak - before,
        "stall": max(stalls, default=0.0),
        "entries": tally.entries,
        "items": tally.items,
        "indexes": tally.indexes,
    }


def memory(name: str) -> int:
    """Resident memory in bytes, now (`VmRSS`) or at its highest (`VmHWM`).

    `ru_maxrss` alone would do, but on Linux it starts at what the parent process had.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the highest memory start from now, where the system can: imports are not the work."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main(name: str, argument: str) -> None:
    """Run one client, or with `versions` print the versions of what it needs."""
    client, packages = CLIENTS[name]
    for package in packages:
        import_module(package)
    if argument == "versions":
        names = (package.replace("_", "-") for package in packages)
        print(json.dumps({package: version(package) for package in names}))
        return
    forget_peak()
    outcome = asyncio.run(measure(client, Spec(**json.loads(argument))))
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    os._exit(0)  # what is left to free is nobody's time
