"""``itwin-async extensions``."""

import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.validators import Number

from itwin_async import DownloadedVersion
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import DEFAULTS, LIST_DEFAULTS, Count, Flag, ListOptions, Options
from itwin_async.cli._output import show, show_list, write_record
from itwin_async.cli._progress import progress
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import Stderr
from itwin_async.cli._text import path_text, printable

app: Final = App(name="extensions")


@app.command(name="list")
def list_extensions(
    *,
    itwin: str | None = None,
    search: str | None = None,
    studio: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List public extensions, or the private ones of an account.

    Example: itwin-async extensions list --search viewer --emulator

    Args:
        itwin: Id of the account (an iTwin) whose private extensions to list.
        search: Part of the name.
        studio: List only apps of iTwin Studio.
        page_size: Items per page.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "extensions",
        ("name", "id", "description"),
        lambda session: session.extensions.list_extensions(
            itwin_id=itwin, search=search, is_itwin_studio_app=studio or None, page_size=page_size
        ),
        limit=limit,
        empty="No extensions match." if search or itwin or studio else "No extensions.",
    )


@app.command
def versions(
    extension: str,
    /,
    *,
    include_deprecated: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the versions of an extension.

    Example: itwin-async extensions versions 41d94bd4-46b8-48e9-a29a-7c7704a7e662 --emulator

    Args:
        extension: Id of the extension.
        include_deprecated: List deprecated versions as well.
        page_size: Items per page.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "versions",
        ("number", "status", "deprecated", "creationTime"),
        lambda session: session.extensions.list_versions(
            extension, include_deprecated=include_deprecated, page_size=page_size
        ),
        limit=limit,
        empty="No versions of this extension.",
    )


@app.command(name="show")
def show_version(extension: str, number: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one version of an extension, with its files. The JSON holds their signed URLs.

    Example: itwin-async extensions show 41d94bd4-46b8-48e9-a29a-7c7704a7e662 2.0.0 --emulator

    Args:
        extension: Id of the extension.
        number: Number of the version, such as 1.0.0.
        options: See `Options`.
    """
    show(options, lambda session: session.extensions.get_version(extension, number))


@app.command
def create(
    name: str, /, *, itwin: str, description: str | None = None, options: Options = DEFAULTS
) -> None:
    """Create a private extension.

    Example: itwin-async extensions create mine --itwin 76c1102e-4f33-4dfa-ad93-bcd9ab717977
    --emulator

    Args:
        name: Its name.
        itwin: Id of the account (an iTwin) that may use it.
        description: Its description.
        options: See `Options`.
    """
    show(
        options,
        lambda session: session.extensions.create_extension(name, itwin, description=description),
    )


@app.command
def delete(extension: str, /, *, yes: Flag = False, options: Options = DEFAULTS) -> None:
    """Delete an extension with all its versions and their files, after asking.

    Example: itwin-async extensions delete 41d94bd4-46b8-48e9-a29a-7c7704a7e662 --yes --emulator

    Args:
        extension: Id of the extension.
        yes: Do not ask.
        options: See `Options`.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError("give --yes to delete without being asked")
        Stderr().write(f"Delete extension {printable(extension)} with all its versions? [y/N] ")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise ValueError("nothing was deleted")
    with_session(options, lambda session: session.extensions.delete_extension(extension))


@app.command
def download(
    extension: str,
    number: str,
    directory: Path = Path(),
    /,
    *,
    archive: Flag = False,
    overwrite: Flag = False,
    resume: Flag = False,
    wait: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    options: Options = DEFAULTS,
) -> None:
    """Download the files of a version: all of them or none.

    Example: itwin-async extensions download 41d94bd4-46b8-48e9-a29a-7c7704a7e662 2.0.0 files
    --emulator

    Args:
        extension: Id of the extension.
        number: Number of the version, such as 1.0.0.
        directory: Directory for the files, created if missing; by default the current one.
        archive: Download the archive as well.
        overwrite: Replace existing files.
        resume: Keep partial files if it fails or is stopped, and go on with them.
        wait: Seconds to wait for the version to be unpacked.
        options: See `Options`.
    """

    async def work(session: CommandSession) -> DownloadedVersion:
        meter = Meter("bytes", parts="files")
        with progress(session, f"downloading {number}", meter):
            if wait is not None:
                await session.extensions.wait_until_ready(extension, number, timeout=wait)
            return await session.extensions.download_version(
                extension,
                number,
                directory,
                archive=archive,
                overwrite=overwrite,
                resume=resume,
                on_progress=meter.show_download,
            )

    try:
        version = with_session(options, work)
    except FileExistsError as error:
        raise FileExistsError(str(error).replace("overwrite=True", "--overwrite")) from None
    write_record(
        options,
        {
            "number": version.number,
            "directory": path_text(version.directory),
            "main": None if version.main is None else path_text(version.main),
            "files": [path_text(file) for file in version.files],
            "archive": None if version.archive is None else path_text(version.archive),
        },
    )
