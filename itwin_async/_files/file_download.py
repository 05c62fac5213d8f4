"""One file of a download: what has arrived, and which request asks for the rest."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import one_line
from itwin_async._files.part_file import PartFile
from itwin_async._http.external import FileBody
from itwin_async._http.response import PROGRESS
from itwin_async.errors import DecodeError, TransportError
from itwin_async.retries import RetryState

_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # a weak entity tag proves no bytes


class FileDownload:
    """One file while it is downloaded. ``report`` is called after each piece is stored."""

    def __init__(  # noqa: PLR0917 - the parts it uses
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
        self.total: int | None = None  # bytes, once the size is known
        self.is_complete = False
        self._sha256 = None if sha256 is None else sha256.lower()
        self._max_size = max_size
        self._report = report
        self._has_ranges = True
        self._furthest = 0  # bytes at the last progress that restarted the retries

    async def load(self) -> bool:
        """Read what an earlier process left; whether that is the complete file."""
        if self.part.resume:
            await in_thread(self.part.load)
        if self.part.size and self.part.sha256 == self._sha256:
            self._complete()
        return self.is_complete

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
            self.total = int(length) if is_known else None
            etag = headers.get("ETag", "")
            await self.restart(etag if self._has_ranges and _STRONG.fullmatch(etag) else None)
        while await self._store(await body.pull()):
            pass
        if self.total is not None and part.size < self.total:
            raise TransportError(f"{one_line(self.path)} was cut short", "cut")
        if self._sha256 is not None and part.sha256 != self._sha256:
            await self.restart()
            raise DecodeError(f"{one_line(self.path)} has another SHA-256 than the platform says")
        self._complete()

    async def _store(self, piece: bytes) -> bool:
        """Store the next piece of a body; False at its end, which is an empty piece."""
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
