"""Entries per second against workers, for payloads that cost more to decode than to fetch.

    python benchmarks/cluster.py [--rounds 3] [--workers 1 2 4] [--write]

The same iModels are ingested by clusters of 1, 2 and 4 worker processes, and by one process without
a cluster; each round starts with another of them, and ratios are taken within a round. Payloads
are nested JSON of some 20 KB that becomes a struct. The emulator is a process of its own that takes
its part of the cores: its CPU time is measured too, and each configuration's in all. Loopback only.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from distributed import Client, LocalCluster
from elements import Model
from pyarrow import parquet

from itwin_async import ClientCredentials, ITwinSession, Limiter
from itwin_async.distributed import ingest_extended_data
from itwin_async.emulator import Edit, Emulator
from itwin_async.export import export_extended_data

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- distributed: begin -->", "<!-- distributed: end -->"
IMODELS, ENTRIES, ELEMENTS = 16, 250, 44


def payload() -> str:
    """Nested JSON of some 20 KB, in base64 as the platform sends it."""

    point = {"x": 1.25, "y": -3.5, "z": 1e-3}
    element = {
        "id": "0x20000000001",
        "category": "Structural.Column",
        "origin": point,
        "outline": [point] * 8,
        "properties": {"mass": 12.5, "grade": "S355", "note": None},
    }
    text = json.dumps({"elements": [element] * ELEMENTS}).encode()
    return base64.b64encode(text).decode()


async def serve() -> None:
    """Run the emulator with these payloads instead of its own."""
    data = payload()

    def edit(body: Any) -> Any:
        for entry in body["extendedData"]:
            entry["data"] = data
        return body

    emulator = Emulator(imodels=IMODELS, changesets=ENTRIES, record=False, itwins=3)
    emulator.faults.add("list_extended_data", Edit(edit), times=None)
    async with emulator:
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
            ids = [
                imodel.id
                async for item in itwin.itwins.list_itwins()
                async for imodel in itwin.imodels.list_imodels(item.id)
            ]
        print(json.dumps({"env": emulator.environment, "ids": ids}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(time.process_time(), flush=True)


def spent(server: Any) -> float:
    """Seconds of CPU that the emulator has used."""
    server.stdin.write("\n")
    server.stdin.flush()
    return float(server.stdout.readline())


def count_of(paths: list[str]) -> int:
    """The number of elements in all rows, which proves that they were decoded."""
    tables = [parquet.read_table(path, columns=["data"]) for path in paths]
    return sum(
        pc.sum(pc.list_value_length(pc.struct_field(t["data"], "elements"))).as_py() for t in tables
    )


def with_cluster(
    workers: int, server: Any, env: dict[str, str], ids: list[str]
) -> dict[str, float]:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", env=env
        ) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as home,
    ):

        def run(imodel_ids: list[str], name: str) -> Any:
            return ingest_extended_data(
                client,
                ClientCredentials.from_env,
                imodel_ids,
                Path(home, name),
                Model,
                per_minute=100_000,
                concurrency=4 * workers,
                batch_entries=ENTRIES,
                show_progress=False,
            )

        run(ids[:workers], "warm")
        cpu, served = sum(client.run(time.process_time).values()), spent(server)
        began = time.perf_counter()
        found = run(ids, "out")
        wall = time.perf_counter() - began
        assert (found.rows, found.failures) == (IMODELS * ENTRIES, {})
        assert count_of(found.paths) == IMODELS * ENTRIES * ELEMENTS
        cpu = sum(client.run(time.process_time).values()) - cpu
        return {"wall": wall, "cpu": cpu, "server": spent(server) - served}


async def alone(server: Any, env: dict[str, str], ids: list[str]) -> dict[str, float]:
    os.environ.update(env)
    async with ITwinSession.from_env(limiter=Limiter(4)) as itwin:
        with tempfile.TemporaryDirectory() as home:
            await export_extended_data(itwin, ids[:1], Path(home, "warm.parquet"), Model)
            me, served, began = time.process_time(), spent(server), time.perf_counter()
            found = await export_extended_data(itwin, ids, Path(home, "out.parquet"), Model)
            wall = time.perf_counter() - began
            cpu = time.process_time() - me
            assert count_of([str(found.output)]) == IMODELS * ENTRIES * ELEMENTS
    assert found.rows == IMODELS * ENTRIES
    return {"wall": wall, "cpu": cpu, "server": spent(server) - served}


def report(rounds: list[dict[str, dict[str, float]]], load: float) -> str:
    entries = IMODELS * ENTRIES
    lines = [
        f"- Command: `python benchmarks/cluster.py --rounds {len(rounds)} --write`",
        f"- Date: {datetime.now(UTC).date()}; cores {os.cpu_count()}; load before: {load:.1f}",
        f"- {entries:,} entries of {len(payload()) * 3 // 4:,} bytes of JSON, in {IMODELS} iModels",
        "",
        "| run as | entries/s | against one worker | CPU, workers | CPU, emulator | cores in use |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in rounds[0]:
        runs = [measured[name] for measured in rounds]
        ratios = sorted(
            measured["1 worker"]["wall"] / measured[name]["wall"] for measured in rounds
        )
        wall, cpu, server = (
            statistics.median(run[field] for run in runs) for field in ("wall", "cpu", "server")
        )
        used = statistics.median((run["cpu"] + run["server"]) / run["wall"] for run in runs)
        lines.append(
            f"| {name} | {entries / wall:,.0f} | **{statistics.median(ratios):.2f}** "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {cpu:.1f} s | {server:.1f} s | {used:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--write", action="store_true", help="put the table in README.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    load = os.getloadavg()[0]
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        facts = json.loads(server.stdout.readline())
        names = {f"{count} worker{'s' if count > 1 else ''}": count for count in options.workers}
        configurations = ["one process, no cluster", *names]
        rounds = []
        for number in range(options.rounds):
            turn = number % len(configurations)
            found = {}
            for name in configurations[turn:] + configurations[:turn]:
                platform = server, facts["env"], facts["ids"]
                found[name] = (
                    with_cluster(names[name], *platform)
                    if name in names
                    else asyncio.run(alone(*platform))
                )
                print(
                    number + 1, name, {k: round(v, 2) for k, v in found[name].items()}, flush=True
                )
            rounds.append({name: found[name] for name in configurations})
        server.stdin.close()
    text = report(rounds, load)
    print(text)
    if options.write:
        before, _, rest = README.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
