"""The formats of files; of these, JSON lines."""

from collections.abc import Generator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from itwin_async import Changeset, ExtendedData
from itwin_async._files.atomic import PIECE_BYTES, SyncedFile, naming_errors
from itwin_async._rows.entries import Row, changeset_values, json_text, unfit
from itwin_async._rows.types import schema_digest

_ROWS_PER_WRITE: Final = 512
FileFormat: TypeAlias = Literal["jsonl", "parquet", "arrow"]


class Format(Protocol):
    """How a file of one format is written: part by part, and then as a whole."""

    suffix: str
    """The suffix of a part."""
    schema_digest: str
    """A digest of the fields of ``data_type``, and of the columns where there are any."""

    def encode(
        self, entry: ExtendedData[Any], changeset: Changeset | None = None
    ) -> tuple[Any, int]:
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


class _LineWithChangeset(_Line):
    push_date_time: datetime | None
    task_id: str | None
    changed_files: tuple[str, ...] | None


class JsonLines:
    """One JSON object a line: ``imodel_id``, ``changeset_index``, ``changeset_id``, ``data``.

    With ``changesets`` there are the names of `changeset_values` as well.
    """

    suffix = ".jsonl"

    def __init__(self, data_type: Any, *, changesets: bool = False) -> None:
        self._raw = data_type is None
        self._changesets = changesets
        self.schema_digest = schema_digest(data_type)

    def encode(
        self, entry: ExtendedData[Any], changeset: Changeset | None = None
    ) -> tuple[bytes, int]:
        """The whole line, without its end."""
        data = msgspec.Raw(json_text(entry).encode()) if self._raw else entry.data
        line = _Line(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)
        if self._changesets:
            pushed, task_id, files = changeset_values(changeset)
            line = _LineWithChangeset(
                entry.imodel_id,
                entry.changeset_index,
                entry.changeset_id,
                data,
                push_date_time=pushed,
                task_id=task_id,
                changed_files=files,
            )
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
