"""Downloads of a list of files, each of which gets its name as soon as it is whole.

The list is read a page at a time, when a worker has nothing else to do, and so the signed URLs of
a page are fresh and memory does not grow with the list. Smaller files of a page come first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async._aio.workers import run_workers
from itwin_async._core.listener import ProgressListener
from itwin_async._core.secrets import SecretStr
from itwin_async._core.urls import Origin
from itwin_async._files.file_download import FileDownload
from itwin_async._files.progress import DownloadProgress, OnDownloadProgress
from itwin_async._files.remote_files import check_signed_url
from itwin_async._files.resumable_file import ResumableFile
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.response import PROGRESS
from itwin_async.errors import ITwinError, ResponseError
from itwin_async.retries import RetryState

_POLL_INTERVAL: Final = 0.2  # seconds, while another process fetches the same file
_MAX_RENEWALS: Final = 3  # of a URL, without progress between them
_REFUSED: Final = {400, 401, 403, 410}  # what storages answer to a signed URL that has ended


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a list. ``name`` is a safe file name, ``size`` in bytes, ``title`` for errors.

    ``url`` gives its signed URL, or raises why there is none; ``renew`` gets a fresh one.
    """

    name: str
    size: int
    title: str
    url: Callable[[], SecretStr]
    renew: Callable[[], Awaitable[SecretStr]]


class BatchDownload:
    """Downloads the files of all ``pages`` to a directory.

    ``expected`` is the number of all files and of their bytes, for ``on_progress``, where they are
    known beforehand.
    """

    def __init__(
        self,
        executor: RequestExecutor,
        directory: Path,
        pages: AsyncIterator[Sequence[ListedFile]],
        *,
        workers: int,
        on_progress: OnDownloadProgress | None = None,
        expected: tuple[int, int] | None = None,
    ) -> None:
        self.files: int = 0  # that were listed
        self.bytes: int = 0
        self.existing: int = 0  # that were there already
        self._executor = executor
        self._directory = directory
        self._pages = pages
        self._workers = workers
        self._expected = expected
        self._listener = ProgressListener(on_progress, "download")
        self._reading = asyncio.Lock()
        self._waiting: list[ListedFile] = []  # of the page, the largest first
        self._is_ended = False
        self._running: set[FileDownload] = set()
        self._files_done = 0
        self._bytes_done = 0

    async def run(self) -> None:
        """Fetch all files that are not there. If one fails, the others stop as well."""
        await run_workers(self._workers, self._work)

    async def _work(self) -> None:
        while (listed := await self._next()) is not None:
            try:
                await self._download(listed)
            except ITwinError as error:
                error.add_note(f"This was about {listed.title}.")
                raise

    async def _next(self) -> ListedFile | None:
        """The next file that is to be fetched; None at the end of the list."""
        async with self._reading:
            while not self._waiting and not self._is_ended:
                page = await anext(self._pages, None)
                if page is None:
                    self._is_ended = True
                else:
                    await self._add(page)
            return self._waiting.pop() if self._waiting else None

    async def _add(self, page: Sequence[ListedFile]) -> None:
        missing = await in_thread(self._missing, page)
        missing.sort(key=lambda listed: listed.size, reverse=True)
        size, missing_size = (sum(listed.size for listed in files) for files in (page, missing))
        self._waiting = missing
        self.files += len(page)
        self.bytes += size
        self.existing += len(page) - len(missing)
        self._files_done += len(page) - len(missing)
        self._bytes_done += size - missing_size
        self._report()

    def _missing(self, page: Sequence[ListedFile]) -> list[ListedFile]:
        """Those files of a page that are not there as a whole; makes the directory. Blocks."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return [
            listed
            for listed in page
            if not ResumableFile(self._directory, listed.name, listed.size).find()
        ]

    async def _download(self, listed: ListedFile) -> None:
        file = ResumableFile(self._directory, listed.name, listed.size)
        attempts = RetryState(self._executor.retry, "GET")
        download = FileDownload(listed.name, file.part, attempts, self._report, size=listed.size)
        try:
            await self._lock(file)
            if file.is_whole:  # another process has fetched it
                self.existing += 1
            else:
                self._running.add(download)
                if not await download.load():
                    await self._fetch(download, listed)
                await in_thread(file.commit)
        finally:
            self._running.discard(download)
            if file.is_whole:
                self._files_done += 1
                self._bytes_done += listed.size
            await in_thread(file.close)
        self._report()

    async def _lock(self, file: ResumableFile) -> None:
        """Wait until no other process fetches this file."""
        while True:
            if await in_thread(file.open):
                return
            await anyio.sleep(_POLL_INTERVAL)

    async def _fetch(self, download: FileDownload, listed: ListedFile) -> None:
        url, renewals, reached = listed.url(), 0, 0
        while True:
            try:
                return await download.fetch(self._executor, self._check_url(url))
            except ResponseError as error:
                if download.part.size >= reached + PROGRESS:
                    renewals, reached = 0, download.part.size
                if error.status not in _REFUSED or renewals == _MAX_RENEWALS:
                    raise
            renewals += 1
            url = await listed.renew()

    def _check_url(self, url: SecretStr) -> tuple[Origin, str]:
        executor = self._executor
        allowed = executor.external.allow_plain_http
        return check_signed_url(executor.base, url, allow_plain_http=allowed)

    def _report(self) -> None:
        if not self._listener.is_listening:
            return
        files, size = self._expected or (0, 0)
        self._listener.report(
            DownloadProgress(
                max(files, self.files),
                self._files_done,
                self._bytes_done + sum(download.part.size for download in self._running),
                max(size, self.bytes) if self._expected or self._is_ended else None,
            )
        )
