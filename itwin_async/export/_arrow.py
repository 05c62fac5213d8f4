"""Parquet and Arrow: an explicit schema, parts as Arrow streams, row groups of bounded size."""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import inspect
from pyarrow import parquet

from itwin_async import ExtendedData
from itwin_async.export._columns import (
    KEPT,
    OBJECTS,
    PA,
    Convert,
    bare,
    column,
    is_array_like,
    misfit,
)
from itwin_async.export._files import NewFile, naming
from itwin_async.export._rows import Row, json_text, unfit
from itwin_async.export._types import fields_digest

PQ: Final[Any] = parquet  # which has no types
_BATCH_ROWS: Final = 512
_GROUP_ROWS: Final = 65_536
_GROUP_BYTES: Final = 64 << 20
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
        kind: Any = PA.string()
        if data_type is not None:
            info = bare(inspect.type_info(data_type))
            self._nested = isinstance(info, OBJECTS) and not is_array_like(info)
            if self._nested:
                kind, self._convert = column(info)
        self.schema = PA.schema(
            [
                PA.field("imodel_id", PA.string(), nullable=False),
                PA.field("changeset_index", PA.int64(), nullable=False),
                PA.field("changeset_id", PA.string(), nullable=False),
                PA.field("data", kind, nullable=False),
            ]
        )
        columns = hashlib.sha256(str(self.schema).encode()).hexdigest()[:8]
        self.layout = f"{fields_digest(data_type)}{columns}"

    def data(self, entry: ExtendedData[Any]) -> tuple[Any, int]:
        """JSON text; or, of a nested column, the payload, which was looked at."""
        if self._raw:
            text = json_text(entry)
            return text, len(text)
        data, payload = entry.data, entry.payload
        if self._nested:
            # Until it is written it is bytes: many small objects would keep the collector busy.
            return payload, len(payload)
        try:
            return msgspec.json.encode(data).decode(), len(payload)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise unfit(entry, f"its payload does not encode: {error}") from None

    def write(self, rows: Sequence[Row], part: NewFile) -> list[tuple[Row, str]]:
        """A stream of small batches. A value that its column cannot hold costs its own row."""
        left_out: list[tuple[Row, str]] = []
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        with PA.ipc.new_stream(part, self.schema, options=options) as out:
            for start in range(0, len(rows), _BATCH_ROWS):
                some = rows[start : start + _BATCH_ROWS]
                try:
                    batch = self._batch(some)
                except _UNFIT:
                    batch = self._batch(self._fitting(some, left_out))
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
        """What a nested column takes."""
        made = msgspec.to_builtins(self._decode(payload), builtin_types=KEPT, str_keys=True)
        return self._convert(made) if self._convert else made

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

    def join(self, base: Path | None, parts: Iterable[bytes], output: NewFile) -> Generator[None]:
        """Batches put together to row groups, of at most 65,536 rows and some 64 MiB."""
        with self._writer(output) as out:
            held: list[Any] = []
            rows = size = 0
            for batch in self._batches(base, parts):
                if held and (
                    rows + batch.num_rows > _GROUP_ROWS or size + batch.nbytes > _GROUP_BYTES
                ):
                    _put(out, held)
                    held, rows, size = [], 0, 0
                held.append(batch)
                rows += batch.num_rows
                size += batch.nbytes
                yield
            if held:
                _put(out, held)

    def _writer(self, output: NewFile) -> Any:
        if self._parquet:
            return PQ.ParquetWriter(output, self.schema, compression=_COMPRESSION)
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        return PA.ipc.new_file(output, self.schema, options=options)

    def _batches(self, base: Path | None, parts: Iterable[bytes]) -> Iterator[Any]:
        if base is not None:  # by Python: Arrow opens no names that are not UTF-8
            with naming(base), base.open("rb") as file:
                yield from self._batches_of(file)
        for part in parts:
            with PA.ipc.open_stream(part) as stream:
                yield from stream

    def _batches_of(self, file: BinaryIO) -> Iterator[Any]:
        if self._parquet:
            with PQ.ParquetFile(file) as earlier:
                for group in range(earlier.num_row_groups):  # or batches would span them
                    yield from earlier.iter_batches(_GROUP_ROWS, row_groups=[group])
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


def _put(out: Any, batches: list[Any]) -> None:
    out.write_table(PA.Table.from_batches(batches).combine_chunks())
