"""The files of changesets on this machine."""

import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr
from itwin_async._core.validation import Id, check_callback, check_count, check_directory
from itwin_async._files.batch_download import BatchDownload, ListedFile
from itwin_async._files.progress import OnDownloadProgress
from itwin_async._files.safe_paths import safe_parts
from itwin_async._pagination.pager import Pager
from itwin_async.errors import DecodeError, ForbiddenError, ITwinError
from itwin_async.imodels.changesets import Changeset, ChangesetOperations

_STORAGE_TYPES: Final = ("azure", "google")
_COUNTING_PAGE: Final = 1_000
_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,200}")


@dataclass(frozen=True, slots=True)
class DownloadedChangesets:
    """The files of changesets on this machine: how many ``files``, of so many ``bytes`` in all.

    ``existing`` of them were there already. ``ids`` are the changesets in the order of the iModel,
    and ``paths`` their files.
    """

    directory: Path
    files: int
    bytes: int
    existing: int
    ids: tuple[str, ...]

    def __repr__(self) -> str:
        where = str(self.directory)
        where = where if len(where) <= 50 else f"…{where[-49:]}"
        return (
            f"DownloadedChangesets(files={self.files}, bytes={self.bytes}, "
            f"existing={self.existing}, in {where!r})"
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in the order of the iModel: ``<id>.cs`` in ``directory``."""
        return tuple(self.directory / _file_name(id) for id in self.ids)


class ChangesetDownloads(ChangesetOperations):
    """Downloads of changesets, beside their operations."""

    async def download_changesets(
        self,
        imodel_id: Id,
        directory: str | os.PathLike[str],
        *,
        after_index: int | None = None,
        last_index: int | None = None,
        workers: int = 8,
        on_progress: OnDownloadProgress | None = None,
    ) -> DownloadedChangesets:
        """Download the files of changesets, as ``<id>.cs``, to a directory.

        Those after ``after_index`` up to and with ``last_index``; all by default. The permission
        imodels_read is needed. A file that is there already with the size that the platform says is
        not fetched again; one with another size is replaced.

        A file gets its name when it is whole and on the disk; until then it is a hidden ``.part``
        file. After an error, a cancellation or the end of the process the same call goes on with
        what is there, within each file. Processes that download to one directory at once share the
        work.

        ``workers`` files are fetched at once, without the token, each with a slot of the session's
        limiter but outside its rate; smaller ones of a page of the list come first. A file that was
        cut goes on where it was, and a URL that has ended is renewed. The session's ``timeout``
        holds for each file, its ``max_body`` does not. Memory does not grow with the files.
        ``on_progress`` is called in the event loop with `DownloadProgress` as bytes arrive; the
        totals it is told cost one more request for each 1,000 changesets. If it raises, that is
        logged, and the download goes on without it.

        The first file that cannot be fetched ends the call. Raises `ForbiddenError` where the
        platform gives no download link, `DecodeError` for a file of another size than the platform
        says, `LinkError` for URLs that are not https, `ResponseError` for what the storage refuses,
        `OSError` for a full disk, and what `list_changesets` raises.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changesets/

        Example::

            done = await itwin.imodels.download_changesets(imodel_id, "changesets", after_index=3)
            print(done.files, "files,", done.bytes, "bytes:", done.paths[0])
        """
        check_count("workers", workers)
        check_callback("on_progress", on_progress)
        path = _directory(directory)
        changesets = partial(
            self.list_changesets,
            imodel_id,
            after_index=after_index,
            last_index=last_index,
            order="asc",
        )
        pages = changesets(representation=True)
        await in_thread(_check_is_directory, path)
        expected = None
        if on_progress is not None:
            expected = await _count(changesets(page_size=_COUNTING_PAGE))
        ids: list[str] = []

        async def files() -> AsyncGenerator[list[ListedFile]]:
            async with pages.pages() as listed:
                async for page in listed:
                    ids.extend(changeset.id for changeset in page)
                    yield [self._listed(imodel_id, changeset) for changeset in page]

        async with aclosing(files()) as listed:
            download = BatchDownload(
                self._executor,
                path,
                listed,
                workers=workers,
                on_progress=on_progress,
                expected=expected,
            )
            await download.run()
        return DownloadedChangesets(
            path, download.files, download.bytes, download.existing, tuple(ids)
        )

    async def download_changeset(
        self,
        imodel_id: Id,
        changeset: str | int,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnDownloadProgress | None = None,
    ) -> Path:
        """Download the file of one changeset, by id or index, as ``<id>.cs`` to a directory.

        As `download_changesets` does; returns where the file is.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-details/

        Example::

            path = await itwin.imodels.download_changeset(imodel_id, 3, "changesets")
            print(path, path.stat().st_size)
        """
        check_callback("on_progress", on_progress)
        path = _directory(directory)
        await in_thread(_check_is_directory, path)
        found = await self.get_changeset(imodel_id, changeset)
        listed = self._listed(imodel_id, found)

        async def files() -> AsyncGenerator[list[ListedFile]]:
            yield [listed]

        async with aclosing(files()) as pages:
            download = BatchDownload(
                self._executor,
                path,
                pages,
                workers=1,
                on_progress=on_progress,
                expected=(1, listed.size),
            )
            await download.run()
        return path / listed.name

    def _listed(self, imodel_id: Id, changeset: Changeset) -> ListedFile:
        async def renew() -> SecretStr:
            return _signed_url(await self.get_changeset(imodel_id, changeset.id))

        title = _title(changeset)
        if changeset.file_size is None or changeset.file_size < 0:
            raise DecodeError(f"{title} has no fileSize")
        name = _file_name(changeset.id)
        if not _ID.fullmatch(changeset.id):
            raise DecodeError(f"{title} has an id that is no file name")
        safe_parts(name)  # nor a device of Windows
        return ListedFile(name, changeset.file_size, title, partial(_signed_url, changeset), renew)


def _file_name(id: str) -> str:
    return f"{id}.cs"


def _title(changeset: Changeset) -> str:
    return one_line(f"changeset {changeset.index} ({changeset.id})", longest=100)


def _directory(directory: str | os.PathLike[str]) -> Path:
    check_directory(directory)
    return Path(directory)


def _check_is_directory(path: Path) -> None:
    place = next((place for place in (path, *path.parents) if place.exists()), None)
    if place is not None and not place.is_dir():
        raise NotADirectoryError(f"{place} is not a directory")


async def _count(changesets: Pager[Changeset]) -> tuple[int, int] | None:
    """The number of changesets, and the size of their files; None if it cannot be had."""
    files = size = 0
    try:
        async for changeset in changesets:
            files += 1
            size += changeset.file_size or 0
    except ITwinError:
        return None
    return files, size


def _signed_url(changeset: Changeset) -> SecretStr:
    """The signed URL of a changeset's file, or the error that says why there is none."""
    link = None if changeset.links is None else changeset.links.download
    if link is None or not link.href:
        if changeset.state not in {None, "fileUploaded"}:
            state = one_line(str(changeset.state), longest=50)
            raise ITwinError(f"{_title(changeset)} has no file: its state is {state}")
        error = ForbiddenError(
            f"{_title(changeset)} has no download link: the permission imodels_read on the iModel "
            "is missing"
        )
        error.status = 403
        raise error
    if link.storage_type is not None and link.storage_type.lower() not in _STORAGE_TYPES:
        kind = one_line(link.storage_type, longest=50)
        raise ITwinError(
            f"{_title(changeset)} is in a storage of type {kind}: this version downloads from "
            f"{' and '.join(_STORAGE_TYPES)}"
        )
    return SecretStr(link.href)
