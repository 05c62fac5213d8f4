"""``itwin-async extended-data``."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

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
    RateLimitError,
    ServerError,
    TransportError,
)
from itwin_async.cli._options import DEFAULTS, Count, Options, with_session
from itwin_async.cli._output import BAD, show_list, write_record
from itwin_async.cli._progress import Meter, progress
from itwin_async.cli._stdio import say
from itwin_async.cli._tables import path_text

app: Final = App(name="extended-data", help="What applications stored with changesets.")
_GO_ON: Final = "Run the same command again to go on."
# Others would befall every iModel that is left.
_OF_ONE: Final = (ForbiddenError, NotFoundError, InvalidRequestError, LinkError, DecodeError)
_Ids = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]


class _Row(msgspec.Struct):
    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: msgspec.Raw


def _row(entry: ExtendedData[msgspec.Raw]) -> _Row:
    """The payload as it came, in one line."""
    payload = bytes(entry.data)
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise PayloadError(
            f"extended data of changeset {entry.changeset_index} ({entry.changeset_id}) "
            f"of iModel {entry.imodel_id}: its payload is not UTF-8"
        ) from None
    if b"\n" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    data = msgspec.Raw(payload)
    return _Row(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)


@app.command
def show(imodel: str, changeset: str, /, *, options: Options = DEFAULTS) -> int:
    """The extended data of one changeset.

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
        write_record(options, _row(entry))
    except PayloadError as error:
        say(error)
        return BAD
    return 0


@app.command(name="list")
def list_extended_data(
    imodel: str,
    /,
    *,
    page_size: Count = None,
    limit: Count = None,
    options: Options = DEFAULTS,
) -> int:
    """The extended data of an iModel's changesets, as it arrives. A bad payload is left out.

    Args:
        imodel: Id of the iModel.
        page_size: Items in a request, at most 1,000.
        limit: Items at most.
        options: See `Options`.
    """
    bad = 0

    def row(entry: ExtendedData[msgspec.Raw]) -> _Row | None:
        nonlocal bad
        try:
            return _row(entry)
        except PayloadError as error:
            bad += 1
            say(error)
            return None

    show_list(
        options,
        "extended data",
        ("changeset_index", "changeset_id", "data"),
        lambda session: session.imodels.list_extended_data(
            imodel, msgspec.Raw, page_size=page_size
        ),
        limit=limit,
        row=row,
    )
    return BAD if bad else 0


@app.command
def export(
    *,
    imodel: _Ids = None,
    itwin: _Ids = None,
    output: Path,
    format: Literal["jsonl", "parquet", "arrow"] | None = None,
    since: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    resume: Annotated[bool, Parameter(negative="--no-resume", name="--resume")] = True,
    keep_going: Annotated[bool, Parameter(negative="")] = False,
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 8,
    page_size: Annotated[int, Parameter(validator=Number(gte=1))] = 1_000,
    options: Options = DEFAULTS,
) -> int:
    """Write extended data to one file. Stopped at any moment, it goes on when run again.

    Args:
        imodel: Ids of iModels.
        itwin: Ids of iTwins, of which all iModels are exported.
        output: The file; it appears when all of it is there.
        format: Instead of what the name ends in: .jsonl, .ndjson, .parquet, .arrow or .feather.
        since: Only changesets with a higher index; added to a file that an earlier export finished.
        resume: Go on with an unfinished export; --no-resume begins anew.
        keep_going: Leave out the rest of an iModel that is refused, missing or broken, and say so.
        workers: iModels at once.
        page_size: Items in a request, at most 1,000.
        options: See `Options`.
    """
    from itwin_async.export import (  # noqa: PLC0415 - needed here alone
        Exported,
        ExportProgress,
        export_extended_data,
    )

    if not imodel and not itwin:
        raise ValueError("give --imodel or --itwin, and what to export of it")
    meter = Meter("rows", parts="iModels")

    def moved(now: ExportProgress) -> None:
        meter.count, meter.before, meter.bad = now.rows, now.resumed, now.bad
        meter.done, meter.total = now.done, now.imodels

    failed: list[str] = []

    def left_out(imodel_id: str, error: ITwinError) -> None:
        if not isinstance(error, _OF_ONE):
            raise error
        failed.append(imodel_id)
        say(f"iModel {imodel_id} is left out: {error}")

    async def work(session: ITwinSession) -> Exported:
        with progress(session, "export", meter):
            return await export_extended_data(
                session,
                _imodels(session, imodel or (), itwin) if itwin else imodel or (),
                output,
                resume=resume,
                on_progress=moved,
                on_error=left_out if keep_going else None,
                format=format,
                since=since,
                workers=workers,
                page_size=page_size,
            )

    try:
        done = with_session(options, work, advice=_GO_ON if resume else "")
    except (TransportError, ServerError, RateLimitError) as error:
        error.add_note(_GO_ON)
        raise
    except _OF_ONE as error:
        if not keep_going and (itwin or len(imodel or ()) > 1):
            error.add_note("--keep-going leaves out such an iModel.")
        raise
    result = {
        "output": path_text(done.output),
        "rows": done.rows,
        "bad": done.bad,
        "imodels": done.imodels,
        "bad_rows": None if done.bad_rows is None else path_text(done.bad_rows),
        **({"failed": failed} if failed else {}),
    }
    write_record(options, result)
    if done.bad:
        say(f"bad payloads left out: {done.bad:,}, see {done.bad_rows}")
    return BAD if done.bad or failed else 0


async def _imodels(
    session: ITwinSession, imodels: Sequence[str], itwins: Sequence[str]
) -> AsyncIterator[str]:
    for imodel in imodels:
        yield imodel
    for itwin in itwins:
        async for found in session.imodels.list_imodels(itwin, page_size=1_000):
            yield found.id
