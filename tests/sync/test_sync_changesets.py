"""Rows with their changesets: pushed when, by which task, from which files; and what it costs."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from itwin_async import ITwinSession
from itwin_async._rows.changesets import ChangesetReader
from itwin_async.emulator import Emulator, Status
from itwin_async.sync import ParquetDataset, sync_extended_data

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
EXTRA = ("push_date_time", "task_id", "changed_files")


async def held(itwin: ITwinSession, imodel_id: str) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    async for changeset in itwin.imodels.list_changesets(imodel_id, representation=True):
        run = changeset.synchronization_info
        files = None if run is None or run.changed_files is None else list(run.changed_files)
        found[changeset.index] = (changeset.push_date_time, run and run.task_id, files)
    return found


def stored(home: Path, imodel_id: str) -> dict[int, tuple[Any, ...]]:
    return {
        row["changeset_index"]: tuple(row.get(name) for name in EXTRA)
        for path in home.glob(f"{imodel_id}.*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    }


async def sync(itwin: ITwinSession, home: Path, **options: Any) -> int:
    options = {"changesets": True, "settle": 0.0, **options}
    synced = await sync_extended_data(itwin, ParquetDataset(home), itwin_id=ITWIN, **options)
    return synced.rows


async def test_each_row_has_its_changeset_for_a_request_an_imodel(emulator, itwin, tmp_path):
    home = tmp_path / "changes"
    await sync(itwin, home)
    ids = [imodel.id async for imodel in itwin.imodels.list_imodels(ITWIN)]
    assert emulator.count("list_changesets") == len(ids)
    for imodel_id in ids:
        assert stored(home, imodel_id) == await held(itwin, imodel_id)
    before = emulator.count("list_changesets")
    assert await sync(itwin, home) == 0
    assert emulator.count("list_changesets") == before
    emulator.push_changeset(ID, {"x": 1}, task_id="t", changed_files=["A.dgn"])
    files = {path: path.read_bytes() for path in home.iterdir()}
    assert await sync(itwin, home) == 1
    assert emulator.count("list_changesets") == before + 1
    assert stored(home, ID) == await held(itwin, ID)
    assert stored(home, ID)[26][1:] == ("t", ["A.dgn"])
    changed = [path for path, data in files.items() if path.read_bytes() != data]
    assert len(changed) == 1  # nothing was rewritten for a difference in spelling


async def test_without_the_switch_nothing_is_asked(emulator, itwin, tmp_path):
    await sync(itwin, tmp_path / "changes", changesets=False)
    assert emulator.count("list_changesets") == 0
    schema = pq.read_schema(tmp_path / "changes" / f"{ID}.00001.parquet")
    assert schema.names == ["imodel_id", "changeset_index", "changeset_id", "data"]


async def test_the_switch_may_come_later_and_go(emulator, itwin, tmp_path):
    home = tmp_path / "changes"
    await sync(itwin, home, changesets=False)
    emulator.push_changeset(ID, {"x": 1}, task_id="t", changed_files=["A.dgn"])
    await sync(itwin, home)
    emulator.push_changeset(ID, {"x": 1}, task_id="u")
    await sync(itwin, home, changesets=False)
    found = stored(home, ID)
    assert {found[index] for index in range(1, 26)} == {(None, None, None)}
    assert found[26][1:] == ("t", ["A.dgn"])
    assert found[27] == (None, None, None)
    schemas = {str(pq.read_schema(path).remove_metadata()) for path in home.iterdir()}
    assert len(schemas) == 1


async def test_few_entries_far_apart_read_no_changesets_between(itwin, emulator, tmp_path):
    async with (
        Emulator(imodels=1, changesets=5_000, extended_data_every=2_500) as large,
        ITwinSession(large.credentials, base_url=large.url) as session,
    ):
        await sync(session, tmp_path / "changes")
        assert large.count("list_changesets") == large.count("list_extended_data") * 2
        assert stored(tmp_path / "changes", ID).keys() == {1, 2_501}


async def test_a_list_of_changesets_that_fails_loses_no_row(emulator, itwin, tmp_path):
    home = tmp_path / "changes"
    emulator.faults.add("list_changesets", Status(422))
    with pytest.raises(Exception, match="422"):
        await sync(itwin, home)
    await sync(itwin, home)
    for imodel_id in [imodel.id async for imodel in itwin.imodels.list_imodels(ITWIN)]:
        assert stored(home, imodel_id) == await held(itwin, imodel_id)


async def test_a_changeset_that_is_pushed_meanwhile_is_found(emulator, itwin):
    reader = ChangesetReader(itwin.imodels, ID)
    last = await reader.get(25)
    assert last is not None
    index = emulator.push_changeset(ID, {"x": 1}, task_id="t")
    found = await reader.get(index)
    assert found is not None
    assert found.synchronization_info is not None
    assert found.synchronization_info.task_id == "t"
    before = emulator.count("list_changesets")
    assert await reader.get(index + 1) is None
    assert emulator.count("list_changesets") == before + 1
    await reader.aclose()
