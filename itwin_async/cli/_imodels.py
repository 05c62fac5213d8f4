"""``itwin-async imodels`` and ``itwin-async changesets``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from cyclopts import App

from itwin_async import DownloadedChangesets, IModel, ITwinSession, Pager
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
from itwin_async.cli._output import show, show_list, write_record
from itwin_async.cli._progress import progress
from itwin_async.cli._session import with_resumable_session, with_session
from itwin_async.cli._text import path_text

imodels: Final = App(name="imodels")
changesets: Final = App(name="changesets")
_Index = Annotated[int | None, AT_LEAST_ZERO]


@imodels.command(name="list")
def list_imodels(
    itwin: str,
    /,
    *,
    search: str | None = None,
    name: str | None = None,
    state: Literal["initialized", "notInitialized"] | None = None,
    order_by: str | None = None,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the iModels of an iTwin.

    Example: itwin-async imodels list dc914a84-e0c9-40e2-9d14-faf5ed84147f --emulator

    Args:
        itwin: Id of the iTwin.
        search: Part of the name or description.
        name: Exact name.
        state: Their state.
        order_by: Order, such as 'name asc' or 'createdDateTime desc'.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "iModels",
        ("displayName", "id", *(("state", "description") if representation else ())),
        lambda session: session.imodels.list_imodels(
            itwin,
            search=search,
            name=name,
            state=state,
            order_by=cast("Any", order_by),  # the platform says what it may be
            representation=representation,
            page_size=page_size,
        ),
        limit=limit,
        empty=(
            "No iModels match."
            if search or name or state
            else "No iModels: has the iTwin any, and may this application or person see them?"
        ),
    )


@imodels.command(name="show")
def show_imodel(imodel: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one iModel.

    Example: itwin-async imodels show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        imodel: Id of the iModel.
        options: See `Options`.
    """
    show(options, lambda session: session.imodels.get_imodel(imodel))


def _show_mine(
    title: str,
    get: Callable[[ITwinSession], Pager[IModel]],
    options: ListOptions,
    *,
    representation: bool,
    limit: int | None,
) -> None:
    columns = ("displayName", "id", *(("state", "description") if representation else ()))
    empty = f"You have no {title} in this iTwin."
    show_list(options, title, columns, get, limit=limit, empty=empty)


@imodels.command
def favorites(
    itwin: str,
    /,
    *,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List your favorites among the iModels of an iTwin.

    Example: itwin-async imodels favorites dc914a84-e0c9-40e2-9d14-faf5ed84147f --emulator

    Args:
        itwin: Id of the iTwin.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    _show_mine(
        "favorites",
        lambda session: session.imodels.list_favorites(
            itwin, representation=representation, page_size=page_size
        ),
        options,
        representation=representation,
        limit=limit,
    )


@imodels.command
def recents(
    itwin: str,
    /,
    *,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the iModels of an iTwin that you used last, the newest first.

    Example: itwin-async imodels recents dc914a84-e0c9-40e2-9d14-faf5ed84147f --emulator

    Args:
        itwin: Id of the iTwin.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    _show_mine(
        "recents",
        lambda session: session.imodels.list_recents(
            itwin, representation=representation, page_size=page_size
        ),
        options,
        representation=representation,
        limit=limit,
    )


@imodels.command
def permissions(imodel: str, /, *, options: Options = DEFAULTS) -> None:
    """Show what you may do with an iModel.

    Example: itwin-async imodels permissions 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        imodel: Id of the iModel.
        options: See `Options`.
    """
    granted = with_session(options, lambda session: session.imodels.get_permissions(imodel))
    write_record(options, {"permissions": sorted(granted)})


@changesets.command(name="list")
def list_changesets(
    imodel: str,
    /,
    *,
    after: _Index = None,
    last: _Index = None,
    order: Literal["asc", "desc"] | None = None,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the changesets of an iModel.

    Example: itwin-async changesets list 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --after 10 --emulator

    Args:
        imodel: Id of the iModel.
        after: List those with a higher index than this.
        last: List those up to and including this index.
        order: Ascending or descending by index.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "changesets",
        ("index", "id", "pushDateTime", "description"),
        lambda session: session.imodels.list_changesets(
            imodel,
            after_index=after,
            last_index=last,
            order=order,
            representation=representation,
            page_size=page_size,
        ),
        limit=limit,
        empty=(
            "No changesets in these bounds."
            if after or last is not None
            else "No changesets: nothing was pushed to this iModel yet."
        ),
    )


@changesets.command(name="show")
def show_changeset(imodel: str, changeset: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one changeset. The JSON holds its signed URL.

    Example: itwin-async changesets show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d 256 --emulator

    Args:
        imodel: Id of the iModel.
        changeset: Id or index of the changeset.
        options: See `Options`.
    """
    show(options, lambda session: session.imodels.get_changeset(imodel, changeset))


@changesets.command
def download(
    imodel: str,
    directory: Path = Path(),
    /,
    *,
    after: _Index = None,
    last: _Index = None,
    workers: Annotated[int, AT_LEAST_ONE] = 8,
    options: Options = DEFAULTS,
) -> None:
    """Download the files of changesets, as ID.cs; those that are there are not fetched again.

    Stopped or killed at any moment, the same command goes on where it was.

    Example: itwin-async changesets download 5e19bee0-3aea-4355-a9f0-c6df9989ee7d changesets
    --last 20 --emulator

    Args:
        imodel: Id of the iModel.
        directory: Directory for the files, created if missing; by default the current one.
        after: Download those with a higher index than this.
        last: Download those up to and including this index.
        workers: Most files at once.
        options: See `Options`.
    """

    async def work(session: CommandSession) -> DownloadedChangesets:
        meter = Meter("bytes", parts="files")
        with progress(session, "downloading changesets", meter) as is_shown:
            return await session.imodels.download_changesets(
                imodel,
                directory,
                after_index=after,
                last_index=last,
                workers=workers,
                on_progress=meter.show_download if is_shown else None,
            )

    done = with_resumable_session(options, work)
    write_record(
        options,
        {
            "directory": path_text(done.directory),
            "files": done.files,
            "bytes": done.bytes,
            "existing": done.existing,
        },
    )
