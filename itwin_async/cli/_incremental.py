"""``itwin-async extended-data sync`` and ``follow``: what is new."""

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from itwin_async import (
    ExtendedData,
    ForbiddenError,
    ITwinError,
    ITwinSession,
    NotFoundError,
    PayloadError,
    RateLimitError,
    ServerError,
    TransportError,
    UnauthorizedError,
)
from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import unsigned
from itwin_async.cli._entries import entry_row
from itwin_async.cli._errors import INCOMPLETE, format_error
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import AT_LEAST_ONE, DEFAULTS, Flag, Options
from itwin_async.cli._output import write_file, write_line, write_record
from itwin_async.cli._progress import progress
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import Stdout, print_error
from itwin_async.sync import (
    ChangeFeed,
    ParquetDataset,
    Synced,
    SyncProgress,
    sync_extended_data,
)

_ADVICE: Final = "Run the same command again to go on."
_SAVE_SECONDS: Final = 1.0  # a killed process prints at most the lines of so long again
_LASTING: Final = (  # errors that the next look would meet as well
    UnauthorizedError,
    ForbiddenError,
    NotFoundError,
)
_Ids = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
_Seconds = Annotated[float, Parameter(validator=Number(gte=0))]
_Every = Annotated[float, Parameter(validator=Number(gt=0))]
_LookBack = Annotated[int, Parameter(validator=Number(gte=0))]


class _SyncRecord(msgspec.Struct):
    target: str
    rows: int
    bad: int
    imodels: int
    requests: int


def sync(
    target: str,
    /,
    *,
    itwin: str | None = None,
    imodel: _Ids = None,
    every: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    look_back: _LookBack = 20,
    settle: _Seconds = 300.0,
    changesets: Annotated[bool, Parameter(negative="")] = False,
    workers: Annotated[int, AT_LEAST_ONE] = 8,
    options: Options = DEFAULTS,
) -> int:
    """Add what is new to a directory of Parquet files, which is made where it is missing.

    Stopped at any moment, it goes on when run again, and each entry is stored once. Unchanged
    iModels cost nothing but their share of a list.

    Example: itwin-async extended-data sync changes --imodel
    5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        target: The directory, or a URL such as s3://bucket/changes.
        itwin: Id of the iTwin, all of whose iModels are synced.
        imodel: Ids of iModels instead.
        every: Seconds from the end of one sync to the next; only one without.
        look_back: Find data that was stored late for so many of an iModel's last changesets.
        settle: Look at an iModel again until its last push is so many seconds ago.
        changesets: Add columns for push date, task and changed files; a request more an iModel.
        workers: iModels to read at once.
        options: See `Options`.
    """
    _check_scope(itwin, imodel)
    bad = 0

    async def once(session: CommandSession) -> Synced:
        meter = Meter("rows", parts="iModels")

        def update(now: SyncProgress) -> None:
            meter.count, meter.bad = now.rows, now.bad
            meter.done, meter.total = now.done, now.imodels

        with progress(session, "sync", meter):
            return await sync_extended_data(
                session,
                ParquetDataset(target),
                itwin_id=itwin,
                imodel_ids=imodel or (),
                look_back=look_back,
                settle=settle,
                changesets=changesets,
                workers=workers,
                on_progress=update,
            )

    async def work(session: CommandSession) -> None:
        nonlocal bad
        first = True
        while True:
            try:
                synced = await once(session)
            except ITwinError as error:
                if every is None or isinstance(error, _LASTING):
                    raise
                print_error(format_error(error))
            else:
                bad += synced.bad
                if first or synced.rows or synced.bad:
                    write_record(options, _SyncRecord(unsigned(target), *astuple(synced)))
                first = False
            if every is None:
                return
            await asyncio.sleep(every)

    try:
        with_session(options, work, advice=_ADVICE)
    except (TransportError, ServerError, RateLimitError) as error:
        error.add_note(_ADVICE)
        raise
    if bad:
        print_error(f"bad payloads put aside: {bad:,}, see {target}.sync")
    return INCOMPLETE if bad else 0


