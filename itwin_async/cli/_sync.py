"""``itwin-async extended-data sync``."""

import asyncio
from dataclasses import astuple
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from itwin_async import ITwinError
from itwin_async._core.redaction import unsigned
from itwin_async.cli._errors import INCOMPLETE, format_error
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import AT_LEAST_ONE, DEFAULTS, Flag, Options
from itwin_async.cli._output import write_record
from itwin_async.cli._progress import progress
from itwin_async.cli._scope import LASTING, LookBack, RepeatedIds, Seconds, check_scope
from itwin_async.cli._session import with_resumable_session
from itwin_async.cli._stdio import print_error
from itwin_async.sync import ParquetDataset, Synced, SyncProgress, sync_extended_data


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
    imodel: RepeatedIds = None,
    every: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    look_back: LookBack = 20,
    settle: Seconds = 300.0,
    changesets: Flag = False,
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
        imodel: Id of an iModel instead; may be repeated.
        every: Seconds from the end of one sync to the next; without it, sync once.
        look_back: Find data that was stored late for so many of an iModel's last changesets.
        settle: Look at an iModel again until its last push is so many seconds ago.
        changesets: Add columns for push date, task and changed files; a request more an iModel.
        workers: iModels to read at once.
        options: See `Options`.
    """
    check_scope(itwin, imodel)
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
                if every is None or isinstance(error, LASTING):
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

    with_resumable_session(options, work)
    if bad:
        print_error(f"bad payloads put aside: {bad:,}, see {target}.sync")
    return INCOMPLETE if bad else 0
