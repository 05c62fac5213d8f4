"""Files behind signed URLs: fetched side by side and without the token, all of them or none.

A file that was cut goes on where it was, if what there is of it and the rest belong together.
Everything that touches the disk runs in threads.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr
from itwin_async._core.urls import Origin, split
from itwin_async._files.staging import PartFile, StagingDirectory, inside
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.external import FileBody
from itwin_async._http.transport import PROGRESS
from itwin_async.errors import DecodeError, ForbiddenError, LinkError, ResponseError, TransportError
from itwin_async.retries import RetryState

_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # a weak entity tag proves no bytes


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is: ``files_done`` of the ``files`` are whole.

    ``bytes_done`` are on the disk, of all files; they become fewer where a file begins anew.
    ``bytes_total`` is None until the size of each file is known.
    """

    files: int
    files_done: int
    bytes_done: int
    bytes_total: int | None


OnDownloadProgress: TypeAlias = Callable[[DownloadProgress], object]


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the platform offers it. ``path`` is relative, with slashes, and not to be trusted.

    ``sha256`` is hexadecimal; without one, a file is whole when its answer is.
    """

    path: str
    url: SecretStr | None
    expires_at: datetime | None = None
    sha256: str | None = None


def signed(
    base: Origin, url: SecretStr | None, *, allow_plain_http: bool = False
) -> tuple[Origin, str]:
    """Origin and target, byte for byte, of a URL to fetch without the token; `LinkError` if bad."""
    parts = split(url or "")
    if parts is None:
        raise LinkError("a download URL is not an absolute https URL with a plain host")
    origin, parts = parts[0], (parts[0], SecretStr(parts[1]))
    if origin.is_loopback and not base.is_loopback:
        raise LinkError("a download URL leads to this machine")
    plain = allow_plain_http or (origin.is_loopback and base.scheme == "http")
    if origin.scheme != "https" and not plain:
        raise LinkError(f"a download URL is not https: {origin}")
    return parts


def _by_path(offered: Sequence[Remote]) -> dict[str, Remote]:
    offers = {remote.path: remote for remote in offered}
    if len(offers) < len(offered):
        raise DecodeError("two files have the same relativePath")
    return offers


def _key(offered: Sequence[Remote]) -> str:
    """What stands for the content of these files, also in another process."""
    files = [
        (each.path, each.sha256 or (each.url or "").partition("?")[0])
        for each in sorted(offered, key=lambda each: each.path)
    ]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


class Download:
    """Files on their way to a directory.

    ``renew`` asks for the same files again, with fresh URLs: at most once for each file, and for
    all whose URLs ended together.
    """

    def __init__(
        self,
        executor: RequestExecutor,
        offered: Sequence[Remote],
        renew: Callable[[], Awaitable[Sequence[Remote]]],
        directory: Path,
        *,
        overwrite: bool,
        resume: bool,
        on_progress: OnDownloadProgress | None,
    ) -> None:
        self._executor = executor
        self._offers = self._first = _by_path(offered)
        for path, remote in self._offers.items():
            inside(path)
            self._signed(remote)
        self._renew = renew
        self._renewing = asyncio.Lock()
        key = _key(offered) if resume else None
        self._staging = StagingDirectory(
            directory, list(self._offers), overwrite=overwrite, key=key
        )
        self._listener = ProgressListener(on_progress, "download")
        self._files: list[_File] = []

    async def run(self) -> dict[str, Path]:
        """Fetch all files; where they are, by relative path. If one fails, none is there."""
        staging = self._staging
        try:
            await in_thread(staging.open)
            self._files = [
                _File(
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
            found = await in_thread(staging.settle)
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

    async def _fetch(self, file: "_File") -> None:
        if await file.load():
            return None
        fetch = self._executor.external.fetch
        renewed = False
        while True:
            offers = self._offers
            remote = offers[file.path]
            if renewed or not self._has_ended(remote):
                url = self._signed(remote)
                try:
                    return await fetch(url, file.receive, file.attempts, file.range_headers)
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
                    fresh = _by_path(await self._renew())
                    if fresh.keys() != offers.keys():
                        raise DecodeError("the files changed while they were downloaded")
                    self._offers = fresh

    def _signed(self, remote: Remote) -> tuple[Origin, str]:
        executor = self._executor
        allowed = executor.external.allow_plain_http
        return signed(executor.base, remote.url, allow_plain_http=allowed)

    def _has_ended(self, remote: Remote) -> bool:
        """Whether a URL has ended by our clock, which is believed once: it may be wrong."""
        return (
            self._offers is self._first
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
                sum(file.is_whole for file in files),
                sum(file.part.size for file in files),
                sum(sizes) if len(sizes) == len(files) else None,
            )
        )


class _File:
    """One file on its way: what is there of it, and what to ask for next."""

    def __init__(  # noqa: PLR0917 - what it is made of
        self,
        path: str,
        sha256: str | None,
        part: PartFile,
        attempts: RetryState,
        max_size: int,
        report: Callable[[], None],
    ) -> None:
        self.path = path
        self.part = part
        self.attempts = attempts
        self.total: int | None = None  # bytes, once that is known
        self.is_whole = False
        self._sha256 = None if sha256 is None else sha256.lower()
        self._max_size = max_size
        self._report = report
        self._has_ranges = True
        self._furthest = 0  # bytes that were there at the last progress

    async def load(self) -> bool:
        """Take up what an earlier process left; whether that is the whole file."""
        if self.part.resume:
            await in_thread(self.part.load)
        if self.part.size and self.part.sha256 == self._sha256:
            self._end()
        return self.is_whole

    def range_headers(self) -> Mapping[str, str]:
        """What asks for the rest: of the same content, by entity tag or by checksum."""
        part = self.part
        if not part.size or not self._has_ranges or (part.etag is None and self._sha256 is None):
            return {}
        wanted = {"Range": f"bytes={part.size}-"}
        return wanted if part.etag is None else {**wanted, "If-Range": part.etag}

    async def restart(self, etag: str | None = None) -> None:
        """Begin at the first byte."""
        await in_thread(self.part.restart, etag)

    async def receive(self, body: FileBody) -> None:
        """Take the file, or the rest of it."""
        part, headers = self.part, body.headers
        if body.status == 206:
            await self._go_on(headers.get("Content-Range", ""), headers.get("ETag", ""))
        else:
            self._has_ranges = headers.get("Content-Encoding", "identity") == "identity"
            length = headers.get("Content-Length", "")
            is_known = self._has_ranges and length.isdecimal()
            self.total = int(length) if is_known else None
            etag = headers.get("ETag", "")
            await self.restart(etag if self._has_ranges and _STRONG.fullmatch(etag) else None)
        while await self._take(await body.pull()):
            pass
        if self.total is not None and part.size < self.total:
            raise TransportError(f"{one_line(self.path)} was cut short", "cut")
        if self._sha256 is not None and part.sha256 != self._sha256:
            await self.restart()
            raise DecodeError(f"{one_line(self.path)} has another SHA-256 than the platform says")
        self._end()

    async def _take(self, piece: bytes) -> bool:
        """Store a piece; False behind the last one."""
        part = self.part
        if part.size + len(piece) > self._max_size:
            del piece  # no frame of an error shows what a body holds
            raise TransportError(
                f"{one_line(self.path)} is larger than max_body, {self._max_size} bytes",
                "too large",
            )
        if not piece:
            return False
        await in_thread(part.append, piece)
        if part.size >= self._furthest + PROGRESS:
            self._furthest = part.size
            self.attempts.progressed()
        self._report()
        return True

    async def _go_on(self, content_range: str, etag: str) -> None:
        """See that a partial answer begins where this file ends; begin anew if it does not."""
        part, match = self.part, _RANGE.fullmatch(content_range)
        is_same = not etag or part.etag in {None, etag}
        if match is not None and int(match[1]) == part.size and is_same and self.range_headers():
            total = None if match[2] == "*" else int(match[2])
            if self.total is None or total is None or total == self.total:
                self.total = self.total if total is None else total
                return
        await self.restart()
        raise TransportError(
            f"{one_line(self.path)} was answered with another range than was asked for", "malformed"
        )

    def _end(self) -> None:
        self.is_whole = True
        self.total = self.part.size
        self._report()
