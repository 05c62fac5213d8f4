"""What a row is, and JSON lines. A format knows its rows, its parts, and how to join them."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from itwin_async import ExtendedData, PayloadError
from itwin_async.export._files import PIECE, NewFile, naming
from itwin_async.export._types import fields_digest

_WRITTEN_ROWS: Final = 512
FileFormat: TypeAlias = Literal["jsonl", "parquet", "arrow"]


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it is written; ``size`` in bytes is what it takes to hold it until then."""

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
    """A format of a file."""

    suffix: str
    """Of a part."""
    layout: str
    """What tells the fields of one ``data_type`` from another's, where the file depends on it."""

    def data(self, entry: ExtendedData[Any]) -> tuple[Any, int]:
        """What is kept of a payload until it is written, and its size; `PayloadError` if bad."""
        ...

    def write(self, rows: Sequence[Row], part: NewFile) -> list[tuple[Row, str]]:
        """Write a part; the rows that do not fit the format's types, and why."""
        ...

    def join(self, base: Path | None, parts: Iterable[bytes], output: NewFile) -> Generator[None]:
        """Make one file of an output made earlier, if any, and parts, step by step."""
        ...


class _Line(msgspec.Struct):
    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: Any


def json_text(entry: ExtendedData[Any]) -> str:
    """The payload as it came, in one line of text; for lists of ``msgspec.Raw``."""
    payload = bytes(entry.data)
    if b"\n" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise unfit(entry, f"its payload is not UTF-8: {error.reason}") from None


def unfit(entry: ExtendedData[Any], reason: str) -> PayloadError:
    """The error for a payload that is what was asked for, and still cannot be written."""
    error = PayloadError(
        f"extended data of changeset {entry.changeset_index} of iModel {entry.imodel_id}: {reason}"
    )
    error.imodel_id, error.changeset_id = entry.imodel_id, entry.changeset_id
    error.changeset_index = entry.changeset_index
    return error


def bad_row(entry: ExtendedData[Any], reason: str) -> BadRow:
    """An entry that cannot be written."""
    payload: bytes | None = None
    data: Any = None
    try:
        payload = entry.payload
    except PayloadError as error:
        data = error.received
    return BadRow(entry.imodel_id, entry.changeset_index, entry.changeset_id, reason, payload, data)


def unfit_row(row: Row, reason: str) -> BadRow:
    """A row that its part could not hold."""
    payload = row.data if isinstance(row.data, bytes) else row.data.encode()
    return BadRow(row.imodel_id, row.changeset_index, row.changeset_id, reason, payload)


class JsonLines:
    """One JSON object a line: ``imodel_id``, ``changeset_index``, ``changeset_id``, ``data``."""

    suffix = ".jsonl"

    def __init__(self, data_type: Any) -> None:
        self._raw = data_type is None
        self.layout = fields_digest(data_type)

    def data(self, entry: ExtendedData[Any]) -> tuple[bytes, int]:
        """The whole line."""
        data = msgspec.Raw(json_text(entry).encode()) if self._raw else entry.data
        line = _Line(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)
        try:
            text = msgspec.json.encode(line)
            if b"\n" in text or b"\r" in text:  # only JSON that is kept as it came
                text = msgspec.json.format(text, indent=-1)
            text.decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise unfit(entry, f"its payload does not encode: {error}") from None
        return text, len(text)

    def write(self, rows: Sequence[Row], part: NewFile) -> list[tuple[Row, str]]:
        """Lines, some hundred at a time."""
        for start in range(0, len(rows), _WRITTEN_ROWS):
            part.write(b"".join(row.data + b"\n" for row in rows[start : start + _WRITTEN_ROWS]))
        return []

    def join(self, base: Path | None, parts: Iterable[bytes], output: NewFile) -> Generator[None]:
        """One after the other."""
        return concatenated(base, parts, output)


def concatenated(base: Path | None, parts: Iterable[bytes], output: NewFile) -> Generator[None]:
    """The bytes of all in one file, a few at a time."""
    if base is not None:
        with naming(base), base.open("rb") as source:
            while piece := source.read(PIECE):
                output.write(piece)
                yield
    for part in parts:
        output.write(part)
        yield