def follow(
    *,
    itwin: str | None = None,
    imodel: _Ids = None,
    checkpoint: Path | None = None,
    every: _Every = 60.0,
    once: Flag = False,
    new: Flag = False,
    look_back: _LookBack = 20,
    settle: _Seconds = 300.0,
    options: Options = DEFAULTS,
) -> int:
    """Print extended data as it is stored, as lines of JSON, until stopped. Like tail -f.

    It begins with what is there. With --checkpoint it goes on where it was stopped; killed
    outright, it prints at most the lines of the last second again.

    Example: itwin-async extended-data follow --imodel
    5e19bee0-3aea-4355-a9f0-c6df9989ee7d --once --emulator

    Args:
        itwin: Id of the iTwin, all of whose iModels are followed.
        imodel: Ids of iModels instead.
        checkpoint: File that says what was printed; it is written as lines are.
        every: Seconds between looks, up to four times that while nothing happens.
        once: Print what is new since the checkpoint, and end.
        new: Leave out what is there already, which is read all the same.
        look_back: Find data that was stored late for so many of an iModel's last changesets.
        settle: Look at an iModel again until its last push is so many seconds ago.
        options: See `Options`.
    """
    _check_scope(itwin, imodel)
    start = checkpoint.read_text().strip() if checkpoint and checkpoint.exists() else None
    bad = 0

    def feed(session: ITwinSession, start: str | None, *, once: bool) -> ChangeFeed[msgspec.Raw]:
        return ChangeFeed(
            session,
            itwin_id=itwin,
            imodel_ids=imodel or (),
            data_type=msgspec.Raw,
            checkpoint=start or None,
            every=None if once else every,
            look_back=look_back,
            settle=settle,
        )

    async def work(session: CommandSession) -> None:
        nonlocal bad, start
        if new and not start:
            async with feed(session, None, once=True) as old:
                async for _ in old:
                    pass
            start = old.checkpoint
        async with (
            feed(session, start, once=once) as running,
            _saving(running, checkpoint) as save,
            _until_unread(running),
        ):
            while True:
                try:
                    async for entry in running:
                        bad += not _print(entry)
                        await save()
                    return
                except ITwinError as error:
                    if once or isinstance(error, _LASTING):
                        raise
                    print_error(format_error(error))
                await asyncio.sleep(every)

    with_session(options, work)
    return INCOMPLETE if bad else 0


def _check_scope(itwin: str | None, imodel: list[str] | None) -> None:
    if (itwin is None) == (not imodel):
        raise ValueError("give either --itwin or --imodel")


def _print(entry: ExtendedData[msgspec.Raw]) -> bool:
    """Print an entry; False where its payload is bad, which is said on stderr."""
    try:
        row = entry_row(entry)
    except PayloadError as error:
        print_error(error)
        return False
    write_line(row)
    return True


@asynccontextmanager
async def _saving(
    feed: ChangeFeed[Any], path: Path | None
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Gives a function that saves the checkpoint now and then, and saves it at the end."""
    saved_at, saved = time.monotonic(), ""

    async def write() -> None:
        nonlocal saved_at, saved
        if path is not None and feed.checkpoint != saved:
            saved = feed.checkpoint
            await in_thread(write_file, path, f"{saved}\n".encode())
        saved_at = time.monotonic()

    async def save() -> None:
        if time.monotonic() >= saved_at + _SAVE_SECONDS:
            await write()

    try:
        yield save
    except (OSError, KeyboardInterrupt):  # the last line may not have been printed
        raise
    except BaseException:
        await write()
        raise
    await write()


@asynccontextmanager
async def _until_unread(feed: ChangeFeed[Any]) -> AsyncGenerator[None]:
    """End the feed when nobody reads standard output any more, though nothing is printed."""
    loop = asyncio.get_running_loop()
    closing: asyncio.Task[None] | None = None

    def close(output: int) -> None:
        nonlocal closing
        loop.remove_reader(output)
        closing = loop.create_task(feed.aclose())

    output = _pipe()
    try:
        if output is not None:
            # The end that is written to becomes readable when it breaks.
            loop.add_reader(output, close, output)
    except NotImplementedError:  # Windows cannot tell
        output = None
    try:
        yield
        if closing is not None:
            await closing
            raise BrokenPipeError
    finally:
        if output is not None:
            loop.remove_reader(output)


def _pipe() -> int | None:
    """The descriptor of standard output where it is a pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = Stdout().fileno()
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
    return None
