"""Tables that keep ids whole, and texts that a terminal may be given: nothing in them is obeyed.

No query of a URL is shown: it may be a signature. No I/O.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import msgspec
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from itwin_async._core.redaction import unsigned_value

_GAP: Final = 2  # spaces between columns
_KEPT: Final = 2  # columns that a narrow table never leaves out
_CUT: Final = {"data": 12, "description": 12}  # shown in one line, in at least so many characters
_FOLDED: Final = 17  # characters that the others have at least: a date's
_LONGEST: Final = 1_000  # characters of a cell that is cut


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Text in one line: a space for a control character, ``\xfc`` for what cannot be encoded."""
    shown = "".join(c if c.isprintable() or _is_lone_byte(c) else " " for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def path_text(path: os.PathLike[str]) -> str:
    r"""A path as text that can be encoded; a byte that is not UTF-8 is shown as ``\xff``."""
    return os.fsencode(path).decode(errors="backslashreplace")


def escaped(text: str, encoding: str = "utf-8") -> str:
    r"""Lines of text, usually JSON, with control characters as JSON escapes them: ``\u009b``.

    So is what cannot be encoded.
    """
    return "".join(
        c if c in "\n\t" or (c.isprintable() and _can_encode(c, encoding)) else json.dumps(c)[1:-1]
        for c in text
    )


def _can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _is_lone_byte(character: str) -> bool:
    """Whether it stands for a byte of a path or an argument that is not UTF-8."""
    return "\udc80" <= character <= "\udcff"


def list_row(
    columns: Sequence[str], fields: Mapping[str, object], encoding: str = "utf-8"
) -> list[str]:
    """What a table holds of an item."""
    texts = [_text(fields.get(name), encoding) for name in columns]
    return [
        f"{text[:_LONGEST]}…" if name in _CUT and len(text) > _LONGEST else text
        for name, text in zip(columns, texts, strict=True)
    ]


def list_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """The rows, as far as ``width`` allows; else the fields of each below each other.

    Columns stand in the order of their importance, ids among the first two.
    """
    widths = _widths(columns, rows, width)
    if not widths:
        records = (record_table(dict(zip(columns, row, strict=True)), width) for row in rows)
        return Group(*(part for record in records for part in (record, "")))
    dropped = ", ".join(columns[len(widths) :])
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
        caption=f"Too narrow for: {dropped}. See --json." if dropped else None,
        caption_justify="left",
    )
    for name, size in zip(columns, widths, strict=False):
        cut = name in _CUT
        table.add_column(name, width=size, no_wrap=cut, overflow="ellipsis" if cut else "fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row[: len(widths)]))
    return table


def record_table(fields: Mapping[str, object], width: int, encoding: str = "utf-8") -> Table:
    """Fields below each other, without links and what is absent; an id is never broken."""
    texts = {
        name: "\n".join(_text(each, encoding) for each in cast("Sequence[object]", value))
        if isinstance(value, list | tuple)
        else _text(value, encoding)
        for name, value in fields.items()
        if value is not None and name != "_links"
    }
    longest_id = max((cell_len(text) for name, text in texts.items() if _is_id(name)), default=0)
    beside = max(map(len, texts), default=0) + _GAP + longest_id <= width
    table = Table.grid(padding=(0, _GAP))
    if beside:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in texts.items():
        cells = (Text(name, style="bold"), Text(text))
        for row in [cells] if beside else [(each,) for each in cells]:
            table.add_row(*row)
    return table


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Of as many columns as fit, but the first ones at least; of none where not even they do."""
    sizes = [max(map(cell_len, texts)) for texts in zip(columns, *rows, strict=True)]
    least = [
        size if _is_id(name) else min(size, _CUT.get(name, _FOLDED))
        for name, size in zip(columns, sizes, strict=True)
    ]
    while len(least) > _KEPT and sum(least) + _GAP * (len(least) - 1) > width:
        del least[-1], sizes[-1]
    over = sum(sizes) + _GAP * (len(sizes) - 1) - width
    for nth in reversed(range(len(sizes))):  # the last ones give first
        given = min(max(over, 0), sizes[nth] - least[nth])
        sizes[nth] -= given
        over -= given
    return sizes if over <= 0 else []


def _is_id(name: str) -> bool:
    return name in {"id", "uniqueName", "number"} or name.endswith(("Id", "_id"))


def _text(value: object, encoding: str) -> str:
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
    """To the minute, in UTC; at the edge of the calendar, where that has no date, as it came."""
    with contextlib.suppress(OverflowError):
        value = value.astimezone(UTC)
    return value.isoformat(sep=" ", timespec="minutes").replace("+00:00", "Z")


def _without_queries(value: object) -> object:
    """Any JSON with `unsigned_value` texts: inside a text of JSON, a URL has no sure end."""
    if isinstance(value, str):
        return unsigned_value(value)
    if isinstance(value, list | tuple):
        return [_without_queries(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {unsigned_value(name): _without_queries(each) for name, each in items}
    return value
