"""Extended data as a data source of Spark 4: a partition for each share of the rate.

    pip install itwin-async[arrow] pyspark
    python spark_source.py ITWIN_ID DIRECTORY

The executors have ITWIN_CLIENT_ID and ITWIN_CLIENT_SECRET in their environment. There should be as
many of them as partitions: one that waits for its turn would come with a share that is used.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import RecordBatch, parquet
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from itwin_async import ITwinSession, Limiter
from itwin_async.export import export_extended_data


class ITwinSource(DataSource):
    """``format("itwin")`` with the options ``itwin_id``, ``per_minute`` and ``partitions``."""

    @classmethod
    def name(cls) -> str:
        """As in ``spark.read.format``."""
        return "itwin"

    def schema(self) -> str:
        """The rows of an export; ``data`` is JSON, for ``from_json``."""
        names = ("imodel_id string", "changeset_index bigint", "changeset_id string", "data string")
        return ", ".join(f"{name} not null" for name in names)

    def reader(self, schema: StructType) -> "Reader":  # noqa: ARG002 - as Spark calls it
        """What reads them."""
        return Reader(self.options)


@dataclass
class Share(InputPartition):
    """Some iModels, and the requests a minute that may be spent on them."""

    imodel_ids: list[str]
    per_minute: int


class Reader(DataSourceReader):
    """Finds the iModels on the driver, and exports them on the executors."""

    def __init__(self, options: dict[str, str]) -> None:
        self._itwin_id = options["itwin_id"]
        self._per_minute = int(options.get("per_minute", "500"))
        self._count = int(options.get("partitions", "2"))

    def partitions(self) -> list[Share]:
        """One for each share."""
        ids = asyncio.run(self._imodels())
        share = self._per_minute // self._count
        return [Share(ids[at :: self._count], share) for at in range(self._count)]

    async def _imodels(self) -> list[str]:
        async with ITwinSession.from_env() as itwin:
            return [item.id async for item in itwin.imodels.list_imodels(self._itwin_id)]

    def read(self, partition: Any) -> Iterator[RecordBatch]:
        """The rows of a share, through a file, so that memory stays flat."""
        with tempfile.TemporaryDirectory() as home:
            output = Path(home, "share.parquet")
            asyncio.run(self._export(partition, output))
            with parquet.ParquetFile(output) as file:
                yield from file.iter_batches()

    async def _export(self, share: Share, output: Path) -> None:
        limiter = Limiter(8, per_minute=share.per_minute)
        task = TaskContext.get()
        if task is not None and task.attemptNumber():
            await asyncio.sleep(60)  # the attempt that failed has used the share
        async with ITwinSession.from_env(limiter=limiter) as itwin:
            await export_extended_data(itwin, share.imodel_ids, output)


def main(itwin_id: str, directory: str) -> None:
    """Read an iTwin, and write it as Parquet."""
    spark = SparkSession.builder.appName("itwin").getOrCreate()
    spark.dataSource.register(ITwinSource)
    rows = spark.read.format("itwin").option("itwin_id", itwin_id).option("per_minute", "3000")
    rows.load().write.mode("overwrite").parquet(directory)
    print(spark.read.parquet(directory).count())
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
