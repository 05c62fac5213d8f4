"""How values look in a notebook: small tables of escaped HTML, without colours of their own.

No query of a URL is shown: it may be a signature. No I/O.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from itertools import islice
from typing import Final, cast

import msgspec

from itwin_async._core.redaction import unsigned_value

_ROWS: Final = 20  # items of a page
_COLUMNS: Final = 8
_LONGEST: Final = 100  # characters of a cell
_READ: Final = 4 * _LONGEST  # characters that are looked at to fill it
_PARTS: Final = 5  # of a list or dict in a cell
_LEFT: Final = ' style="text-align:left"'  # notebooks align the text of tables to the right


def fields_table(name: str, fields: Iterable[tuple[str, object]]) -> str:
    """Two columns: the fields that are set, and what they hold."""
    rows = (_head(field) + _cell(value) for field, value in fields if value is not None)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<b>{_html(name)}</b><table><tbody>{body}</tbody></table>"


def rows_table(title: str, items: Sequence[object]) -> str:
    """A row for each of the first items, a column for each of their main fields."""
    rows = [_fields(item) for item in items[:_ROWS]]
    columns = list(islice(dict.fromkeys(name for row in rows for name in row), _COLUMNS))
    head = "".join(map(_head, columns))
    cells = ("".join(_cell(row.get(name)) for name in columns) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    more = f"<p>… and {len(items) - _ROWS:,} more</p>" if len(items) > _ROWS else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<b>{_html(title)}</b>{table if rows else ''}{more}"


def hint(title: str, *codes: str) -> str:
    """What a value is, and what to write to get at what it stands for."""
    codes = tuple(f"<code>{escape(code)}</code>" for code in codes)
    return f"<b>{_html(title)}</b><p>{' or '.join(codes)}</p>"


def _fields(item: object) -> dict[str, object]:
    if isinstance(item, msgspec.Struct):
        return dict(item.__rich_repr__())
    return cast("dict[str, object]", item) if isinstance(item, dict) else {"item": item}


def _head(name: str) -> str:
    return f"<th{_LEFT}>{_html(name)}</th>"


def _cell(value: object) -> str:
    return f"<td{_LEFT}>{_html(value)}</td>"


def _html(value: object) -> str:
    text = _text(value)[:_READ]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return escape(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…")


def _text(value: object, *, nested: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return unsigned_value(value[:_READ])
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list | tuple | dict):
        return "…" if nested else _parts(cast("Sequence[object] | dict[object, object]", value))
    return unsigned_value(repr(value)[:_READ])


def _parts(values: Sequence[object] | dict[object, object]) -> str:
    shown = [
        f"{_text(part, nested=True)}: {_text(values[part], nested=True)}"
        if isinstance(values, dict)
        else _text(part, nested=True)
        for part in islice(values, _PARTS)
    ]
    more = [f"… ({len(values):,} in all)"] if len(values) > _PARTS else []
    return ", ".join(shown + more)
