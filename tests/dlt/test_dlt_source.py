"""The dlt source: the second run loads only what is new, and a run that fails loses nothing."""

import asyncio
import os
import sys
from pathlib import Path

import duckdb

from itwin_async import ITwinSession
from itwin_async.emulator import Edit, Emulator, Status

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "dlt_source.py"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


async def run(emulator: Emulator, home: Path) -> tuple[int | None, str]:
    """Run the example as its reader does: whether it ended well, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), ITWIN,
        cwd=home,
        env={
            **os.environ, **emulator.environment,
            "DLT_DATA_DIR": str(home / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def stored(home: Path) -> list[tuple[str, int, str | None]]:
    with duckdb.connect(home / "itwin_changes.duckdb", read_only=True) as file:
        return file.execute(
            "select imodel_id, changeset_index, error from itwin_changes.itwin.extended_data "
            "order by all"
        ).fetchall()


async def held(itwin: ITwinSession) -> list[tuple[str, int, str | None]]:
    return sorted(
        [
            (imodel.id, entry.changeset_index, None)
            async for imodel in itwin.imodels.list_imodels(ITWIN)
            async for entry in itwin.imodels.list_extended_data(imodel.id)
        ]
    )


async def test_each_run_loads_what_is_new(emulator, itwin, tmp_path):
    code, output = await run(emulator, tmp_path)
    assert code == 0, output
    assert stored(tmp_path) == await held(itwin)
    code, output = await run(emulator, tmp_path)
    assert code == 0, output
    assert "0 load package(s) were loaded" in output
    emulator.push_changeset(ID, {"data": {"taskId": "new"}})
    code, output = await run(emulator, tmp_path)
    assert code == 0, output
    assert stored(tmp_path) == await held(itwin)


async def test_a_run_that_fails_loses_nothing(emulator, itwin, tmp_path):
    emulator.faults.add("list_extended_data", Status(422), after=1, times=None)
    code, output = await run(emulator, tmp_path)
    assert code == 1
    assert "422" in output
    emulator.faults.clear()
    code, output = await run(emulator, tmp_path)
    assert code == 0, output
    assert stored(tmp_path) == await held(itwin)


async def test_a_bad_payload_has_its_reason(emulator, itwin, tmp_path):
    def edit(body):
        body["extendedData"][0]["data"] = "not base64!"
        return body

    emulator.faults.add("list_extended_data", Edit(edit))
    code, output = await run(emulator, tmp_path)
    assert code == 0, output
    errors = [error for _, _, error in stored(tmp_path) if error is not None]
    assert len(errors) == 1
    assert "base64" in errors[0]
    assert len(stored(tmp_path)) == len(await held(itwin))
