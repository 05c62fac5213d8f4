"""Spark's own glob of a data set is right at any moment: while a sync runs, and is killed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from killing import kill_after
from pyspark.sql import SparkSession

sys.path.append(str(Path(__file__).parent.parent / "sync"))

from datasets import A, B, Files, bad, expected, row, sync_rows
from reading import Reader
from test_dataset_killed import start

from itwin_async.sync import ParquetDataset

# Sockets to its own Java process are Spark's to close.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    options = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def rows_of(spark: Any, home: Path) -> list[tuple[str, int, str]]:
    frame = spark.read.parquet(str(home)).select("imodel_id", "changeset_index", "data")
    return [tuple(row) for row in frame.collect()]


async def test_right_while_a_sync_runs_and_is_killed(spark, tmp_path):
    home = tmp_path / "set"
    with Reader(lambda home: rows_of(spark, home), home) as reader:
        for lines in (90, 75, 133, 200, 10_000):
            await anyio.to_thread.run_sync(kill_after, start(home), lines)
    assert reader.wrong == []
    assert reader.times >= 1
    found = await anyio.to_thread.run_sync(rows_of, spark, home)
    assert sorted(row[:2] for row in found) == expected(300)


async def test_files_without_rows_are_read(spark, tmp_path):
    home = tmp_path / "set"
    await sync_rows(ParquetDataset(home), 1, (B,), make=bad)
    await sync_rows(ParquetDataset(home), 2, (A, B))
    found = await anyio.to_thread.run_sync(rows_of, spark, home)
    assert sorted(row[:2] for row in found) == [(B, 2), (A, 1), (A, 2)]


class More(msgspec.Struct):
    n: int
    task: str | None = None


@pytest.mark.parametrize("older", [A, B])
async def test_files_with_and_without_a_field_are_read(older, spark, tmp_path):
    home, newer = tmp_path / "set", tmp_path / "newer"
    ids = (older, A if older == B else B)
    await sync_rows(ParquetDataset(home), 2, ids[:1], make=lambda id_, n: row(id_, n, Files(n)))
    await sync_rows(ParquetDataset(newer), 2, ids[1:], make=lambda id_, n: row(id_, n, More(n)))
    for path in newer.iterdir():
        path.rename(home / path.name)
    found = await anyio.to_thread.run_sync(rows_of, spark, home)
    assert sorted((*row[:2], row[2].n) for row in found) == [(*row, row[1]) for row in expected(2)]
