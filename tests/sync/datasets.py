"""Rows and checkpoints as a sync writes them, and what is in a directory."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from itwin_async.sync import Row
from itwin_async.sync._checkpoint import Checkpoint, scope_of
from itwin_async.sync._list_state import ListState
from itwin_async.sync._sink import Sink

A = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
B = "00000000-3aea-4355-a9f0-c6df9989ee7d"
SCOPE = scope_of(itwin_id="dc914a84-e0c9-40e2-9d14-faf5ed84147f")


class Files(msgspec.Struct):
    n: int


def row(imodel_id: str, index: int, data: Any = None) -> Row:
    data = {"n": index} if data is None else data
    return Row(
        imodel_id=imodel_id,
        changeset_index=index,
        changeset_id=f"c{index}",
        data=data,
        payload=msgspec.json.encode(data),
    )


def bad(imodel_id: str, index: int) -> Row:
    return Row(
        imodel_id=imodel_id, changeset_index=index, changeset_id=f"c{index}", data=None,
        payload=None, error="its data is not base64", received="?",
    )  # fmt: skip


class Progress:
    """The checkpoint of a sync that writes rows of iModels, as it goes on."""

    def __init__(self, text: str | None = None) -> None:
        self.states: dict[str, ListState] = {}
        if text is not None:
            checkpoint = Checkpoint.parse(text, SCOPE)
            for imodel_id in checkpoint.imodel_ids:
                state = checkpoint.state(imodel_id)
                assert state is not None
                self.states[imodel_id] = state

    def rows(self, imodel_id: str) -> int:
        return self.states[imodel_id].rows if imodel_id in self.states else 0

    def add(self, rows: list[Row]) -> str:
        for item in rows:
            state = self.states.setdefault(item.imodel_id, ListState())
            state.add(item.changeset_index, 20)
        return str(self)

    def __str__(self) -> str:
        records = {imodel_id: state.encode() for imodel_id, state in self.states.items()}
        return str(Checkpoint(SCOPE, records))


async def sync_rows(
    sink: Sink, total: int, imodel_ids: tuple[str, ...] = (A, B), step: int = 3, make: Any = row
) -> None:
    """What a sync does: goes on where the checkpoint is, until each iModel has so many rows."""
    async with sink:
        progress = Progress(await sink.checkpoint())
        while min(progress.rows(imodel_id) for imodel_id in imodel_ids) < total:
            for imodel_id in imodel_ids:
                first = progress.rows(imodel_id) + 1
                rows = [
                    make(imodel_id, index) for index in range(first, min(first + step, total + 1))
                ]
                if rows:
                    await sink.write(rows, progress.add(rows))


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def stored(directory: Path) -> list[tuple[str, int]]:
    """The entries by a plain glob, each with its payload checked."""
    found = []
    for path in directory.glob("*.parquet"):
        with path.open("rb") as file:
            rows = pq.ParquetFile(file).read().to_pylist()
        for item in rows:
            data = item["data"]
            data = json.loads(data) if isinstance(data, str) else data
            assert data["n"] == item["changeset_index"]
            assert item["changeset_id"] == f"c{item['changeset_index']}"
            found.append((item["imodel_id"], item["changeset_index"]))
    return sorted(found)


def expected(total: int, imodel_ids: tuple[str, ...] = (A, B)) -> list[tuple[str, int]]:
    return sorted((imodel_id, index) for imodel_id in imodel_ids for index in range(1, total + 1))
