"""What a sync writes to a data set is what the platform holds, row for row."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from itwin_async import ITwinSession
from itwin_async.emulator import Edit, Emulator
from itwin_async.sync import ParquetDataset, sync_extended_data

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


async def held(itwin: ITwinSession) -> list[tuple[str, int, str, Any]]:
    found = [
        (entry.imodel_id, entry.changeset_index, entry.changeset_id, entry.data)
        async for imodel in itwin.imodels.list_imodels(ITWIN)
        async for entry in itwin.imodels.list_extended_data(imodel.id)
    ]
    return sorted(found, key=lambda row: row[:2])


def stored(home: Path) -> list[tuple[str, int, str, Any]]:
    found = []
    for path in home.glob("*.parquet"):
        for row in pq.ParquetFile(path).read().to_pylist():
            data = json.loads(row["data"]) if isinstance(row["data"], str) else row["data"]
            found.append((row["imodel_id"], row["changeset_index"], row["changeset_id"], data))
    return sorted(found, key=lambda row: row[:2])


async def test_two_types_are_refused_before_a_request(itwin, emulator, tmp_path):
    home = tmp_path / "changes"

    class Fewer(msgspec.Struct):
        """Of which the fields of `Payload` would be lost."""

    with pytest.raises(ValueError, match="data_type must be the same"):
        await sync_extended_data(
            itwin, ParquetDataset(home, data_type=Fewer), itwin_id=ITWIN, data_type=Payload
        )
    assert not emulator.requests
    assert not home.exists()
    typed = ParquetDataset(home, data_type=Payload)
    await sync_extended_data(itwin, typed, itwin_id=ITWIN, data_type=dict)
    assert stored(home) == await held(itwin)


@pytest.mark.parametrize("kind", [None, Payload])
async def test_all_of_an_itwin_and_then_nothing(kind, itwin, tmp_path):
    home = tmp_path / "changes"
    first = await sync_extended_data(
        itwin, ParquetDataset(home), itwin_id=ITWIN, data_type=kind, settle=0.0
    )
    assert stored(home) == await held(itwin)
    assert (first.rows, first.bad) == (len(stored(home)), 0)
    again = await sync_extended_data(
        itwin, ParquetDataset(home), itwin_id=ITWIN, data_type=kind, settle=0.0
    )
    assert (again.rows, again.imodels) == (0, 0)
    assert again.requests <= 2
    assert stored(home) == await held(itwin)


async def test_a_bad_payload_first_leaves_the_columns_to_the_type(emulator, itwin, tmp_path):
    def edit(body: Any) -> Any:
        body["extendedData"] = body["extendedData"][:1]
        body["extendedData"][0]["data"] = "not base64!"
        body["_links"].pop("next", None)
        return body

    home = tmp_path / "changes"
    emulator.faults.add("list_extended_data", Edit(edit))  # of one iModel
    synced = await sync_extended_data(
        itwin, ParquetDataset(home), itwin_id=ITWIN, data_type=Payload, workers=1
    )
    assert synced.bad == 1
    kinds = {str(pq.read_schema(path).field("data").type) for path in home.iterdir()}
    assert len(kinds) == 1
    assert "taskId" in kinds.pop()
    bad = list((tmp_path / "changes.sync").glob("*.bad.jsonl"))
    assert len(bad) == 1


async def test_a_data_set_belongs_to_its_itwin(emulator: Emulator, itwin, tmp_path):
    home = tmp_path / "changes"
    await sync_extended_data(itwin, ParquetDataset(home), itwin_id=ITWIN)
    others = [item.id async for item in itwin.itwins.list_itwins() if item.id != ITWIN]
    before = stored(home)
    with pytest.raises(ValueError, match="another iTwin"):
        await sync_extended_data(itwin, ParquetDataset(home), itwin_id=others[0])
    assert stored(home) == before
