"""Exports of the emulator's iModels, and what is in their files."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itwin_async import ITwinSession
from itwin_async.emulator import Edit
from itwin_async.export import ExportProgress, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


Row = tuple[str, int, str, Any]


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


async def every_imodel(itwin: ITwinSession) -> list[str]:
    return [
        imodel.id
        async for item in itwin.itwins.list_itwins()
        async for imodel in itwin.imodels.list_imodels(item.id)
    ]


async def held(itwin: ITwinSession, imodels: list[str]) -> list[Row]:
    """What the platform holds, by the list itself."""
    rows = [
        (entry.imodel_id, entry.changeset_index, entry.changeset_id, entry.data)
        for imodel_id in imodels
        async for entry in itwin.imodels.list_extended_data(imodel_id)
    ]
    return sorted(rows, key=lambda row: row[:2])


def records_of(output: Path) -> list[dict[str, Any]]:
    """The rows of a file, in their order."""
    if output.suffix in {".jsonl", ".ndjson"}:
        return [json.loads(line) for line in output.read_text().splitlines()]
    return table_of(output).to_pylist()


def rows_of(output: Path) -> list[Row]:
    rows = records_of(output)
    if output.suffix not in {".jsonl", ".ndjson"}:
        rows = [{**row, "data": as_object(row["data"])} for row in rows]
    return sorted(
        ((*(row[name] for name in NAMES), row["data"]) for row in rows), key=lambda row: row[:2]
    )


NAMES = ("imodel_id", "changeset_index", "changeset_id")


def as_object(data: Any) -> Any:
    return json.loads(data) if isinstance(data, str) else data


def table_of(output: Path) -> Any:
    if output.suffix == ".parquet":
        return pq.read_table(output)
    with pa.memory_map(str(output)) as file:
        return pa.ipc.open_file(file).read_all()


def replace_payload(index: int, payload: Any) -> Edit:
    """The first page of a list with another payload at one place."""

    def edit(body: Any) -> Any:
        body["extendedData"][index]["data"] = payload
        return body

    return Edit(edit)


def encoded(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


# Resuming


async def stopped_after(
    rows: int, itwin: ITwinSession, imodels: Iterable[str], output: Path, **options: Any
) -> int:
    """Cancel an export behind so many rows; how many requests it may have made."""
    with anyio.CancelScope() as scope:

        def stop(progress: ExportProgress) -> None:
            if progress.rows >= rows:
                scope.cancel()

        await export_extended_data(itwin, imodels, output, on_progress=stop, **options)
    assert scope.cancelled_caught
    assert not Path(output).exists()
    return itwin.stats.requests


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store often, so that there is something to find again."""
    monkeypatch.setattr(job, "STORE_ROWS", 8)
    monkeypatch.setattr(lists, "PIECE_ROWS", 4)
