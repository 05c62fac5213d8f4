"""Tables for terminals of any width, which never break an id. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from itwin_async.cli._cells import ONE_LINE_COLUMNS, cell_text

_GAP: Final = 2  # spaces between columns
_MIN_COLUMNS: Final = 2  # a narrow table keeps these
_MIN_ONE_LINE_WIDTH: Final = 12
_MIN_FOLDED_WIDTH: Final = 17  # as wide as a date


def list_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """A table of the columns that fit into ``width``; without room for two, a record for each row.

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
        one_line = name in ONE_LINE_COLUMNS
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if one_line else "fold"
        table.add_column(name, width=size, no_wrap=one_line, overflow=overflow)
    for row in rows:
        table.add_row(*(Text(text) for text in row[: len(widths)]))
    return table


def record_table(fields: Mapping[str, object], width: int, encoding: str = "utf-8") -> Table:
    """A table with a line for each field, without links and absent values; ids are not broken."""
    texts = {
        name: "\n".join(cell_text(item, encoding) for item in cast("Sequence[object]", value))
        if isinstance(value, list | tuple)
        else cell_text(value, encoding)
        for name, value in fields.items()
        if value is not None and name != "_links"
    }
    longest_id = max((cell_len(text) for name, text in texts.items() if _is_id(name)), default=0)
    side_by_side = max(map(len, texts), default=0) + _GAP + longest_id <= width
    table = Table.grid(padding=(0, _GAP))
    if side_by_side:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in texts.items():
        cells = (Text(name, style="bold"), Text(text))
        for row in [cells] if side_by_side else [(cell,) for cell in cells]:
            table.add_row(*row)
    return table


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], available: int) -> list[int]:
    """Widths of the columns that fit, the last ones shrunk first; none if not even two fit."""
    widths = [max(map(cell_len, texts)) for texts in zip(columns, *rows, strict=True)]
    min_widths = [
        width if _is_id(name) else min(width, _min_width(name))
        for name, width in zip(columns, widths, strict=True)
    ]
    while len(widths) > _MIN_COLUMNS and _total(min_widths) > available:
        del min_widths[-1], widths[-1]
    excess = _total(widths) - available
    for index in reversed(range(len(widths))):
        shrink = min(max(excess, 0), widths[index] - min_widths[index])
        widths[index] -= shrink
        excess -= shrink
    return widths if excess <= 0 else []


def _min_width(name: str) -> int:
    return _MIN_ONE_LINE_WIDTH if name in ONE_LINE_COLUMNS else _MIN_FOLDED_WIDTH


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _is_id(name: str) -> bool:
    return name in {"id", "uniqueName", "number"} or name.endswith(("Id", "_id"))
