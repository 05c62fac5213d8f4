"""Parquet and Arrow: an explicit schema, parts as Arrow streams, row groups of bounded size."""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import inspect
from pyarrow import parquet

from itwin_async import ExtendedData
from itwin_async._files.atomic import SyncedFile, naming_errors
from itwin_async.export._columns import (
    KEPT,
    OBJECTS,
    PA,
    Convert,
    column,
    is_array_like,
    misfit,
    unwrap_annotated,
)
from itwin_async.export._rows import Row, json_text, unfit
from itwin_async.export._types import schema_digest

PQ: Final[Any] = parquet  # which has no types
BATCH_ROWS: Final = 512
GROUP_ROWS: Final = 65_536
GROUP_BYTES: Final = 64 << 20
_COMPRESSION: Final = "zstd"


class ArrowFile:
    """Rows of ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``, in columns."""

    suffix = ".arrows"

    def __init__(self, data_type: Any, *, parquet: bool) -> None:
        self._raw = data_type is None
        self._parquet = parquet
        self._nested = False
        self._convert: Convert | None = None
        self._decode = msgspec.json.Decoder(Any if data_type is None else data_type).decode
        arrow_type: Any = PA.string()
        if data_type is not None:
            info = unwrap_annotated(inspect.type_info(data_type))
            self._nested = isinstance(info, OBJECTS) and not is_array_like(info)
            if self._nested:
                arrow_type, self._convert = column(info)
        self.schema = PA.schema(
            [
                PA.field("imodel_id", PA.string(), nullable=False),
                PA.field("changeset_index", PA.int64(), nullable=False),
                PA.field("changeset_id", PA.string(), nullable=False),
                PA.field("data", arrow_type, nullable=False),
            ]
        )
        columns = hashlib.sha256(str(self.schema).encode()).hexdigest()[:8]
        self.schema_digest = f"{schema_digest(data_type)}{columns}"

    def encode(self, entry: ExtendedData[Any]) -> tuple[Any, int]:
        """JSON text; or the payload itself for a nested column, once it was seen to decode."""
        if self._raw:
            text = json_text(entry)
            return text, len(text)
        data, payload = entry.data, entry.payload
        if self._nested:
            # Bytes until it is written: many small objects would keep the collector busy.
            return payload, len(payload)
        try:
            return msgspec.json.encode(data).decode(), len(payload)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise unfit(entry, f"its payload does not encode: {error}") from None

    def write_part(self, rows: Sequence[Row], part: SyncedFile) -> list[tuple[Row, str]]:
        """Write a stream of small batches, without the rows that do not fit their columns."""
        left_out: list[tuple[Row, str]] = []
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        with PA.ipc.new_stream(part, self.schema, options=options) as out:
            for start in range(0, len(rows), BATCH_ROWS):
                chunk = rows[start : start + BATCH_ROWS]
                try:
                    batch = self._batch(chunk)
                except _UNFIT:
                    batch = self._batch(self._fitting(chunk, left_out))
                out.write_batch(batch)
        return left_out

    def _fitting(self, rows: Sequence[Row], left_out: list[tuple[Row, str]]) -> list[Row]:
        fit: list[Row] = []
        for row in rows:
            try:
                self._batch([row])
            except _UNFIT as error:
                why = self._misfit(row) or error
                left_out.append((row, f"its payload does not fit its column: {why}"))
            else:
                fit.append(row)
        return fit

    def _misfit(self, row: Row) -> str | None:
        try:
            values = [column[0] for column in self._columns([row])]
        except _UNFIT:
            return None
        return misfit(dict(zip(self.schema.names, values, strict=True)), PA.struct(self.schema))

    def _value(self, payload: bytes) -> Any:
        """The value of a nested column for a payload."""
        value = msgspec.to_builtins(self._decode(payload), builtin_types=KEPT, str_keys=True)
        return self._convert(value) if self._convert else value

    def _columns(self, rows: Sequence[Row]) -> list[list[Any]]:
        return [
            [row.imodel_id for row in rows],
            [row.changeset_index for row in rows],
            [row.changeset_id for row in rows],
            [self._value(row.data) if self._nested else row.data for row in rows],
        ]

    def _batch(self, rows: Sequence[Row]) -> Any:
        arrays = [
            PA.array(values, field.type)
            for values, field in zip(self._columns(rows), self.schema, strict=True)
        ]
        return PA.record_batch(arrays, schema=self.schema)

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


_UNFIT: Final = (
    PA.ArrowInvalid,
    PA.ArrowTypeError,
    PA.ArrowNotImplementedError,
    msgspec.MsgspecError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def _write_group(out: Any, batches: list[Any]) -> None:
    out.write_table(PA.Table.from_batches(batches).combine_chunks())
