"""Export the lists that are named to a file of JSON lines, and print what it took.

    python benchmarks/exporting.py '{"base": …, "lists": […], "top": 100}'

Runs with any Python that has the library's dependencies; see `pythons.py`.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from itwin_async import ITwinSession, StaticToken
from itwin_async.export import export_extended_data


async def main(base: str, lists: list[str], top: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        async with ITwinSession(StaticToken("t"), base_url=base) as itwin:
            cpu, wall = time.process_time(), time.perf_counter()
            exported = await export_extended_data(
                itwin, lists, Path(home, "all.jsonl"), page_size=top
            )
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall, "cpu": cpu, "memory": peak, "rows": exported.rows}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(**json.loads(sys.argv[1])))))
