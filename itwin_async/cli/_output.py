"""What a command prints: tables on a terminal, JSON lines in a pipe."""

import os
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from itwin_async import ITwinSession, Pager, plain
from itwin_async._files.atomic import sync_file
from itwin_async.cli._cells import csv_line, list_row
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import ListOptions, Options
from itwin_async.cli._progress import progress
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import Stderr, Stdout
from itwin_async.cli._text import escaped, path_text

T = TypeVar("T")
_encode: Final = msgspec.json.Encoder().encode


def write(data: bytes) -> None:
    """Write bytes to stdout, `escaped` on a terminal."""
    out = Stdout()
    if out.isatty():
        out.write(escaped(data.decode(errors="replace"), out.encoding))
    else:
        out.write_bytes(data)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file: the old one stays until all of the new content is on the disk."""
    target = path.resolve()
    draft = target.with_name(f".itwin-async-{os.getpid()}.part")
    try:
        if (target.exists() and not target.is_file()) or not os.access(target.parent, os.W_OK):
            target.write_bytes(data)  # a device or a pipe, or no draft can stand beside it
            return
        try:
            with draft.open("xb") as file:
                file.write(data)
                sync_file(file)
            if target.exists():
                shutil.copymode(target, draft)
            try:
                draft.replace(target)
            except OSError:  # a mount point cannot be replaced
                target.write_bytes(data)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        error.filename, error.filename2 = path_text(path), None
        raise


def write_line(item: object) -> None:
    """Write a line of JSON, spelled as the platform spells it."""
    _write_encoded(_encode(item))


def write_json_line(data: bytes) -> None:
    """Write JSON as a line, digit for digit."""
    _write_encoded(msgspec.json.format(data, indent=-1))


def _write_encoded(data: bytes) -> None:
    out, line = Stdout(), data + b"\n"
    if out.isatty():
        write(line)
    else:
        out.write_json(line)


def write_json(options: Options, data: bytes) -> None:
    """Write JSON, indented on a terminal and else in one line; other bytes go out unchanged."""
    try:
        formatted = msgspec.json.format(data, indent=-1 if options.for_programs else 2)
    except msgspec.MsgspecError:
        write(data)
        return
    if options.for_programs:
        _write_encoded(formatted)
    else:
        from itwin_async.cli._screen import print_json  # noqa: PLC0415 - rich, for people only

        print_json(formatted.decode(errors="replace"))


def write_record(options: Options, record: object) -> None:
    """Write one object: on a terminal its fields, without links and absent values, else a line."""
    if options.for_programs:
        write_line(record)
    else:
        from itwin_async.cli._screen import print_record  # noqa: PLC0415 - rich, for people only

        print_record(_fields(record))


def show(options: Options, get: Callable[[ITwinSession], Coroutine[Any, Any, object]]) -> None:
    """Make one call and write its result; see `write_record`."""
    write_record(options, with_session(options, get))


def _unchanged(item: object) -> object:
    return item


def show_list(
    options: ListOptions,
    title: str,
    columns: Sequence[str],
    get: Callable[[ITwinSession], Pager[T]],
    *,
    limit: int | None,
    empty: str,
    row: Callable[[T], object] = _unchanged,
) -> None:
    """Write a list: each item as a line as it arrives, or one table of ``columns``.

    ``row`` turns an item into the record to show; None leaves it out, also of the ``limit``.
    ``empty`` says to people that there are none, and why that may be.
    """
    output = options.list_format
    rows = list[list[str]]()
    encoding = Stdout().encoding
    csv = _CsvLines(columns)

    async def work(itwin: CommandSession) -> int:
        meter = Meter("items")
        with progress(itwin, title, meter, prints_lines=output != "table"):
            async with aclosing(aiter(get(itwin))) as items:
                async for item in items:
                    record = row(item)
                    if record is None:
                        continue
                    if output == "jsonl":
                        write_line(record)
                    elif output == "csv":
                        csv.write(record)
                    else:
                        rows.append(list_row(columns, _fields(record, datetime), encoding))
                    meter.count += 1
                    if meter.count == limit:
                        break
        return meter.count

    count = with_session(options, work)
    if output == "csv" and not count:
        csv.write_header()
    if output == "table" and count:
        from itwin_async.cli._screen import print_list  # noqa: PLC0415 - rich, for people only

        print_list(columns, rows)
    elif output == "table":
        Stdout().write(f"{empty}\n")
    elif not count and Stderr().isatty():
        Stderr().write(f"{empty}\n")


class _CsvLines:
    """A table in CSV: the ``columns`` of a list come first, then the other fields of its items."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._is_begun = False

    def write(self, record: object) -> None:
        """Write an item, and before the first one the header."""
        try:
            fields: Mapping[str, object] = plain(record)
        except TypeError:  # no record of the platform's
            fields = _fields(record)
        if not self._is_begun:
            names = [name for name in fields if name != "_links" and name not in self._columns]
            self._columns += names
            self.write_header()
        write(csv_line([fields.get(name) for name in self._columns]))

    def write_header(self) -> None:
        """Write the names of the columns."""
        self._is_begun = True
        write(csv_line(self._columns))


def _fields(record: object, *kept: type) -> Mapping[str, object]:
    """Names and plain values, but for those of the types ``kept``. Raw JSON is text."""
    fields: Mapping[str, object] = msgspec.to_builtins(
        record, builtin_types=kept, enc_hook=lambda raw: bytes(raw).decode()
    )
    return fields
