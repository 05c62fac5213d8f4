"""The files of a data set: what their names and footers say, and how they are made.

A part holds entries of one iModel. Its footer has what was handed over of that iModel with it and
all parts before: so a file is a commit. Everything here blocks.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from pyarrow import parquet

from itwin_async._rows.columns import PA

PQ: Final[Any] = parquet  # which has no types
FOOTER: Final = b"itwin_async.sync"
_NAME: Final = re.compile(r"(.+)\.(\d{5,})\.parquet")
_COMPRESSION: Final = "zstd"
_VERSION: Final = 1


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What a part says of itself.

    ``checkpoint`` is that of its iModel. ``bad_bytes`` of the iModel's file of bad rows belong to
    this part and those before it.
    """

    version: int = _VERSION
    imodel_id: str
    checkpoint: str
    bad_bytes: int = 0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part as it was found: its place among those of its iModel, and its contents."""

    name: str
    number: int
    footer: Footer
    rows: int
    size: int
    groups: int  # of rows
    schema: Any


def part_name(imodel_id: str, number: int) -> str:
    """The name of a part: an id has no other characters than a name may have, or is quoted."""
    return f"{quote(imodel_id, safe='')}.{number:05}.parquet"


def parse_name(name: str) -> tuple[str, int] | None:
    """The iModel of a part and its number; None for the name of another file."""
    found = _NAME.fullmatch(name)
    return None if found is None else (unquote(found[1]), int(found[2]))


def read_part(name: str, file: Any) -> Part:
    """Read the footer of a part; `ValueError` if no sync of this version wrote it."""
    parsed = parse_name(name)
    try:
        found = PQ.ParquetFile(file)
        metadata: Mapping[bytes, bytes] = found.metadata.metadata or {}
        footer = msgspec.json.decode(metadata[FOOTER], type=Footer)
    except (PA.ArrowException, KeyError, msgspec.MsgspecError):
        raise _foreign(name) from None
    if parsed is None or footer.version != _VERSION or footer.imodel_id != parsed[0]:
        raise _foreign(name)
    return Part(
        name=name,
        number=parsed[1],
        footer=footer,
        rows=found.metadata.num_rows,
        size=sum(
            found.metadata.row_group(number).total_byte_size
            for number in range(found.metadata.num_row_groups)
        ),
        groups=found.metadata.num_row_groups,
        schema=found.schema_arrow.remove_metadata(),
    )


def _foreign(name: str) -> ValueError:
    return ValueError(f"{name} was not made by a sync of this version: move it away")


def read_table(file: Any) -> Any:
    """The rows of a part."""
    return PQ.ParquetFile(file).read().replace_schema_metadata(None)


def encode_part(
    table: Any, footer: Footer, *, longer_than: bytes = b"", with_its_rows: bool = True
) -> bytes:
    """The bytes of a part.

    One that is to replace another begins with all bytes of that one, its footer too, and goes on
    with these rows and a footer for all; or for these alone, without ``with_its_rows``. Some
    readers open a file several times: what they know of the first footer stays true.
    """
    schema = table.schema.with_metadata({FOOTER: msgspec.json.encode(footer)})
    data = _encode(table.cast(schema), schema, longer_than)
    if longer_than and with_its_rows:
        # A row group has its place in the file; so those of both go into one footer.
        whole = _metadata(_encode(None, schema, b""))
        whole.append_row_groups(_metadata(longer_than))
        whole.append_row_groups(_metadata(data))
        sink = PA.BufferOutputStream()
        whole.write_metadata_file(sink)
        data += sink.getvalue().to_pybytes()
    return data


def _encode(table: Any, schema: Any, before: bytes) -> bytes:
    sink = PA.BufferOutputStream()
    with PQ.ParquetWriter(sink, schema, compression=_COMPRESSION) as writer:
        sink.write(before[sink.tell() :])  # both begin with the same magic number
        if table is not None:
            writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _metadata(data: bytes) -> Any:
    return PQ.read_metadata(PA.BufferReader(data))


def merged_schema(known: Any, wanted: Any) -> Any:
    """A schema with the columns of both; `ValueError` where a field of ``data`` has two types."""
    data_type = merged_type(known.field("data").type, wanted.field("data").type)
    longer = known if len(known) >= len(wanted) else wanted
    return longer.set(longer.get_field_index("data"), _data_field(data_type))


def _data_field(data_type: Any) -> Any:
    return PA.field("data", data_type, nullable=False)


def merged_type(known: Any, wanted: Any, path: str = "data") -> Any:
    """A type with the fields of both; `ValueError` where a field has two types."""
    if known.equals(wanted) or PA.types.is_null(wanted):
        return known
    if PA.types.is_null(known):
        return wanted
    if PA.types.is_struct(known) and PA.types.is_struct(wanted):
        fields = {field.name: field.type for field in known}
        for field in wanted:
            fields[field.name] = (
                merged_type(fields[field.name], field.type, f"{path}.{field.name}")
                if field.name in fields
                else field.type
            )
        return PA.struct([PA.field(name, kind) for name, kind in fields.items()])
    if PA.types.is_list(known) and PA.types.is_list(wanted):
        return PA.list_(merged_type(known.value_type, wanted.value_type, path))
    if PA.types.is_map(known) and PA.types.is_map(wanted):
        return PA.map_(PA.string(), merged_type(known.item_type, wanted.item_type, path))
    raise ValueError(f"{path} is {known} in this data set, and {wanted} now")


def conform(table: Any, schema: Any) -> Any:
    """The same rows, with null in the columns, and the fields of ``data``, that they have not."""
    if not table.schema.field("data").type.equals(schema.field("data").type):
        index, field = table.schema.get_field_index("data"), schema.field("data")
        values = PA.array(table.column(index).to_pylist(), field.type)
        table = table.set_column(index, field, values)
    for field in schema:
        if field.name not in table.schema.names:
            table = table.append_column(field, PA.nulls(table.num_rows, field.type))
    return table
