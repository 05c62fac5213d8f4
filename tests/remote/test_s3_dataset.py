"""A data set on S3: commits, a lease, kills, and readers that see it right at any moment."""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pyarrow.dataset
import pytest
import s3fs
from datasets import A, B, Files, Progress, bad, expected, row, sync_rows
from killing import kill_after
from reading import Reader

from itwin_async.sync import ParquetDataset
from itwin_async.sync import _parquet_dataset as parquet_dataset
from itwin_async.sync import _remote as remote


@pytest.fixture
def fs(options) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(**options, use_listings_cache=False)


@pytest.fixture
def sink(bucket, options):
    return lambda: ParquetDataset(f"s3://{bucket}/changes", storage_options=options)


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(parquet_dataset, "_RENEW_SECONDS", 0.2)


def names(fs, path: str) -> list[str]:
    return sorted(found.rpartition("/")[2] for found in fs.ls(path)) if fs.exists(path) else []


def rows_of(fs, path: str) -> list[tuple[str, int, Any]]:
    table = pyarrow.dataset.dataset(path, format="parquet", filesystem=fs).to_table()
    return [(row["imodel_id"], row["changeset_index"], row["data"]) for row in table.to_pylist()]


def stored(fs, path: str) -> list[tuple[str, int]]:
    return sorted((imodel_id, index) for imodel_id, index, _ in rows_of(fs, path))


async def test_it_goes_on_and_only_files_lie_in_it(sink, bucket, fs, options):
    for total in (2, 5, 6):
        await sync_rows(sink(), total)
        assert stored(fs, f"{bucket}/changes") == expected(total)
    assert all(name.endswith(".parquet") for name in names(fs, f"{bucket}/changes"))
    assert names(fs, f"{bucket}/changes.sync") == ["checkpoint", "itwin-async-sync"]
    frame = pd.read_parquet(f"s3://{bucket}/changes", storage_options=options)
    assert len(frame) == 12


async def test_a_file_is_added_and_none_is_replaced(sink, bucket, fs):
    await sync_rows(sink(), 2, (A,))
    first = fs.info(f"{bucket}/changes/{A}.00001.parquet")["ETag"]
    await sync_rows(sink(), 3, (A,))
    assert fs.info(f"{bucket}/changes/{A}.00001.parquet")["ETag"] == first
    assert len(names(fs, f"{bucket}/changes")) == 2


async def test_bad_rows_lie_beside(sink, bucket, fs):
    async with sink() as opened:
        progress = Progress()
        for rows in ([row(A, 1), bad(A, 2)], [bad(A, 3)], [bad(B, 1)]):
            await opened.write(rows, progress.add(rows))
    assert stored(fs, f"{bucket}/changes") == [(A, 1)]
    lines = fs.cat(f"{bucket}/changes.sync/{A}.bad.jsonl").splitlines()
    assert [json.loads(line)["changeset_index"] for line in lines] == [2, 3]


async def test_a_new_field(sink, bucket, fs):
    await sync_rows(sink(), 2, make=lambda imodel, n: row(imodel, n, Files(n)))

    class More(Files):
        task: str | None = None

    await sync_rows(sink(), 3, make=lambda imodel, n: row(imodel, n, More(n, "t")))
    assert sorted(data["task"] or "" for _, _, data in rows_of(fs, f"{bucket}/changes")) == [
        "", "", "", "", "t", "t",
    ]  # fmt: skip


# One at a time


async def test_a_second_sync_is_told(sink, short_lease):
    async with sink():
        with pytest.raises(RuntimeError, match=r"another sync to s3://.* is running"):
            async with sink():
                pass
    async with sink():
        pass


async def test_two_at_once(sink, short_lease):
    """One of them gets it, or neither: never both."""
    inside = ended = most = 0

    async def enter() -> None:
        nonlocal inside, ended, most
        try:
            async with sink():
                inside += 1
                most = max(most, inside)
                await anyio.sleep(2.0)
                inside -= 1
        except RuntimeError:
            ended += 1

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(enter)
    assert most <= 1
    assert ended >= 3


async def test_the_lease_of_a_sync_that_was_killed_is_soon_over(sink, bucket, fs, short_lease):
    async with sink():
        lease = fs.cat(f"{bucket}/changes.sync/lease")
    fs.pipe(f"{bucket}/changes.sync/lease", lease)
    await sync_rows(sink(), 2)
    assert stored(fs, f"{bucket}/changes") == expected(2)


