"""What a command shows: tables on a terminal, JSON lines in a pipe, errors in a line."""

import os
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter

from itwin_async import ITwinSession, Pager
from itwin_async.cli._options import Options, with_session
from itwin_async.cli._progress import Meter, progress
from itwin_async.cli._stdio import Stdout, as_file
from itwin_async.cli._tables import escaped, list_row, list_table, path_text, record_table

T = TypeVar("T")
BAD: Final = 6  # the exit code for what is done but for bad extended data
_encode: Final = msgspec.json.Encoder().encode


class Screen(Console):
    """Standard output for people. A reader that went away is an error like any other."""

    def __init__(self) -> None:
        super().__init__(file=as_file(Stdout()))

    def on_broken_pipe(self) -> NoReturn:
        """rich would end the process here, with a code of its own."""
        raise BrokenPipeError


def write(data: bytes) -> None:
    """Bytes on stdout, now. A terminal gets them `escaped`."""
    out = Stdout()
    if out.isatty():
        out.write(escaped(data.decode(errors="replace"), out.encoding))
    else:
        out.write_bytes(data)


def write_file(path: Path, data: bytes) -> None:
    """Write a file as a whole: what is there stays until all of its new content is on the disk."""
    target = path.resolve()
    draft = target.with_name(f".itwin-async-{os.getpid()}.part")
    try:
        if (target.exists() and not target.is_file()) or not os.access(target.parent, os.W_OK):
            target.write_bytes(data)  # a device or a pipe; or nothing can stand beside it
            return
        try:
            with draft.open("xb") as file:
                file.write(data)
            if target.exists():
                shutil.copymode(target, draft)
            try:
                draft.replace(target)
            except OSError:  # a mount of its own: nothing replaces it
                target.write_bytes(data)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        error.filename, error.filename2 = path_text(path), None
        raise


def write_line(item: object) -> None:
    """A line of JSON, as the platform spells it."""
    _write_json_line(_encode(item))


def _write_json_line(data: bytes) -> None:
    out, line = Stdout(), data + b"\n"
    if out.isatty():
        write(line)
    else:
        out.write_json(line)


def write_json(options: Options, text: bytes) -> None:
    """JSON as it came: readable on a terminal, else one line. What is no JSON goes out as it is."""
    try:
        formatted = msgspec.json.format(text, indent=-1 if options.for_programs else 2)
    except msgspec.MsgspecError:
        write(text)
        return
    if options.for_programs:
        _write_json_line(formatted)
    else:
        screen = Screen()
        shown = escaped(formatted.decode(errors="replace"), screen.encoding)
        screen.print(JSONHighlighter()(shown), soft_wrap=True)


def write_record(options: Options, record: object) -> None:
    """One object: its fields below each other on a terminal, without links and what is absent."""
    if options.for_programs:
        write_line(record)
        return
    screen = Screen()
    screen.print(record_table(_fields(record), screen.width, screen.encoding))


def show(options: Options, get: Callable[[ITwinSession], Coroutine[Any, Any, object]]) -> None:
    """What one call gives; see `write_record`."""
    write_record(options, with_session(options, get))


def _as_is(item: object) -> object:
    return item


def show_list(
    options: Options,
    title: str,
    columns: Sequence[str],
    get: Callable[[ITwinSession], Pager[T]],
    *,
    limit: int | None,
    row: Callable[[T], object] = _as_is,
) -> None:
    """A list: each item as a line as soon as it comes, or a table of ``columns`` of all of them.

    ``row`` makes of an item what is shown of it; None is left out and counts as no item.
    """
    for_programs = options.for_programs
    rows = list[list[str]]()
    encoding = Stdout().encoding

    async def work(itwin: ITwinSession) -> None:
        meter = Meter("items")
        with progress(itwin, title, meter, lines=for_programs):
            async with aclosing(aiter(get(itwin))) as items:
                async for item in items:
                    made = row(item)
                    if made is None:
                        continue
                    if for_programs:
                        write_line(made)
                    else:
                        rows.append(list_row(columns, _fields(made, datetime), encoding))
                    meter.count += 1
                    if meter.count == limit:
                        break

    with_session(options, work)
    if not for_programs:
        screen = Screen()
        screen.print(list_table(columns, rows, screen.width) if rows else f"No {title}.")


def _fields(record: object, *kept: type) -> Mapping[str, object]:
    """Names and plain values, but for those of the types ``kept``. Raw JSON is text."""
    fields: Mapping[str, object] = msgspec.to_builtins(
        record, builtin_types=kept, enc_hook=lambda raw: bytes(raw).decode()
    )
    return fields
