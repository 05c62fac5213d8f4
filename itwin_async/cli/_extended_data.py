"""``itwin-async extended-data``."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import App, Parameter, Token

from itwin_async import (
    DecodeError,
    ExtendedData,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    LinkError,
    NotFoundError,
    PayloadError,
)
from itwin_async.cli._entries import EntryRow, entry_row
from itwin_async.cli._errors import INCOMPLETE
from itwin_async.cli._estimate import Estimate, estimate_export
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    DEFAULTS,
    LIST_DEFAULTS,
    Count,
    Flag,
    ListOptions,
    Options,
)
from itwin_async.cli._output import show_list, write_record
from itwin_async.cli._progress import progress
from itwin_async.cli._scope import Ids
from itwin_async.cli._session import with_resumable_session, with_session
from itwin_async.cli._stdio import print_error
from itwin_async.cli._text import path_text

app: Final = App(name="extended-data")
for _name in ("sync", "follow"):
    app.command(f"itwin_async.cli._{_name}:{_name}", name=_name)
# Errors that concern one iModel; any other would end the export of the next one as well.
_SKIPPABLE: Final = (ForbiddenError, NotFoundError, InvalidRequestError, LinkError, DecodeError)
_LIST_IMODELS: Final = "GET /imodels/"  # fails for an iTwin, which --keep-going does not leave out


@app.command
def show(imodel: str, changeset: str, /, *, options: Options = DEFAULTS) -> int:
    """Show the extended data of one changeset.

    Example: itwin-async extended-data show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d 1 --emulator

    Args:
        imodel: Id of the iModel.
        changeset: Id or index of the changeset.
        options: See `Options`.
    """
    entry = with_session(
        options,
        lambda session: session.imodels.get_extended_data(imodel, changeset, msgspec.Raw),
    )
    try:
        write_record(options, entry_row(entry))
    except PayloadError as error:
        print_error(error)
        return INCOMPLETE
    return 0


@app.command(name="list")
def list_extended_data(
    imodel: str,
    /,
    *,
    after: Annotated[int | None, AT_LEAST_ZERO] = None,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> int:
    """List the extended data of an iModel's changesets. Bad payloads are left out.

    Example: itwin-async extended-data list 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --limit 5
    --emulator

    Args:
        imodel: Id of the iModel.
        after: List those of changesets with a higher index than this. The whole list is read.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    bad = 0

    def row(entry: ExtendedData[msgspec.Raw]) -> EntryRow | None:
        nonlocal bad
        if after is not None and entry.changeset_index <= after:
            return None
        try:
            return entry_row(entry)
        except PayloadError as error:
            bad += 1
            print_error(error)
            return None

    show_list(
        options,
        "extended data",
        ("changeset_index", "changeset_id", "data"),
        lambda session: session.imodels.list_extended_data(
            imodel, msgspec.Raw, page_size=page_size
        ),
        limit=limit,
        empty="No extended data: no application has stored any with these changesets.",
        row=row,
    )
    return INCOMPLETE if bad else 0


def _since(_: object, tokens: Sequence[Token]) -> int | datetime:
    text = tokens[0].value
    if text.isdecimal():
        return int(text)
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    raise ValueError(f"an index or a date such as 2025-01-31 is needed, not {text!r}")


@app.command
def export(
    *,
    imodel: Ids = None,
    itwin: Ids = None,
    output: Path,
    format: Literal["jsonl", "parquet", "arrow"] | None = None,
    since: Annotated[int | datetime | None, Parameter(converter=_since)] = None,
    resume: Annotated[bool, Parameter(negative="--no-resume", name="--resume")] = True,
    keep_going: Flag = False,
    changesets: Flag = False,
    dry_run: Flag = False,
    workers: Annotated[int, AT_LEAST_ONE] = 8,
    page_size: Annotated[int, AT_LEAST_ONE] = 1_000,
    options: Options = DEFAULTS,
) -> int:
    """Export extended data to one file. Stopped at any moment, it goes on when run again.

    Example: itwin-async extended-data export --imodel 5e19bee0-3aea-4355-a9f0-c6df9989ee7d
    --output changes.jsonl --emulator

    Args:
        imodel: Ids of iModels.
        itwin: Ids of iTwins, all of whose iModels are exported.
        output: The file; it appears when it is complete.
        format: Format, if the name does not end in .jsonl, .ndjson, .parquet, .arrow or .feather.
        since: An index, or a date such as 2025-01-31: only what came after it, also added to a
            finished export.
        resume: Go on with an unfinished export; --no-resume starts over.
        keep_going: Report and leave out the rest of an iModel that is refused, missing or broken.
        changesets: Add push date, task and changed files; one list of changesets more an iModel.
        dry_run: Export nothing, and estimate how many requests it would take.
        workers: iModels to read at once.
        page_size: Items per page, at most 1,000.
        options: See `Options`.
    """
    from itwin_async.export import (  # noqa: PLC0415 - only this command needs it
        Exported,
        ExportProgress,
        export_extended_data,
    )

    if not imodel and not itwin:
        raise ValueError("give --imodel or --itwin, whose extended data to export")
    meter = Meter("rows", parts="iModels")

    def update(now: ExportProgress) -> None:
        meter.count, meter.before, meter.bad = now.rows, now.resumed, now.bad
        meter.done, meter.total = now.done, now.imodels

    skipped: list[str] = []

    def skip(imodel_id: str, error: ITwinError) -> None:
        if not isinstance(error, _SKIPPABLE):
            raise error
        skipped.append(imodel_id)
        print_error(f"iModel {imodel_id} is left out: {error}")

    adds = output.exists()

    async def estimate(session: CommandSession) -> Estimate:
        return await estimate_export(
            session,
            _imodels(session, imodel or (), itwin or ()),
            since=since,
            adds=adds,
            changesets=changesets,
            workers=workers,
            page_size=page_size,
            on_error=skip if keep_going else None,
        )

    if dry_run:
        write_record(options, with_session(options, estimate))
        return INCOMPLETE if skipped else 0

    async def work(session: CommandSession) -> Exported:
        with progress(session, "export", meter):
            return await export_extended_data(
                session,
                _imodels(session, imodel or (), itwin) if itwin else imodel or (),
                output,
                resume=resume,
                on_progress=update,
                on_error=skip if keep_going else None,
                format=format,
                since=since,
                changesets=changesets,
                workers=workers,
                page_size=page_size,
            )

    try:
        result = (with_resumable_session if resume else with_session)(options, work)
    except _SKIPPABLE as error:
        several = itwin or len(imodel or ()) > 1
        if not keep_going and several and error.operation != _LIST_IMODELS:
            error.add_note("--keep-going leaves out such an iModel.")
        raise
    record = {
        "output": path_text(result.output),
        "rows": result.rows,
        "bad": result.bad,
        "imodels": result.imodels,
        "bad_rows": None if result.bad_rows is None else path_text(result.bad_rows),
        **({"failed": skipped} if skipped else {}),
    }
    write_record(options, record)
    if result.bad:
        print_error(f"bad payloads left out: {result.bad:,}, see {result.bad_rows}")
    return INCOMPLETE if result.bad or skipped else 0


async def _imodels(
    session: ITwinSession, imodels: Sequence[str], itwins: Sequence[str]
) -> AsyncIterator[str]:
    for imodel in imodels:
        yield imodel
    for itwin in itwins:
        async for found in session.imodels.list_imodels(itwin, page_size=1_000):
            yield found.id
