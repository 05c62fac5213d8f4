"""Uploads of files to signed URLs: streamed from the disk, without the token."""

import base64
import os
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.records import Link
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr
from itwin_async._files.progress import OnUploadProgress, UploadProgress
from itwin_async._files.remote_files import check_signed_url
from itwin_async._http.body import FileBody
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.external import SignedRequest
from itwin_async.errors import DecodeError, TransportError
from itwin_async.retries import RetryState

MAX_SINGLE: Final = 256 << 20  # bytes that every version of Azure takes in one request
BLOCK: Final = 8 << 20  # bytes; a file has at most 50,000 blocks
_PIECE: Final = 256 << 10  # bytes of one read
_STORAGE_TYPES: Final = ("azure", "google")


class FileSource:
    """A file that is sent, with the size that it had when it was opened. Its methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()  # a request that failed may still be reading
        self.size = 0
        self.failure: Exception | None = None

    def open(self) -> None:
        """Open it; `ValueError` where it is empty."""
        self._file = self._path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size
        if not self.size:
            raise ValueError(f"path must not be an empty file: {one_line(str(self._path))}")

    def read(self, start: int, size: int) -> bytes:
        """Bytes of it, all of which must be there."""
        try:
            with self._lock:
                if self._file is None:
                    raise ValueError("the file is closed")  # noqa: TRY301
                self._file.seek(start)
                piece = self._file.read(size)
            if len(piece) < size:
                name = self._path.name
                raise OSError(f"{name} became shorter while it was uploaded")  # noqa: TRY301
        except (OSError, ValueError) as error:
            self.failure = error
            raise
        return piece

    def close(self) -> None:
        """Close it, if it was opened."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()


class _Part(AsyncIterator[bytes]):
    """Bytes of a file as the body of one request."""

    def __init__(
        self, source: FileSource, start: int, size: int, report: Callable[[int], None]
    ) -> None:
        self._source = source
        self._at = start
        self._stop = start + size
        self._report = report

    async def __anext__(self) -> bytes:
        self._report(self._at)
        if self._at == self._stop:
            raise StopAsyncIteration
        size = min(_PIECE, self._stop - self._at)
        piece = await in_thread(self._source.read, self._at, size)
        self._at += size
        return piece


class Upload:
    """Sends one file to a signed link: in one request, or to Azure in blocks where it is large."""

    def __init__(
        self,
        executor: RequestExecutor,
        source: FileSource,
        link: Link | None,
        on_progress: OnUploadProgress | None,
    ) -> None:
        url = None if link is None or link.href is None else SecretStr(link.href)
        storage_type = None if link is None else link.storage_type
        if storage_type not in {None, *_STORAGE_TYPES}:
            raise DecodeError("the file is to be uploaded to neither Azure nor Google storage")
        allowed = executor.external.allow_plain_http
        self._url = check_signed_url(executor.base, url, allow_plain_http=allowed)
        self._executor = executor
        self._source = source
        self._is_azure = storage_type != "google"
        self._listener = ProgressListener(on_progress, "upload")

    async def run(self) -> None:
        """Send the file. A request that fails is sent again, as it makes the same file."""
        size = self._source.size
        if not self._is_azure or size <= MAX_SINGLE:
            headers = {"x-ms-blob-type": "BlockBlob"} if self._is_azure else {}
            headers["Content-Type"] = "application/octet-stream"
            await self._put(partial(self._part, 0, size), size, headers=headers)
            return
        ids: list[str] = []
        for number, start in enumerate(range(0, size, BLOCK)):
            ids.append(base64.b64encode(f"{number:06}".encode()).decode())
            query = f"comp=block&blockid={quote(ids[-1], safe='')}"
            length = min(BLOCK, size - start)
            await self._put(partial(self._part, start, length), length, query)
        listed = "".join(f"<Latest>{id}</Latest>" for id in ids)
        document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        await self._put(lambda: document, len(document), "comp=blocklist")

    def _part(self, start: int, size: int) -> _Part:
        return _Part(self._source, start, size, self._report)

    def _report(self, sent: int) -> None:
        self._listener.report(UploadProgress(sent, self._source.size))

    async def _put(
        self,
        make_body: Callable[[], object],
        size: int,
        query: str = "",
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        origin, target = self._url
        if query:
            target = SecretStr(f"{target}{'&' if '?' in target else '?'}{query}")
        all_headers = {**(headers or {}), "Content-Length": str(size)}
        executor = self._executor
        request = SignedRequest(
            origin,
            target,
            lambda: all_headers,
            method="PUT",
            make_body=self._checked(make_body),
            timeout=executor.timeout,
        )
        try:
            await executor.external.fetch(request, _ignore, RetryState(executor.retry, "PUT"))
        except TransportError:
            if self._source.failure is not None:
                raise self._source.failure from None
            raise

    def _checked(self, make_body: Callable[[], object]) -> Callable[[], object]:
        """The same, which raises why the file could not be read by an earlier attempt."""

        def make() -> object:
            if self._source.failure is not None:
                raise self._source.failure
            return make_body()

        return make


async def _ignore(_: FileBody) -> None:
    """The body of a success says nothing."""
