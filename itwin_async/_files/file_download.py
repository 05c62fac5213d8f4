"""One file of a download: what has arrived, and which request asks for the rest."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import one_line
from itwin_async._core.urls import Origin
from itwin_async._files.part_file import STRONG_TAG, PartFile
from itwin_async._http.body import FileBody
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.external import SignedRequest
from itwin_async._http.response import PROGRESS
from itwin_async.errors import DecodeError, ResponseError, TransportError
from itwin_async.retries import RetryState

_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)


class FileDownload:
    """One file while it is downloaded. ``report`` is called after each piece is stored.

    ``size`` (bytes) and ``sha256`` are what the platform says of it, where it does. ``max_size`` is
    for a file whose size it does not say.
    """

    def __init__(
        self,
        path: str,
        part: PartFile,
        attempts: RetryState,
        report: Callable[[], None],
        *,
        size: int | None = None,
        sha256: str | None = None,
        max_size: int = 0,
    ) -> None:
        self.path = path
        self.part = part
        self.attempts = attempts
        self.total = size  # bytes, once it is known
        self.is_complete = False
        self._size = size
        self._sha256 = None if sha256 is None else sha256.lower()
        self._max_size = max_size
        self._report = report
        self._has_ranges = True
        self._furthest = 0  # bytes at the last progress that restarted the retries

    async def load(self) -> bool:
        """Read what an earlier process left; whether that is the complete file."""
        part = self.part
        if part.resume:
            await in_thread(part.load)
        if self._size is not None and part.size and (part.etag is None or part.size > self._size):
            await self.restart()
        if part.size and (
            part.size == self._size if self._sha256 is None else part.sha256 == self._sha256
        ):
            self._complete()
        return self.is_complete

    async def fetch(self, executor: RequestExecutor, url: tuple[Origin, str]) -> None:
        """Get what is missing from a signed URL, again after faults."""
        request = SignedRequest(
            *url, self.range_headers, timeout=executor.timeout, max_body=self._size or 0
        )
        while True:
            try:
                return await executor.external.fetch(request, self.receive, self.attempts)
            except ResponseError as error:
                if error.status != 416 or not self.range_headers():
                    raise
            await self.restart()

    def range_headers(self) -> Mapping[str, str]:
        """Headers that ask for the rest of the same content, by entity tag or by checksum."""
        part = self.part
        if not part.size or not self._has_ranges or (part.etag is None and self._sha256 is None):
            return {}
        headers = {"Range": f"bytes={part.size}-"}
        return headers if part.etag is None else {**headers, "If-Range": part.etag}

    async def restart(self, etag: str | None = None) -> None:
        """Begin again at the first byte."""
        await in_thread(self.part.restart, etag)

    async def receive(self, body: FileBody) -> None:
        """Store the body of a response: the file, or the rest of it."""
        part, headers = self.part, body.headers
        if body.status == 206:
            await self._check_range(headers.get("Content-Range", ""), headers.get("ETag", ""))
        else:
            self._has_ranges = headers.get("Content-Encoding", "identity") == "identity"
            length = headers.get("Content-Length", "")
            is_known = self._has_ranges and length.isdecimal()
            await self._set_total(int(length) if is_known else None)
            etag = headers.get("ETag", "")
            await self.restart(etag if self._has_ranges and STRONG_TAG.fullmatch(etag) else None)
        while await self._store(await body.pull()):
            pass
        if self.total is not None and part.size < self.total:
            raise TransportError(f"{one_line(self.path)} was cut short", "cut")
        if self._sha256 is not None and part.sha256 != self._sha256:
            await self.restart()
            raise DecodeError(f"{one_line(self.path)} has another SHA-256 than the platform says")
        self._complete()

    async def _set_total(self, length: int | None) -> None:
        """Take the length of a response for the size, unless the platform says another."""
        if self._size is None:
            self.total = length
        elif length not in {None, self._size}:
            await self._refuse_size(f"{length} bytes")

    async def _refuse_size(self, received: str) -> NoReturn:
        await self.restart()
        raise DecodeError(
            f"{one_line(self.path)} has {received}, and the platform says {self._size}"
        )

    async def _store(self, piece: bytes) -> bool:
        """Store the next piece of a body; False at its end, which is an empty piece."""
        part = self.part
        if part.size + len(piece) > (self._max_size if self._size is None else self._size):
            del piece  # no frame of an error shows what a body holds
            if self._size is not None:
                await self._refuse_size("more bytes")
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

    async def _check_range(self, content_range: str, etag: str) -> None:
        """Check that a partial response begins where this file ends; start again if it does not."""
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

    def _complete(self) -> None:
        self.is_complete = True
        self.total = self.part.size
        self._report()