async def test_who_lost_the_lease_writes_nothing(sink, bucket, fs, monkeypatch):
    monkeypatch.setattr(remote, "LEASE_SECONDS", 0.0)  # asks before each write
    async with sink() as opened:
        rows = [row(A, 1)]
        fs.pipe(f"{bucket}/changes.sync/lease", b'{"owner":"another","renewed":0}')
        with pytest.raises(RuntimeError, match="by now"):
            await opened.write(rows, Progress().add(rows))
    assert names(fs, f"{bucket}/changes") == []
    assert fs.exists(f"{bucket}/changes.sync/lease")  # which is not ours


async def test_cancelled_while_it_waits_for_a_lease(sink, bucket, fs, cancel_kind):
    async with sink():
        lease = fs.cat(f"{bucket}/changes.sync/lease")
    fs.pipe(f"{bucket}/changes.sync/lease", lease)
    with anyio.move_on_after(1.2) as scope:
        async with sink():
            pass
    assert scope.cancelled_caught
    assert fs.cat(f"{bucket}/changes.sync/lease") == lease


async def test_places_of_others_are_not_touched(sink, bucket, fs):
    fs.pipe(f"{bucket}/changes/mine.parquet", b"mine")
    with pytest.raises(ValueError, match=r"mine\.parquet"):
        async with sink():
            pass
    fs.rm(f"{bucket}/changes", recursive=True)
    fs.rm(f"{bucket}/changes.sync", recursive=True)
    fs.pipe(f"{bucket}/changes.sync/mine", b"mine")
    with pytest.raises(ValueError, match="was not made by a sync"):
        async with sink():
            pass
    fs.pipe(f"{bucket}/file", b"mine")
    with pytest.raises(ValueError, match="in the way"):
        async with ParquetDataset(f"s3://{bucket}/file", storage_options=fs.storage_options):
            pass


async def test_a_bucket_is_no_data_set(bucket, options):
    with pytest.raises(ValueError, match="choose a directory inside of it"):
        async with ParquetDataset(f"s3://{bucket}", storage_options=options):
            pass


async def test_no_bucket_is_created_and_no_secret_shown(fs, options):
    options = {**options, "secret": "a-secret-key"}
    sink = ParquetDataset("s3://misspelt/x", storage_options=options)
    assert "a-secret-key" not in repr(sink)
    with pytest.raises(FileNotFoundError) as raised:
        async with sink:
            pass
    own = [
        frame
        for frame in traceback.TracebackException.from_exception(
            raised.value, capture_locals=True
        ).stack
        if "itwin_async" in frame.filename
    ]
    assert own
    assert not fs.exists("misspelt")
    assert not any("a-secret-key" in str(frame.locals) for frame in own)


# Killed

CHILD = """
import asyncio, json, sys
sys.path[:0] = sys.argv[3:]
from datasets import sync_rows, row
from itwin_async.sync import ParquetDataset, _parquet_dataset, _remote

_remote.LEASE_SECONDS = 1.0
_parquet_dataset._RENEW_SECONDS = 0.2

def make(imodel_id, index):
    print(index, flush=True)
    return row(imodel_id, index)

sink = ParquetDataset(sys.argv[1], storage_options=json.loads(sys.argv[2]))
asyncio.run(sync_rows(sink, 60, step=7, make=make))
"""


def start(url: str, options: dict[str, str]) -> subprocess.Popen[str]:
    here = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, json.dumps(options), str(here / "sync"), str(here)],
        env=dict(os.environ), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def test_killed_for_real_while_it_is_read(bucket, options, fs, tmp_path):
    path = f"{bucket}/changes"
    (tmp_path / "a.parquet").touch()  # the reader begins where there is a file

    def read(_: Path) -> list[Any]:
        return rows_of(fs, path) if names(fs, path) else []

    with Reader(read, tmp_path) as reader:
        for lines in (10, 33, 29, 10_000):
            process = start(f"s3://{path}", options)
            await anyio.to_thread.run_sync(kill_after, process, lines)
    assert reader.wrong == []
    assert reader.times >= 1
    assert stored(fs, path) == expected(60)
