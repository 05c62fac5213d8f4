"""Downloads of files behind signed URLs: several at a time, without the token, all or none.

A file that was cut resumes where it ended, if the rest is of the same content. Everything that
touches the disk runs in threads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from itwin_async._aio.threads import in_thread
from itwin_async._aio.workers import run_workers
from itwin_async._core.listener import ProgressListener
from itwin_async._core.urls import Origin
from itwin_async._files.file_download import FileDownload
from itwin_async._files.progress import DownloadProgress, OnDownloadProgress
from itwin_async._files.remote_files import RemoteFile, by_path, check_signed_url, content_key
from itwin_async._files.safe_paths import safe_parts
from itwin_async._files.staging import StagingDirectory
from itwin_async._http.executor import RequestExecutor
from itwin_async.errors import DecodeError, ForbiddenError
from itwin_async.retries import RetryState


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
                    staging.part(path),
                    RetryState(self._executor.retry, "GET"),
                    self._report,
                    sha256=remote.sha256,
                    max_size=self._executor.external.max_body,
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

        await run_workers(min(len(self._offers), self._executor.limiter.concurrency), work)

    async def _fetch(self, file: FileDownload) -> None:
        if await file.load():
            return None
        renewed = False
        while True:
            offers = self._offers
            remote = offers[file.path]
            if renewed or not self._has_expired(remote):
                url = self._check_url(remote)
                try:
                    return await file.fetch(self._executor, url)
                except ForbiddenError:
                    if renewed:
                        raise
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
