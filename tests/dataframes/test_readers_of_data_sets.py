"""A plain glob of each reader is right at any moment: while a sync runs, and is killed."""

import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import duckdb
import msgspec
import pandas as pd
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from killing import kill_after

sys.path.append(str(Path(__file__).parent.parent / "sync"))

from datasets import A, B, Files, bad, expected, row, sync_rows
from reading import Reader
from test_dataset_killed import start

from itwin_async.sync import ParquetDataset

Rows = list[tuple[str, int, str]]
COLUMNS = ["imodel_id", "changeset_index", "data"]


def by_pyarrow_dataset(home: Path) -> Rows:
    table = pyarrow.dataset.dataset(home, format="parquet").to_table(columns=COLUMNS)
    return [tuple(row.values()) for row in table.to_pylist()]


def by_pyarrow_table(home: Path) -> Rows:
    return [tuple(row.values()) for row in pq.read_table(home, columns=COLUMNS).to_pylist()]


def by_polars_lazily(home: Path) -> Rows:
    return pl.scan_parquet(f"{home}/*.parquet").select(COLUMNS).collect().rows()


def by_polars(home: Path) -> Rows:
    return pl.read_parquet(home).select(COLUMNS).rows()


def by_duckdb(home: Path) -> Rows:
    with duckdb.connect() as connection:
        return connection.execute(
            f"select imodel_id, changeset_index, data from '{home}/*.parquet'"
        ).fetchall()


def by_pandas(home: Path) -> Rows:
    frame = pd.read_parquet(home, columns=COLUMNS)
    return list(frame.itertuples(index=False, name=None))


READERS: list[Callable[[Path], Rows]] = [
    by_pyarrow_dataset, by_pyarrow_table, by_polars_lazily, by_polars, by_duckdb, by_pandas,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
async def test_right_while_a_sync_runs_and_is_killed(read, tmp_path):
    home = tmp_path / "set"
    with Reader(read, home) as reader:
        for lines in (90, 75, 133, 200, 10_000):
            await anyio.to_thread.run_sync(kill_after, start(home), lines)
    assert reader.wrong == []
    assert reader.times >= 1
    assert sorted((imodel_id, index) for imodel_id, index, _ in read(home)) == expected(300)


class More(msgspec.Struct):
    n: int
    task: str | None = None


def by_polars_with_its_switch(home: Path) -> Rows:
    options = pl.ScanCastOptions(missing_struct_fields="insert", extra_struct_fields="ignore")
    return (
        pl.scan_parquet(f"{home}/*.parquet", cast_options=options).select(COLUMNS).collect().rows()
    )


@pytest.mark.parametrize("older", [A, B])
async def test_files_with_and_without_a_field_are_read_until_all_have_it(older, tmp_path):
    home, newer = tmp_path / "set", tmp_path / "newer"
    ids = (older, A if older == B else B)
    await sync_rows(ParquetDataset(home), 2, ids[:1], make=lambda id_, n: row(id_, n, Files(n)))
    await sync_rows(ParquetDataset(newer), 2, ids[1:], make=lambda id_, n: row(id_, n, More(n)))
    for path in newer.iterdir():  # as where a sync was killed between one rewrite and the next
        path.rename(home / path.name)
    readers = [read for read in READERS if "polars" not in read.__name__]
    for read in (*readers, by_polars_with_its_switch):
        found = [(imodel_id, index, data["n"]) for imodel_id, index, data in read(home)]
        expected_rows = [(imodel_id, index, index) for imodel_id, index in expected(2)]
        assert sorted(found) == expected_rows, read.__name__


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
async def test_files_without_rows_are_read(read, tmp_path):
    home = tmp_path / "set"
    await sync_rows(ParquetDataset(home), 1, (B,), make=bad)
    await sync_rows(ParquetDataset(home), 2, (A, B))
    assert sorted(row[:2] for row in read(home)) == [(B, 2), (A, 1), (A, 2)]
