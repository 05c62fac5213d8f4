"""Memory and speed of an export of a million entries.

    python benchmarks/export.py [--imodels 40] [--changesets 25000] [--format parquet]

The emulator is a process of its own. Loopback only; one to two minutes. Prints rows a second, and
the resident memory at each tenth of the job: the exit code is 1 if the last of them lies more than
a quarter above that of the second, or a row is missing. Seconds of processor time are this
process's alone.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from itwin_async import ITwinSession
from itwin_async.export import ExportProgress, export_extended_data

FORMATS = ("jsonl", "parquet", "arrow")
GROWTH = 1.25


def resident() -> float:
    """MiB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def imodels(itwin: ITwinSession) -> AsyncIterator[str]:
    async for item in itwin.itwins.list_itwins():
        async for imodel in itwin.imodels.list_imodels(item.id):
            yield imodel.id


async def measure(kind: str, total: int) -> int:
    marks: list[float] = []

    def note_memory(progress: ExportProgress) -> None:
        while progress.rows >= (len(marks) + 1) * total / 10:
            marks.append(resident())

    with tempfile.TemporaryDirectory() as home:
        output = Path(home) / f"all.{kind}"
        async with ITwinSession.from_env() as itwin:
            since, cpu = time.perf_counter(), time.process_time()
            exported = await export_extended_data(
                itwin, imodels(itwin), output, on_progress=note_memory
            )
            seconds, cpu = time.perf_counter() - since, time.process_time() - cpu
            pages = itwin.stats.requests
        size = output.stat().st_size
    print(
        f"{kind:8} {exported.rows:,} rows of {pages:,} requests in {seconds:.1f} s: "
        f"{exported.rows / seconds:,.0f} rows a second, {cpu:.1f} s of processor, "
        f"{size / 1e6:,.0f} MB"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shown = " ".join(f"{mark:.0f}" for mark in marks)
    print(f"{'':8} resident MiB at each tenth: {shown}; peak so far {peak:.0f}")
    return int(exported.rows != total or marks[-1] > GROWTH * marks[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--imodels", type=int, default=40)
    parser.add_argument("--changesets", type=int, default=25_000)
    parser.add_argument("--format", choices=FORMATS, action="append")
    options = parser.parse_args()
    command = [
        sys.executable, "-m", "itwin_async.emulator",
        f"--imodels={options.imodels}", f"--changesets={options.changesets}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            for _ in range(4):
                name, _, value = emulator.stdout.readline().strip().partition("=")
                os.environ[name] = value
            total = options.imodels * options.changesets
            wrong = [asyncio.run(measure(kind, total)) for kind in options.format or FORMATS]
        finally:
            emulator.terminate()
    return max(wrong)


if __name__ == "__main__":
    sys.exit(main())
