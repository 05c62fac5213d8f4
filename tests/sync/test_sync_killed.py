"""A sync that is killed outright, again and again, stores each entry once."""

import asyncio
import contextlib
import json
import random
import sqlite3
import sys
from pathlib import Path

import pytest
from feeds import DATA, IMODELS, imodels_of, platform, project, sent, there

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator

ROOT = Path(__file__).parent.parent.parent
CHILD = """
import asyncio, sys
from pathlib import Path

from itwin_async import ITwinSession
from itwin_async.sync import ParquetDataset, _sync, sync_extended_data

sys.path.insert(0, sys.argv[3])
from sinks import SQLiteSink

_sync._WRITE_ROWS = 40

async def main():
    target = sys.argv[2]
    sink = SQLiteSink(Path(target)) if target.endswith(".db") else ParquetDataset(target)
    async with ITwinSession.from_env() as itwin:
        synced = await sync_extended_data(itwin, sink, itwin_id=sys.argv[1])
        print(synced.rows, synced.requests)

asyncio.run(main())
"""


async def sync(emulator: Emulator, scope: str, target: Path, *, kill_after: int | None) -> str:
    """Run a sync in a process; kill it after so many requests for data."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, scope, str(target), str(Path(__file__).parent)),
        env={**emulator.environment, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    before = emulator.count(DATA)
    if kill_after is not None:
        while emulator.count(DATA) < before + kill_after and process.returncode is None:
            await asyncio.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    out, err = await process.communicate()
    assert kill_after is not None or (process.returncode, err) == (0, b""), err.decode()
    return out.decode()


def stored(target: Path) -> list[tuple[str, int, object]]:
    """What a plain reader finds."""
    if target.suffix == ".db":
        if not target.exists():
            return []
        with contextlib.closing(sqlite3.connect(target)) as database:
            rows = database.execute("select imodel, idx, data from entries").fetchall()
        return sorted((imodel, index, json.loads(data)) for imodel, index, data in rows)
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [row for part in target.glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return sorted(
        (row["imodel_id"], row["changeset_index"], json.loads(row["data"])) for row in rows
    )


async def held(itwin: ITwinSession, imodels: list[str]) -> list[tuple[str, int, object]]:
    """What the platform has."""
    return sorted(
        [
            (imodel, entry.changeset_index, entry.data)
            for imodel in imodels
            async for entry in itwin.imodels.list_extended_data(imodel, page_size=1_000)
        ]
    )


async def killed(emulator: Emulator, itwin: ITwinSession, target: Path, kills: int) -> None:
    """Kill syncs at random, then let one end, and compare all that is stored."""
    scope = await project(itwin)
    imodels = await imodels_of(itwin, scope)
    chance = random.Random(16)
    for _ in range(kills):
        await sync(
            emulator, scope, target, kill_after=chance.randrange(1, 2 * len(imodels) // kills)
        )
        keys = [row[:2] for row in stored(target)]
        assert len(set(keys)) == len(keys)
    await sync(emulator, scope, target, kill_after=None)
    assert stored(target) == await held(itwin, imodels)
    sent(emulator)
    await sync(emulator, scope, target, kill_after=None)
    assert sent(emulator) == {IMODELS: 1}
    new = sorted((imodel, emulator.push_changeset(imodel, {"n": 1})) for imodel in imodels[:10])
    silent = emulator.push_changeset(imodels[10])
    out = await sync(emulator, scope, target, kill_after=None)
    assert int(out.split()[0]) == len(new)
    assert sent(emulator) == {IMODELS: 1, DATA: 11}
    emulator.advance(1_000)
    await sync(emulator, scope, target, kill_after=None)
    for _ in range(19):
        emulator.push_changeset(imodels[10])
    emulator.store_extended_data(imodels[10], silent, {"late": 1})
    sent(emulator)
    out = await sync(emulator, scope, target, kill_after=None)
    assert int(out.split()[0]) == 1
    assert sent(emulator) == {IMODELS: 1, DATA: 1}
    assert [row[:2] for row in stored(target)] == there(emulator, imodels)


@pytest.mark.slow(reason="a process for each kill")
@pytest.mark.parametrize("name", ["entries.db", "changes"])
async def test_killed_syncs_store_each_entry_once(name, tmp_path):
    async with platform(imodels=40, changesets=60) as (emulator, itwin):
        await killed(emulator, itwin, tmp_path / name, 6)


@pytest.mark.slow(reason="a hundred thousand entries, and twenty kills")
async def test_a_large_first_sync_killed_twenty_times_stores_each_entry_once(tmp_path):
    async with platform(imodels=1_000, changesets=100) as (emulator, itwin):
        await killed(emulator, itwin, tmp_path / "changes", 20)


@pytest.mark.slow(reason="five minutes of emulated life")
async def test_the_soak_ends_well():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "benchmarks" / "soak_sync.py"), "--minutes", "5"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert b": good" in out
