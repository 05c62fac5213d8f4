"""Parquet and Arrow: parts as Arrow streams, row groups of bounded size."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from pyarrow import parquet

from itwin_async import Changeset, ExtendedData
from itwin_async._files.atomic import SyncedFile, naming_errors
from itwin_async._rows.arrow import ExtendedDataColumns
from itwin_async._rows.columns import PA
from itwin_async._rows.entries import Row

PQ: Final[Any] = parquet  # which has no types
BATCH_ROWS: Final = 512
GROUP_ROWS: Final = 65_536
GROUP_BYTES: Final = 64 << 20
_COMPRESSION: Final = "zstd"


class ArrowFile:
    """Rows of ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``, in columns."""

    suffix = ".arrows"

    def __init__(self, data_type: Any, *, parquet: bool, changesets: bool = False) -> None:
        self._parquet = parquet
        self._columns = ExtendedDataColumns(data_type, changesets=changesets)
        self.schema = self._columns.schema
        self.schema_digest = self._columns.schema_digest

    def encode(
        self, entry: ExtendedData[Any], changeset: Changeset | None = None
    ) -> tuple[Any, int]:
        """What a row holds of the payload, and its size in bytes; `PayloadError` if it is bad."""
        del changeset  # the row has it
        return self._columns.encode(entry)

    def write_part(self, rows: Sequence[Row], part: SyncedFile) -> list[tuple[Row, str]]:
        """Write a stream of small batches, without the rows that do not fit their columns."""
        left_out: list[tuple[Row, str]] = []
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        with PA.ipc.new_stream(part, self.schema, options=options) as out:
            for start in range(0, len(rows), BATCH_ROWS):
                out.write_batch(self._columns.batch(rows[start : start + BATCH_ROWS], left_out))
        return left_out

    def join_parts(
        self, base: Path | None, parts: Iterable[bytes], output: SyncedFile
    ) -> Generator[None]:
        """Write batches in row groups of at most 65,536 rows and some 64 MiB."""
        with self._writer(output) as out:
            group: list[Any] = []
            rows = size = 0
            for batch in self._batches(base, parts):
                if group and (
                    rows + batch.num_rows > GROUP_ROWS or size + batch.nbytes > GROUP_BYTES
                ):
                    _write_group(out, group)
                    group, rows, size = [], 0, 0
                group.append(batch)
                rows += batch.num_rows
                size += batch.nbytes
                yield
            if group:
                _write_group(out, group)

    def _writer(self, output: SyncedFile) -> Any:
        if self._parquet:
            return PQ.ParquetWriter(output, self.schema, compression=_COMPRESSION)
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        return PA.ipc.new_file(output, self.schema, options=options)

    def _batches(self, base: Path | None, parts: Iterable[bytes]) -> Iterator[Any]:
        if base is not None:  # opened by Python: Arrow opens no names that are not UTF-8
            with naming_errors(base), base.open("rb") as file:
                yield from self._batches_of(file)
        for part in parts:
            with PA.ipc.open_stream(part) as stream:
                yield from stream

    def _batches_of(self, file: BinaryIO) -> Iterator[Any]:
        if self._parquet:
            with PQ.ParquetFile(file) as earlier:
                for number in range(earlier.num_row_groups):  # or batches would span them
                    yield from earlier.iter_batches(GROUP_ROWS, row_groups=[number])
        else:
            earlier = PA.ipc.open_file(file)
            for number in range(earlier.num_record_batches):
                yield earlier.get_batch(number)


def _write_group(out: Any, batches: list[Any]) -> None:
    out.write_table(PA.Table.from_batches(batches).combine_chunks())
