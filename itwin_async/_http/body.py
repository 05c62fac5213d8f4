"""The body of a success, read piece by piece; each read has a slot of the limiter."""

import time
from collections.abc import Callable
from typing import Protocol

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStrs
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.transport import Response
from itwin_async.auth import Token


class Body(Protocol):
    """The body of a success, pulled piece by piece."""

    request_id: str

    @property
    def content_type(self) -> str:
        """What the answer says it is, fit to be shown."""
        ...

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        ...

    def close(self, error: BaseException | None = None) -> None:
        """Be done with it, now; ``error`` is why, None for no more need."""
        ...


class LiveBody:
    """A body on its way. Outside its attempt each pull takes a slot, and none between pulls."""

    __slots__ = (
        "_instrumentation",
        "_lifecycle",
        "_limiter",
        "_response",
        "_span",
        "_token",
        "at_end",
        "request_id",
        "slot",
    )

    def __init__(  # noqa: PLR0917 - what an attempt has in hand
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
        self.slot: Slot | None = slot
        self.request_id = request_id
        self.at_end = False

    @property
    def content_type(self) -> str:
        """What the answer says it is, fit to be shown."""
        said = self._response.headers.get("Content-Type", "")
        return one_line(said, longest=80, secrets=SecretStrs((self._token.value,)))

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        if self.slot is not None:
            return await self._read()
        span = self._span
        try:
            with self._lifecycle.scope():
                since = time.monotonic()
                slot = await self._limiter.acquire_read()
                if span is not None:
                    span.waited += time.monotonic() - since
                try:
                    piece = await self._read()
                finally:
                    slot.release()
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        if self.at_end and span is not None:
            span.end()
        return piece

    async def _read(self) -> bytes:
        piece = await self._response.read()
        self.at_end = not piece
        return self._instrumentation.received(piece, self._span)

    def hand_over(self) -> None:
        """The attempt is over; whoever has the body pulls the rest of it."""
        self.slot = None
        if self.at_end and self._span is not None:
            self._span.end()

    def close(self, error: BaseException | None = None) -> None:
        """Cut the connection if the body is not in; ``error`` is why, None for no more need."""
        self._response.close()
        if self.slot is None and self._span is not None:
            self._span.end(error)


async def read_whole(body: Body, check: Callable[[int], None] | None = None) -> bytes:
    """All of a body; ``check`` is told its size so far, and may raise."""
    pieces = _Pieces()
    try:
        while pieces.add(await body.pull()):
            if check is not None:
                check(pieces.size)
    except BaseException:
        pieces.all.clear()  # the error leads here, and is kept until the next copy is in
        raise
    return b"".join(pieces.all) if len(pieces.all) != 1 else pieces.all[0]


class _Pieces:
    """A body so far: no local of a frame shows it, for it may hold signed URLs."""

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
