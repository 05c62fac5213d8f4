"""The Arrow columns of extended data: their schema, and batches of rows."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect

from itwin_async._core.json import unwrap_annotated
from itwin_async._rows.columns import (
    KEPT,
    OBJECTS,
    PA,
    UNFIT,
    Convert,
    column,
    is_array_like,
    misfit,
)
from itwin_async._rows.entries import Row, changeset_values, one_line_json, unfit
from itwin_async._rows.types import schema_digest
from itwin_async.imodels import ExtendedData

CHANGESET_FIELDS: Final = (
    PA.field("push_date_time", PA.timestamp("us", tz="UTC")),
    PA.field("task_id", PA.string()),
    PA.field("changed_files", PA.list_(PA.string())),
)


class ExtendedDataColumns:
    """Rows of ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``, in columns.

    With ``changesets`` there are those of `changeset_values` as well.

    ``data`` is a nested column where ``data_type`` has fields. It is JSON text where it has none or
    is None, and then the payload as it came.
    """

    def __init__(self, data_type: Any, *, changesets: bool = False) -> None:
        self._raw = data_type is None
        self._changesets = changesets
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
                *(CHANGESET_FIELDS if changesets else ()),
            ]
        )
        columns = hashlib.sha256(str(self.schema).encode()).hexdigest()[:8]
        self.schema_digest = f"{schema_digest(data_type)}{columns}"

    def encode(self, entry: ExtendedData[Any]) -> tuple[Any, int]:
        """What a row holds of the payload, and its size in bytes; `PayloadError` if it is bad.

        That is JSON text; or the payload itself for a nested column, once it was seen to decode.
        """
        data, payload = entry.data, entry.payload  # these raise where it is bad
        try:
            return self.encode_payload(data, payload)
        except ValueError as error:
            raise unfit(entry, str(error)) from None

    def encode_payload(self, data: Any, payload: bytes) -> tuple[Any, int]:
        """What a row holds of a payload that decodes to ``data``, and its size in bytes.

        Raises `ValueError` where it cannot be written.
        """
        if self._raw:
            text = one_line_json(payload)
            return text, len(text)
        if self._nested:
            # Bytes until it is written: many small objects would keep the collector busy.
            return payload, len(payload)
        try:
            return msgspec.json.encode(data).decode(), len(payload)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"its payload does not encode: {error}") from None

    def batch(self, rows: Sequence[Row], left_out: list[tuple[Row, str]]) -> Any:
        """A record batch of rows, without those that do not fit their columns, and why."""
        try:
            return self._batch(rows)
        except UNFIT:
            return self._batch(self._fitting(rows, left_out))

    def _fitting(self, rows: Sequence[Row], left_out: list[tuple[Row, str]]) -> list[Row]:
        fit: list[Row] = []
        for row in rows:
            try:
                self._batch([row])
            except UNFIT as error:
                why = self._misfit(row) or error
                left_out.append((row, f"its payload does not fit its column: {why}"))
            else:
                fit.append(row)
        return fit

    def _misfit(self, row: Row) -> str | None:
        try:
            values = [column[0] for column in self._columns([row])]
        except UNFIT:
            return None
        return misfit(dict(zip(self.schema.names, values, strict=True)), PA.struct(self.schema))

    def _value(self, payload: bytes) -> Any:
        """The value of a nested column for a payload."""
        value = msgspec.to_builtins(self._decode(payload), builtin_types=KEPT, str_keys=True)
        return self._convert(value) if self._convert else value

    def _columns(self, rows: Sequence[Row]) -> list[Sequence[Any]]:
        return [
            [row.imodel_id for row in rows],
            [row.changeset_index for row in rows],
            [row.changeset_id for row in rows],
            [self._value(row.data) if self._nested else row.data for row in rows],
            *self._changeset_columns(rows),
        ]

    def _changeset_columns(self, rows: Sequence[Row]) -> list[Sequence[Any]]:
        if not self._changesets:
            return []
        values = [changeset_values(row.changeset) for row in rows]
        return [[row[number] for row in values] for number in range(len(CHANGESET_FIELDS))]

    def _batch(self, rows: Sequence[Row]) -> Any:
        arrays = [
            PA.array(values, field.type)
            for values, field in zip(self._columns(rows), self.schema, strict=True)
        ]
        return PA.record_batch(arrays, schema=self.schema)
