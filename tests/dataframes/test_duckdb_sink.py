"""The example of a sink: exactly once, whenever it is killed, in under sixty lines."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import duckdb
import pyarrow as pa
from duckdb_sink import DuckDBSink
from killing import kill_after

from itwin_async import ITwinSession
from itwin_async.emulator import Edit, Emulator
from itwin_async.sync import sync_extended_data

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "duckdb_sink.py"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
# The example with a line of output for each write, before and behind its commit.
CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import duckdb_sink

class Telling(duckdb_sink.DuckDBSink):
    async def write(self, rows, checkpoint):
        print("begins", flush=True)
        await super().write(rows, checkpoint)
        print("done", flush=True)

duckdb_sink.DuckDBSink = Telling
asyncio.run(duckdb_sink.main(*sys.argv[2:]))
"""


def stored(path: Path) -> list[tuple[str, int]]:
    with duckdb.connect(path, read_only=True) as file:
        return file.execute(
            "select imodel_id, changeset_index from changes order by all"
        ).fetchall()


async def held(itwin: ITwinSession) -> list[tuple[str, int]]:
    return sorted(
        [
            (imodel.id, entry.changeset_index)
            async for imodel in itwin.imodels.list_imodels(ITWIN)
            async for entry in itwin.imodels.list_extended_data(imodel.id)
        ]
    )


def test_it_has_under_sixty_lines():
    assert len(EXAMPLE.read_text().splitlines()) < 60


async def test_killed_again_and_again_it_has_each_entry_once(tmp_path):
    path = tmp_path / "changes.duckdb"
    async with (
        Emulator(itwins=3, imodels=30, changesets=40) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        kills = 0
        for lines in (1, 4, 7, 6, 11, 10_000):
            process = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(EXAMPLE.parent), ITWIN, str(path)],
                env={**os.environ, **emulator.environment},
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            kills += not await anyio.to_thread.run_sync(kill_after, process, lines)
            found = stored(path)
            assert len(found) == len(set(found))
        assert kills >= 4
        assert stored(path) == await held(itwin)


async def test_bad_payloads_are_kept_with_their_reason(emulator, itwin, tmp_path):
    numbers = pa.table({"n": [1]})  # noqa: F841 - DuckDB reads modules from disk the first time
    duckdb.sql("from numbers").fetchall()

    def edit(body):
        body["extendedData"][0]["data"] = "not base64!"
        return body

    emulator.faults.add("list_extended_data", Edit(edit))
    path = tmp_path / "changes.duckdb"
    synced = await sync_extended_data(itwin, DuckDBSink(str(path)), itwin_id=ITWIN)
    assert synced.bad == 1
    with duckdb.connect(path, read_only=True) as file:
        errors = file.execute("select error from changes where error is not null").fetchall()
    assert len(errors) == 1
    assert "base64" in errors[0][0]
    again = await sync_extended_data(itwin, DuckDBSink(str(path)), itwin_id=ITWIN)
    assert again.rows == 0
