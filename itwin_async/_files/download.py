"""Downloads of files behind signed URLs: several at a time, without the token, all or none.

A file that was cut resumes where it ended, if the rest is of the same content. Everything that
touches the disk runs in threads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.urls import Origin
from itwin_async._files.file_download import FileDownload
from itwin_async._files.remote_files import RemoteFile, by_path, check_signed_url, content_key
from itwin_async._files.safe_paths import safe_parts
from itwin_async._files.staging import StagingDirectory
from itwin_async._http.executor import RequestExecutor
from itwin_async.errors import DecodeError, ForbiddenError, ResponseError
from itwin_async.retries import RetryState


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is: ``files_done`` of the ``files`` are complete.

    ``bytes_done`` are on the disk, of all files; they become fewer where a file begins again.
    ``bytes_total`` is None until the size of each file is known.
    """

    files: int
    files_done: int
    bytes_done: int
    bytes_total: int | None


OnDownloadProgress: TypeAlias = Callable[[DownloadProgress], object]


class Download:
    """Downloads files to a directory, all or none.

    ``renew`` asks the platform for the same files again, with fresh URLs: once for all whose URLs
    expired together, and at most once for each file.
    """

    def __init__(
        self,
        executor: RequestExecutor,
        offered: Sequence[RemoteFile],
        renew: Callable[[], Awaitable[Sequence[RemoteFile]]],
        directory: Path,
        *,
        overwrite: bool,
        resume: bool,
        on_progress: OnDownloadProgress | None,
    ) -> None:
        self._executor = executor
        self._offers = self._first_offers = by_path(offered)
        for path, remote in self._offers.items():
            safe_parts(path)
            self._check_url(remote)
        self._renew = renew
        self._renewing = asyncio.Lock()
        key = content_key(offered) if resume else None
        self._staging = StagingDirectory(
            directory, list(self._offers), overwrite=overwrite, key=key
        )
        self._listener = ProgressListener(on_progress, "download")
        self._files: list[FileDownload] = []

    async def run(self) -> dict[str, Path]:
        """Fetch all files; where they are, by relative path. If one fails, none is there."""
        staging = self._staging
        try:
            await in_thread(staging.open)
            self._files = [
                FileDownload(
                    path,
                    remote.sha256,
                    staging.part(path),
                    RetryState(self._executor.retry, "GET"),
                    self._executor.external.max_body,
                    self._report,
                )
                for path, remote in self._offers.items()
            ]
            await self._fetch_all()
            found = await in_thread(staging.rename_all)
            await in_thread(staging.commit)
        except BaseException:
            await in_thread(staging.rollback)
            raise
        return found

    async def _fetch_all(self) -> None:
        waiting = iter(self._files)

        async def work() -> None:
            for file in waiting:
                await self._fetch(file)

        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(len(self._offers), self._executor.limiter.concurrency)):
                    group.start_soon(work)
        except ExceptionGroup as failures:
            failure = failures.exceptions[0]
        if failure is not None:  # raised here, it does not hold on to the others
            raise failure

    async def _fetch(self, file: FileDownload) -> None:
        if await file.load():
            return None
        fetch = self._executor.external.fetch
        renewed = False
        while True:
            offers = self._offers
            remote = offers[file.path]
            if renewed or not self._has_expired(remote):
                url = self._check_url(remote)
                try:
                    return await fetch(
                        url,
                        file.receive,
                        file.attempts,
                        file.range_headers,
                        seconds=self._executor.timeout,
                    )
                except ForbiddenError:
                    if renewed:
                        raise
                except ResponseError as error:
                    if error.status != 416 or not file.range_headers():
                        raise
                    await file.restart()
                    continue
            renewed = True
            async with self._renewing:
                if self._offers is offers:
                    fresh = by_path(await self._renew())
                    if fresh.keys() != offers.keys():
                        raise DecodeError("the files changed while they were downloaded")
                    self._offers = fresh

    def _check_url(self, remote: RemoteFile) -> tuple[Origin, str]:
        executor = self._executor
        allowed = executor.external.allow_plain_http
        return check_signed_url(executor.base, remote.url, allow_plain_http=allowed)

    def _has_expired(self, remote: RemoteFile) -> bool:
        """Whether a URL has expired by our clock, which is believed once: it may be wrong."""
        return (
            self._offers is self._first_offers
            and remote.expires_at is not None
            and remote.expires_at <= datetime.now(UTC)
        )

    def _report(self) -> None:
        if not self._listener.is_listening:
            return
        files = self._files
        sizes = [file.total for file in files if file.total is not None]
        self._listener.report(
            DownloadProgress(
                len(files),
                sum(file.is_complete for file in files),
                sum(file.part.size for file in files),
                sum(sizes) if len(sizes) == len(files) else None,
            )
        )
