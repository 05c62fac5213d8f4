"""Parquet and Arrow: an explicit schema, parts as Arrow streams, row groups of bounded size."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
from msgspec import inspect
from pyarrow import parquet

from itwin_async import ExtendedData
from itwin_async.export._rows import Row, json_text, unfit

PA: Final[Any] = pa  # which have no types
PQ: Final[Any] = parquet
_BATCH_ROWS: Final = 512
_GROUP_ROWS: Final = 65_536
_GROUP_BYTES: Final = 64 << 20
_COMPRESSION: Final = "zstd"
# What Arrow knows, and JSON that is kept as it came; everything else becomes what JSON has for it.
_KEPT: Final = (bytes, bytearray, memoryview, date, datetime, msgspec.Raw)
_SCALARS: Final[dict[type, Any]] = {
    inspect.StrType: PA.string(),
    inspect.IntType: PA.int64(),
    inspect.FloatType: PA.float64(),
    inspect.BoolType: PA.bool_(),
    inspect.BytesType: PA.binary(),
    inspect.ByteArrayType: PA.binary(),
    inspect.DateTimeType: PA.timestamp("us", tz="UTC"),
    inspect.DateType: PA.date32(),
    inspect.UUIDType: PA.string(),
}
Convert = Callable[[Any], Any]


class ArrowFile:
    """Rows of ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``, in columns."""

    suffix = ".arrows"

    def __init__(self, data_type: Any, *, parquet: bool) -> None:
        self._raw = data_type is None
        self._parquet = parquet
        self._nested = False
        self._convert: Convert | None = None
        self._decode = msgspec.json.Decoder(Any if data_type is None else data_type).decode
        column: Any = PA.string()
        if data_type is not None:
            info = _bare(inspect.type_info(data_type))
            self._nested = isinstance(info, _OBJECTS) and not _is_array_like(info)
            if self._nested:
                column, self._convert = _column(info)
        self.schema = PA.schema(
            [
                PA.field("imodel_id", PA.string(), nullable=False),
                PA.field("changeset_index", PA.int64(), nullable=False),
                PA.field("changeset_id", PA.string(), nullable=False),
                PA.field("data", column, nullable=False),
            ]
        )
        self.layout = hashlib.sha256(str(self.schema).encode()).hexdigest()[:8]

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

    def write(self, rows: Sequence[Row], part: Path) -> list[tuple[Row, str]]:
        """A stream of small batches. A value that its column cannot hold costs its own row."""
        left_out: list[tuple[Row, str]] = []
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        with (
            PA.OSFile(str(part), "wb") as file,
            PA.ipc.new_stream(file, self.schema, options=options) as out,
        ):
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
                left_out.append((row, f"its payload does not fit its column: {error}"))
            else:
                fit.append(row)
        return fit

    def _value(self, payload: bytes) -> Any:
        """What a nested column takes."""
        made = msgspec.to_builtins(self._decode(payload), builtin_types=_KEPT, str_keys=True)
        return self._convert(made) if self._convert else made

    def _batch(self, rows: Sequence[Row]) -> Any:
        columns = [
            [row.imodel_id for row in rows],
            [row.changeset_index for row in rows],
            [row.changeset_id for row in rows],
            [self._value(row.data) if self._nested else row.data for row in rows],
        ]
        arrays = [
            PA.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)
        ]
        return PA.record_batch(arrays, schema=self.schema)

    def join(self, parts: Sequence[Path], output: Path) -> Iterator[None]:
        """Batches put together to row groups, of at most 65,536 rows and some 64 MiB."""
        with self._writer(output) as out:
            held: list[Any] = []
            rows = size = 0
            for batch in self._batches(parts):
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

    def _writer(self, output: Path) -> Any:
        if self._parquet:
            return PQ.ParquetWriter(output, self.schema, compression=_COMPRESSION)
        options = PA.ipc.IpcWriteOptions(compression=_COMPRESSION)
        return PA.ipc.new_file(str(output), self.schema, options=options)

    def _batches(self, parts: Sequence[Path]) -> Iterator[Any]:
        for part in parts:
            if part.suffix == self.suffix:
                with PA.OSFile(str(part)) as file, PA.ipc.open_stream(file) as stream:
                    yield from stream
            elif self._parquet:
                with PQ.ParquetFile(part) as earlier:
                    for group in range(earlier.num_row_groups):  # or batches would span them
                        yield from earlier.iter_batches(_GROUP_ROWS, row_groups=[group])
            else:
                with PA.memory_map(str(part)) as file:
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


def _bare(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


_OBJECTS: Final = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
_LISTS: Final = (
    inspect.ListType,
    inspect.VarTupleType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.CollectionType,
)


def _is_array_like(info: inspect.Type) -> bool:
    return isinstance(info, inspect.StructType) and info.array_like


def _column(info: inspect.Type, above: tuple[Any, ...] = ()) -> tuple[Any, Convert | None]:
    """The Arrow type of a type, and what makes values fit it; JSON text where there is none."""
    info = _bare(info)
    if isinstance(info, inspect.UnionType):
        some = [each for each in info.types if not isinstance(each, inspect.NoneType)]
        if len(some) == 1 and len(info.types) == 2:
            kind, convert = _column(some[0], above)
            return kind, None if convert is None else partial(_if_some, convert)
    elif type(info) in _SCALARS:
        return _SCALARS[type(info)], None
    elif isinstance(info, inspect.EnumType | inspect.LiteralType):
        values = (
            [each.value for each in info.cls] if isinstance(info, inspect.EnumType) else info.values
        )
        for python, kind in ((str, PA.string()), (int, PA.int64())):
            if all(type(value) is python for value in values):
                return kind, None
    elif isinstance(info, _LISTS):
        kind, convert = _column(info.item_type, above)
        return PA.list_(kind), None if convert is None else partial(_each_item, convert)
    elif isinstance(info, inspect.DictType):
        if isinstance(_bare(info.key_type), inspect.StrType):
            kind, convert = _column(info.value_type, above)
            return PA.map_(PA.string(), kind), None if convert is None else partial(
                _each_value, convert
            )
    elif isinstance(info, _OBJECTS) and not _is_array_like(info) and info.cls not in above:
        return _struct(info, (*above, info.cls))
    return PA.string(), _as_json


def _struct(info: Any, above: tuple[Any, ...]) -> tuple[Any, Convert | None]:
    fields: list[Any] = []
    converts: dict[str, Convert] = {}
    defaults: dict[str, Any] = {}  # which the struct leaves out
    omitted = isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults
    if isinstance(info, inspect.StructType) and info.tag_field is not None:
        kind = PA.int64() if isinstance(info.tag, int) else PA.string()
        fields.append(PA.field(info.tag_field, kind))
    for each in info.fields:
        kind, convert = _column(each.type, above)
        fields.append(PA.field(each.encode_name, kind))
        if convert is not None:
            converts[each.encode_name] = convert
        if omitted and each.default is not msgspec.NODEFAULT:
            defaults[each.encode_name] = each.default
        elif omitted and each.default_factory is not msgspec.NODEFAULT:
            defaults[each.encode_name] = each.default_factory()
    if not fields:
        return PA.string(), _as_json  # Parquet has no column without a field

    def converted(value: dict[str, Any]) -> dict[str, Any]:
        value = {**built, **value}
        return {
            name: converts[name](each) if name in converts else each for name, each in value.items()
        }

    built = msgspec.to_builtins(defaults, builtin_types=_KEPT, str_keys=True)
    return PA.struct(fields), converted if converts or built else None


def _if_some(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _each_item(convert: Convert, values: list[Any]) -> list[Any]:
    return [convert(each) for each in values]


def _each_value(convert: Convert, values: dict[str, Any]) -> dict[str, Any]:
    return {key: convert(each) for key, each in values.items()}


def _as_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
