"""Values as text for a table's cells: no control characters, and no query of a URL.

The query may be a signature.
"""

import contextlib
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import msgspec

from itwin_async._core.redaction import unsigned_value
from itwin_async.cli._text import printable

ONE_LINE_COLUMNS: Final = {"data", "description"}  # cut where they do not fit, instead of folded
_MAX_CELL: Final = 1_000  # characters of a cell in such a column


def list_row(
    columns: Sequence[str], fields: Mapping[str, object], encoding: str = "utf-8"
) -> list[str]:
    """The cells of an item's row."""
    texts = [cell_text(fields.get(name), encoding) for name in columns]
    return [
        f"{text[:_MAX_CELL]}…" if name in ONE_LINE_COLUMNS and len(text) > _MAX_CELL else text
        for name, text in zip(columns, texts, strict=True)
    ]


def csv_line(values: Sequence[object]) -> bytes:
    """A line of CSV: text as it is, lists and objects as JSON, nothing for None."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_csv_cell, values))
    return line.getvalue().encode()


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def cell_text(value: object, encoding: str = "utf-8") -> str:
    """A value of a record in one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return _date(value)
    if isinstance(value, str):
        return printable(unsigned_value(value), encoding)
    return printable(msgspec.json.encode(_without_queries(value)).decode(), encoding)


def _date(value: datetime) -> str:
    """A date to the minute, in UTC."""
    with contextlib.suppress(OverflowError):  # at the edge of the calendar UTC has no such date
        value = value.astimezone(UTC)
    return value.isoformat(sep=" ", timespec="minutes").replace("+00:00", "Z")


def _without_queries(value: object) -> object:
    """JSON without the queries of URLs. Once it is encoded, the end of a URL is uncertain."""
    if isinstance(value, str):
        return unsigned_value(value)
    if isinstance(value, list | tuple):
        return [_without_queries(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {unsigned_value(name): _without_queries(item) for name, item in items}
    return value
