"""What a command shows: tables on a terminal, JSON lines in a pipe, errors in a line."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar, cast

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itwin_async import ITwinSession, Pager
from itwin_async.cli._options import Options
from itwin_async.cli._progress import Meter, progress
from itwin_async.cli._running import may_block

T = TypeVar("T")
BAD: Final = 6  # the exit code for what is done but for bad extended data
_SIGNED: Final = re.compile(r"(\bhttps?://[^\s?\"]+)\?[^\s\"]*")
_encode: Final = msgspec.json.Encoder().encode


def say(text: object) -> None:
    """One line on stderr, in the command's name."""
    line = " ".join(str(text).split())
    sys.stderr.write(f"itwin-async: {line}\n")
    sys.stderr.flush()


def write(data: bytes) -> None:
    """Bytes on stdout, now."""
    with may_block():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def write_line(item: object) -> None:
    """A line of JSON, as the platform spells it."""
    write(_encode(item) + b"\n")


def write_json(options: Options, text: bytes) -> None:
    """JSON as it came: readable on a terminal, else one line. What is no JSON goes out as it is."""
    try:
        if options.for_programs:
            write(msgspec.json.format(text, indent=-1) + b"\n")
        else:
            Console().print_json(msgspec.json.format(text).decode(), ensure_ascii=False)
    except msgspec.MsgspecError:
        write(text)


def write_record(options: Options, record: object) -> None:
    """One object: its fields below each other on a terminal, without links and what is absent."""
    if options.for_programs:
        write_line(record)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _fields(record).items():
        if value is not None and name != "_links":
            values = cast("list[object]", value) if isinstance(value, list) else [value]
            table.add_row(name, Text("\n").join(map(cell, values)))
    Console().print(table)


def _as_is(item: object) -> object:
    return item


async def write_list(
    options: Options,
    itwin: ITwinSession,
    title: str,
    columns: Sequence[str],
    items: Pager[T],
    *,
    limit: int | None,
    row: Callable[[T], object] = _as_is,
) -> None:
    """A list: each item as a line as soon as it comes, or a table of ``columns`` of all of them.

    ``row`` makes of an item what is shown of it; None is left out and counts as no item.
    """
    table = None if options.for_programs else _table(columns)
    meter = Meter("items")
    with progress(itwin, title, meter, lines=table is None):
        async with aclosing(aiter(items)) as running:
            async for item in running:
                made = row(item)
                if made is None:
                    continue
                if table is None:
                    write_line(made)
                else:
                    values = _fields(made)
                    cells = [cell(values.get(name)) for name in columns]
                    for each in cells:
                        each.no_wrap, each.overflow = True, "ellipsis"
                    table.add_row(*cells)
                meter.count += 1
                if meter.count == limit:
                    break
    if table is not None:
        Console().print(table if meter.count else f"No {title}.")


def _table(columns: Sequence[str]) -> Table:
    """A table that cuts texts where a terminal is narrow, and ids last: they are to be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name not in {"data", "description"}, overflow="fold")
    return table


def _fields(record: object) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = msgspec.to_builtins(record)
    return fields


def cell(value: object) -> Text:
    """A value in a table: no control characters, and no query of a URL, which may be a secret."""
    if value is None:
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    text = value if isinstance(value, str) else _encode(value).decode()
    text = _SIGNED.sub(r"\1?…", text)
    return Text("".join(c if c.isprintable() else " " for c in text))
