"""``itwin-async extended-data follow``."""

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from itwin_async import ExtendedData, ITwinError, ITwinSession, PayloadError
from itwin_async._aio.threads import in_thread
from itwin_async.cli._entries import entry_row
from itwin_async.cli._errors import INCOMPLETE, format_error
from itwin_async.cli._meter import CommandSession
from itwin_async.cli._options import DEFAULTS, Flag, Options
from itwin_async.cli._output import write_file, write_line
from itwin_async.cli._scope import LASTING, Ids, LookBack, Seconds, check_scope
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import Stdout, print_error
from itwin_async.sync import ChangeFeed

_SAVE_SECONDS: Final = 1.0  # a killed process prints at most the lines of so long again
_Every = Annotated[float, Parameter(validator=Number(gt=0))]


def follow(
    *,
    itwin: str | None = None,
    imodel: Ids = None,
    checkpoint: Path | None = None,
    every: _Every = 60.0,
    once: Flag = False,
    new: Flag = False,
    look_back: LookBack = 20,
    settle: Seconds = 300.0,
    options: Options = DEFAULTS,
) -> int:
    """Print extended data as it is stored, as lines of JSON, until stopped. Like tail -f.

    It begins with what is there. With --checkpoint it goes on where it was stopped; killed
    outright, or while nobody read its output, it prints at most those of the last second again.

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
    check_scope(itwin, imodel)
    start = None
    if checkpoint and checkpoint.is_file():  # a device such as /dev/full may have no end
        start = checkpoint.read_text(errors="replace").strip()
    bad = 0

    def feed(session: ITwinSession, start: str | None, *, once: bool) -> ChangeFeed[msgspec.Raw]:
        try:
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
        except ValueError as error:
            if not str(error).startswith("checkpoint "):
                raise
            raise ValueError(f"--checkpoint {checkpoint}: {error}") from None

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
                    if once or isinstance(error, LASTING):
                        raise
                    print_error(format_error(error))
                await asyncio.sleep(every)

    with_session(options, work)
    return INCOMPLETE if bad else 0


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
    """Gives a function to call behind each line; saves the checkpoint now and then, and at the end.

    Also where no other line follows, for a feed may be quiet for days.
    """
    saved_at, saved, behind = time.monotonic(), "", False
    writing = asyncio.Lock()

    async def write() -> None:
        nonlocal saved_at, saved, behind
        async with writing:
            behind = False
            if path is not None and (checkpoint := feed.checkpoint) != saved:
                await in_thread(write_file, path, f"{checkpoint}\n".encode())
                saved = checkpoint
            saved_at = time.monotonic()

    async def save() -> None:
        nonlocal behind
        behind = True
        if time.monotonic() >= saved_at + _SAVE_SECONDS:
            await write()

    async def save_while_quiet() -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            if behind:
                with contextlib.suppress(OSError):  # the next line's, or the end's, is raised
                    await write()

    # Before the first line, so that what comes while a killed `--new` is down is not taken for
    # what was there, and a file that cannot be written costs nobody their lines.
    await write()
    quiet = asyncio.create_task(save_while_quiet())
    try:
        yield save
    except (ITwinError, asyncio.CancelledError):
        await write()
        raise  # after any other error the last line may not have been printed
    finally:
        quiet.cancel()
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
