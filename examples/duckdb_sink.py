"""A sink that stores extended data in a DuckDB file: exactly once, for it is one transaction.

pip install 'itwin-async[arrow]' duckdb
python examples/duckdb_sink.py ITWIN_ID changes.duckdb    # again and again, also after a kill
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Self

import duckdb
import pyarrow as pa

from itwin_async import ITwinSession
from itwin_async.sync import Row, sync_extended_data

TABLES = """
create table if not exists checkpoint (id int primary key, value text);
create table if not exists changes (imodel_id text, changeset_index bigint, changeset_id text,
    data json, error text, primary key (imodel_id, changeset_id))"""


class DuckDBSink:
    """The rows, bad ones with the reason, and the checkpoint. DuckDB lets one process write."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        self._file = duckdb.connect(self._path)
        self._file.execute(TABLES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._file.close()  # rolls back what was not committed

    async def checkpoint(self) -> str | None:
        return (self._file.execute("select value from checkpoint").fetchone() or (None,))[0]

    async def write(self, rows: Sequence[Row], checkpoint: str) -> None:
        """Commit both. Without an await nothing can cancel it halfway."""
        names = ("imodel_id", "changeset_index", "changeset_id", "error")
        columns = {name: [getattr(row, name) for row in rows] for name in names}
        columns["data"] = [None if row.error else row.payload.decode() for row in rows]
        arrived = pa.table(columns)  # noqa: F841 - DuckDB finds it by its name
        self._file.begin()
        self._file.execute("insert into changes by name select * from arrived")
        self._file.execute("insert or replace into checkpoint values (1, ?)", [checkpoint])
        self._file.commit()


async def main(itwin_id: str, path: str) -> None:
    async with ITwinSession.from_env() as itwin:
        print(await sync_extended_data(itwin, DuckDBSink(path), itwin_id=itwin_id))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
