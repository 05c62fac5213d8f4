"""Rows, bad rows, and the formats of files; of these, JSON lines."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from itwin_async import ExtendedData, PayloadError
from itwin_async._files.atomic import PIECE_BYTES, SyncedFile, naming_errors
from itwin_async.export._types import schema_digest

_ROWS_PER_WRITE: Final = 512
FileFormat: TypeAlias = Literal["jsonl", "parquet", "arrow"]


@dataclass(frozen=True, slots=True)
class Row:
    """An entry to be written; ``size`` in bytes is what it occupies in memory until then."""

    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: Any
    size: int


class BadRow(msgspec.Struct, frozen=True):
    """An entry that could not be written, and why.

    ``payload`` is base64, where there is one; else ``data`` is what came in its place.
    """

    imodel_id: str
    changeset_index: int
    changeset_id: str
    reason: str
    payload: bytes | None
    data: Any = None


class Format(Protocol):
    """How a file of one format is written: part by part, and then as a whole."""

    suffix: str
    """The suffix of a part."""
    schema_digest: str
    """A digest of the fields of ``data_type``, and of the columns where there are any."""

    def encode(self, entry: ExtendedData[Any]) -> tuple[Any, int]:
        """The payload as a row holds it, and its size in bytes; `PayloadError` if it is bad."""
        ...

    def write_part(self, rows: Sequence[Row], part: SyncedFile) -> list[tuple[Row, str]]:
        """Write a part. Returns the rows that do not fit the format's types, and why."""
        ...

    def join_parts(
        self, base: Path | None, parts: Iterable[bytes], output: SyncedFile
    ) -> Generator[None]:
        """Write the parts to one file, behind an earlier output if there is one, step by step."""
        ...


class _Line(msgspec.Struct):
    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: Any


def json_text(entry: ExtendedData[Any]) -> str:
    """The payload as it came, in one line; for lists of ``msgspec.Raw``."""
    payload = bytes(entry.data)
    if b"\n" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise unfit(entry, f"its payload is not UTF-8: {error.reason}") from None


def unfit(entry: ExtendedData[Any], reason: str) -> PayloadError:
    """The error for a payload that was decoded, and still cannot be written."""
    error = PayloadError(
        f"extended data of changeset {entry.changeset_index} of iModel {entry.imodel_id}: {reason}"
    )
    error.imodel_id, error.changeset_id = entry.imodel_id, entry.changeset_id
    error.changeset_index = entry.changeset_index
    return error


def bad_row(entry: ExtendedData[Any], reason: str) -> BadRow:
    """The bad row for an entry that cannot be written."""
    payload: bytes | None = None
    data: Any = None
    try:
        payload = entry.payload
    except PayloadError as error:
        data = error.received
    return BadRow(entry.imodel_id, entry.changeset_index, entry.changeset_id, reason, payload, data)


def unfit_row(row: Row, reason: str) -> BadRow:
    """The bad row for a row that its part cannot hold."""
    payload = row.data if isinstance(row.data, bytes) else row.data.encode()
    return BadRow(row.imodel_id, row.changeset_index, row.changeset_id, reason, payload)


class JsonLines:
    """One JSON object a line: ``imodel_id``, ``changeset_index``, ``changeset_id``, ``data``."""

    suffix = ".jsonl"

    def __init__(self, data_type: Any) -> None:
        self._raw = data_type is None
        self.schema_digest = schema_digest(data_type)

    def encode(self, entry: ExtendedData[Any]) -> tuple[bytes, int]:
        """The whole line, without its end."""
        data = msgspec.Raw(json_text(entry).encode()) if self._raw else entry.data
        line = _Line(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)
        try:
            encoded = msgspec.json.encode(line)
            if b"\n" in encoded or b"\r" in encoded:  # only JSON that is kept as it came
                encoded = msgspec.json.format(encoded, indent=-1)
            encoded.decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise unfit(entry, f"its payload does not encode: {error}") from None
        return encoded, len(encoded)

    def write_part(self, rows: Sequence[Row], part: SyncedFile) -> list[tuple[Row, str]]:
        """Write lines, some hundred at a time."""
        for start in range(0, len(rows), _ROWS_PER_WRITE):
            part.write(b"".join(row.data + b"\n" for row in rows[start : start + _ROWS_PER_WRITE]))
        return []

    def join_parts(
        self, base: Path | None, parts: Iterable[bytes], output: SyncedFile
    ) -> Generator[None]:
        """Write one after the other."""
        return concatenate(base, parts, output)


def concatenate(base: Path | None, parts: Iterable[bytes], output: SyncedFile) -> Generator[None]:
    """Write the bytes of all to one file, step by step."""
    if base is not None:
        with naming_errors(base), base.open("rb") as source:
            while piece := source.read(PIECE_BYTES):
                output.write(piece)
                yield
    for part in parts:
        output.write(part)
        yield
