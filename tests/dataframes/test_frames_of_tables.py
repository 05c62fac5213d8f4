"""Polars, duckdb and pandas take a table as it is, and shapely and geopandas an iModel."""

from typing import Any

import duckdb
import geopandas
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from shapely.geometry import box, shape

from itwin_async import IModel
from itwin_async.tables import batches, table

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


DATA = pl.col("data").struct.field("data")


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


@pytest.fixture
async def entries(itwin) -> Any:
    return await table(itwin.imodels.list_extended_data(ID, Payload))


def address(column: Any) -> list[int]:
    """Where the values of an Arrow column lie."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [chunk.buffers()[-1].address for chunk in chunks]


async def test_polars(entries):
    frame = pl.from_arrow(entries)
    assert frame.to_dicts() == entries.to_pylist()
    assert address(frame["changeset_index"].to_arrow()) == address(entries["changeset_index"])
    files = frame.select(DATA.struct.field("changedFiles").explode())
    changes = [row["data"]["data"]["changedFiles"] for row in entries.to_pylist()]
    assert files.height == sum(map(len, changes))


async def test_duckdb_reads_it_where_it_lies(entries, itwin):
    found = duckdb.sql("select imodel_id, changeset_index, data.data.taskId as task from entries")
    assert found.fetchall() == [
        (row["imodel_id"], row["changeset_index"], row["data"]["data"]["taskId"])
        for row in entries.to_pylist()
    ]
    names = ["imodel_id", "changeset_index", "changeset_id", "data"]
    with duckdb.connect() as connection:
        connection.execute(
            "create table found (imodel_id text, changeset_index int, changeset_id text, data json)"
        )
        async for batch in batches(itwin.imodels.list_extended_data(ID), 10):
            arrived = pa.Table.from_batches([batch])  # noqa: F841 - duckdb finds it by its name
            connection.execute("insert into found select * from arrived")
        rows = connection.execute("from found order by changeset_index")
        assert [column[0] for column in rows.description] == names
        assert len(rows.fetchall()) == 25


async def test_pandas(entries, itwin):
    frame = entries.to_pandas()
    assert list(frame.columns) == ["imodel_id", "changeset_index", "changeset_id", "data"]
    assert frame["changeset_index"].tolist() == entries["changeset_index"].to_pylist()
    assert frame["data"][0]["data"]["taskId"] == entries["data"][0].as_py()["data"]["taskId"]
    kept = entries.to_pandas(types_mapper=pd.ArrowDtype)
    column = kept["changeset_index"].array.__arrow_array__()
    assert address(column) == address(entries["changeset_index"])
    imodels = (await table(itwin.imodels.list_imodels(ITWIN, representation=True))).to_pandas()
    assert str(imodels["created_date_time"].dtype) == "datetime64[us, UTC]"


async def test_geopandas_and_shapely(itwin):
    imodels = [imodel async for imodel in itwin.imodels.list_imodels(ITWIN, representation=True)]
    corner = imodels[0].extent
    area = shape(imodels[0])
    assert area.equals(
        box(corner.south_west.longitude, corner.south_west.latitude,
            corner.north_east.longitude, corner.north_east.latitude)
    )  # fmt: skip
    frame = geopandas.GeoDataFrame(
        {"name": [imodel.display_name for imodel in imodels]}, geometry=imodels, crs=4326
    )
    assert frame.geometry.is_valid.all()
    assert frame.geometry[0].equals(area)
    nowhere = shape(IModel(id="a"))
    assert nowhere.is_empty


async def test_an_extent_across_the_180th_meridian_is_two_polygons():
    record = {
        "id": "a",
        "extent": {
            "southWest": {"latitude": -20, "longitude": 170},
            "northEast": {"latitude": -10, "longitude": -175},
        },
    }
    area = shape(msgspec.convert(record, IModel))
    assert area.is_valid
    assert area.area == 10 * (10 + 5)
