"""An export with its changesets: push date, task and files beside the data, in each format."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from exports import Payload, every_imodel, records_of, small_parts, stopped_after

from itwin_async import ITwinSession
from itwin_async.emulator import Status
from itwin_async.export import export_extended_data

__all__ = ["small_parts"]  # fixtures
FORMATS = ["a.jsonl", "a.parquet", "a.arrow"]


async def held(itwin: ITwinSession, imodels: list[str]) -> list[tuple[Any, ...]]:
    found = []
    for imodel_id in imodels:
        async for changeset in itwin.imodels.list_changesets(imodel_id, representation=True):
            run = changeset.synchronization_info
            files = None if run is None or run.changed_files is None else list(run.changed_files)
            found.append(
                (imodel_id, changeset.index, changeset.push_date_time, run and run.task_id, files)
            )
    return sorted(found, key=lambda row: row[:2])


def stored(output: Path) -> list[tuple[Any, ...]]:
    found = []
    for row in records_of(output):
        pushed = row["push_date_time"]
        pushed = datetime.fromisoformat(pushed) if isinstance(pushed, str) else pushed
        assert row["data"]
        found.append(
            (row["imodel_id"], row["changeset_index"], pushed, row["task_id"], row["changed_files"])
        )
    return sorted(found, key=lambda row: row[:2])


@pytest.mark.parametrize("kind", [None, Payload])
@pytest.mark.parametrize("name", FORMATS)
async def test_each_row_has_its_changeset(name, kind, emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    emulator.push_changeset(imodels[0], {"data": {"changedFiles": [], "taskId": "t"}},
                            task_id="t", changed_files=["A.dgn"])  # fmt: skip
    await export_extended_data(itwin, imodels, tmp_path / name, kind, changesets=True)
    assert emulator.count("list_changesets") == len(imodels)
    assert stored(tmp_path / name) == await held(itwin, imodels)
    assert ["A.dgn"] in [row[4] for row in stored(tmp_path / name)]


@pytest.mark.parametrize("name", FORMATS)
async def test_it_goes_on_and_is_added_to(name, itwin, emulator, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    options = {"page_size": 10, "changesets": True}
    await stopped_after(40, itwin, imodels, tmp_path / name, **options)
    with pytest.raises(ValueError, match="changesets True, not False"):
        await export_extended_data(itwin, imodels, tmp_path / name, page_size=10)
    await export_extended_data(itwin, imodels, tmp_path / name, **options)
    assert stored(tmp_path / name) == await held(itwin, imodels)
    emulator.push_changeset(imodels[0], {"x": 1}, task_id="t", changed_files=["A.dgn"])
    await export_extended_data(itwin, imodels, tmp_path / name, since=0, **options)
    assert stored(tmp_path / name) == await held(itwin, imodels)


async def test_without_the_switch_no_changeset_is_asked_for(emulator, itwin, tmp_path):
    await export_extended_data(itwin, await every_imodel(itwin), tmp_path / "a.jsonl")
    assert emulator.count("list_changesets") == 0
    assert list(records_of(tmp_path / "a.jsonl")[0]) == [
        "imodel_id", "changeset_index", "changeset_id", "data",
    ]  # fmt: skip


async def test_a_list_of_changesets_that_fails_loses_no_row(emulator, itwin, tmp_path):
    imodels, output = await every_imodel(itwin), tmp_path / "a.parquet"
    emulator.faults.add("list_changesets", Status(422), after=2)
    with pytest.raises(Exception, match="422"):
        await export_extended_data(itwin, imodels, output, changesets=True)
    await export_extended_data(itwin, imodels, output, changesets=True)
    assert stored(output) == await held(itwin, imodels)
