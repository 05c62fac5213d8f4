"""Bodies of successes, read piece by piece; each read has a slot of the limiter."""

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStrs
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.response import Response
from itwin_async.auth import Token


class Body(Protocol):
    """The body of a success, pulled piece by piece."""

    request_id: str

    @property
    def content_type(self) -> str:
        """The content type of the response, fit to be shown."""
        ...

    @property
    def date(self) -> str | None:
        """The header that says when the response was made, by the clock of who made it."""
        ...

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        ...

    def close(self, error: BaseException | None = None) -> None:
        """Close it now; ``error`` is why, None if the rest is not needed."""
        ...


class LiveBody:
    """A body that is being received.

    During its attempt it uses the slot of the attempt. Once detached, each pull takes a slot of
    its own, and none is held between pulls.
    """

    __slots__ = (
        "_instrumentation",
        "_lifecycle",
        "_limiter",
        "_response",
        "_slot",
        "_span",
        "_token",
        "request_id",
    )

    def __init__(  # noqa: PLR0917 - the parts of an attempt
        self,
        lifecycle: SessionLifecycle,
        limiter: RateLimiter,
        instrumentation: Instrumentation,
        response: Response,
        token: Token,
        slot: Slot,
        request_id: str,
        span: OperationSpan | None,
    ) -> None:
        self._lifecycle = lifecycle
        self._limiter = limiter
        self._instrumentation = instrumentation
        self._response = response
        self._token = token
        self._span = span
        self._slot: Slot | None = slot
        self.request_id = request_id

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, by name in any case."""
        return self._response.headers

    @property
    def content_type(self) -> str:
        """The content type of the response, fit to be shown."""
        value = self._response.headers.get("Content-Type", "")
        return one_line(value, longest=80, secrets=SecretStrs((self._token.value,)))

    @property
    def date(self) -> str | None:
        """The header that says when the response was made, by the clock of who made it."""
        return self._response.headers.get("Date")

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        if self._response.ended:
            piece = b""
        elif self._slot is not None:
            piece = await self._response.read()
            self._instrumentation.body_received(len(piece), self._span)
        else:
            piece = await self._pull_with_own_slot()
        if not piece and self._slot is None and self._span is not None:
            self._span.end()
        return piece

    async def _pull_with_own_slot(self) -> bytes:
        span = self._span
        try:
            with self._lifecycle.scope():
                since = time.monotonic()
                slot = await self._limiter.acquire_read()
                if span is not None:
                    span.waited += time.monotonic() - since
                try:
                    piece = await self._response.read()
                finally:
                    slot.release()
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        self._instrumentation.body_received(len(piece), span)
        return piece

    def detach(self) -> None:
        """Part from the slot of the attempt, which is over."""
        self._slot = None
        if self._span is not None and self._response.ended:
            self._span.end()

    def close(self, error: BaseException | None = None) -> None:
        """Cut the connection if the body is not in; ``error`` is why, None if it is not needed."""
        self._response.close()
        if self._slot is None and self._span is not None:
            self._span.end(error)


class FileBody:
    """The body of a file that is being received, and the status and headers before it."""

    __slots__ = ("_instrumentation", "_response", "_span", "headers", "status")

    def __init__(
        self, response: Response, instrumentation: Instrumentation, span: OperationSpan | None
    ) -> None:
        self._response = response
        self._instrumentation = instrumentation
        self._span = span
        self.status: Final = response.status
        self.headers: Final = response.headers

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        piece = await self._response.read()
        self._instrumentation.body_received(len(piece), self._span)
        return piece


async def read_whole(body: Body, check: Callable[[int], None] | None = None) -> bytes:
    """All of a body; ``check`` is called with its size so far, and may raise."""
    pieces = _Pieces()
    try:
        while pieces.add(await body.pull()):
            if check is not None:
                check(pieces.size)
    except BaseException:
        pieces.all.clear()  # the error refers to this frame, and is kept during the next attempt
        raise
    return b"".join(pieces.all) if len(pieces.all) != 1 else pieces.all[0]


class _Pieces:
    """A body so far. No local of a frame shows it, for it may hold signed URLs."""

    __slots__ = ("all", "size")

    def __init__(self) -> None:
        self.all: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> bool:
        """Whether there was one."""
        if piece:
            self.all.append(piece)
            self.size += len(piece)
        return bool(piece)
