"""Responses as the layers above the transport see them, and the time limit of each."""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol, cast

from itwin_async._aio.timeouts import Timeout
from itwin_async.errors import TransportError

PROGRESS: Final = 1_024  # bytes that must come within `timeout` seconds of waiting


class Response(Protocol):
    """A response whose headers are in, and whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, by name in any case."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the whole body was read."""
        ...

    async def read(self) -> bytes:
        """The next piece of the body as decompressed, empty at its end."""
        ...

    def close(self) -> None:
        """Close it now: a connection whose body is not in is cut."""
        ...


class ResponseTimeout(Timeout):
    """Bounds the wait for the headers of a response, then for each kilobyte of its body.

    The transport uses one for many responses in turn. Its timer is moved and not made anew, which
    cost 5 µs for each response.
    """

    __slots__ = ("host", "in_body")

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.host: str = ""
        self.in_body: bool = False

    def error(self) -> TransportError:
        """The error of a wait beyond the limit."""
        message = (
            f"{self.host} kept us waiting for its body: less than {PROGRESS:,} bytes came "
            f"within {self.seconds:g} s"
            if self.in_body
            else f"{self.host} did not answer within {self.seconds:g} s"
        )
        return TransportError(message, "timeout")


class ResponseTimeouts:
    """Lends the timeouts of a transport, and keeps those of its usual length for the next."""

    __slots__ = ("_closed", "_idle", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle: list[ResponseTimeout] = []
        self._closed = False

    def take(self, host: str, seconds: float | None) -> ResponseTimeout:
        """A timeout that waits for the headers of a response; None is the usual length."""
        if seconds is None or seconds == self._seconds:
            timeout = self._idle.pop() if self._idle else ResponseTimeout(self._seconds)
        else:
            timeout = ResponseTimeout(seconds)
        timeout.host, timeout.in_body = host, False
        timeout.restart()
        return timeout

    def give_back(self, timeout: ResponseTimeout) -> None:
        """Keep a usual timeout, unless a task still waits with it."""
        if self._closed or timeout.active or timeout.seconds != self._seconds:
            timeout.cancel()
        else:
            self._idle.append(timeout)

    def close(self) -> None:
        """Cancel those that nobody has, and what is given back from now on."""
        self._closed = True
        while self._idle:
            self._idle.pop().cancel()


class _TimedBody(AsyncIterator[bytes]):
    """A body that is sent in pieces, of which each has the whole time of the timeout."""

    def __init__(self, pieces: AsyncIterator[bytes], timeout: ResponseTimeout) -> None:
        self._pieces = pieces
        self._timeout = timeout

    async def __anext__(self) -> bytes:
        if self._timeout.active:
            self._timeout.resume()
        return await anext(self._pieces)


def timed_body(body: object, timeout: ResponseTimeout) -> object:
    """The body of a request; one in pieces as one whose pieces have the whole time each."""
    if body is None or not isinstance(body, AsyncIterator):
        return body
    return _TimedBody(cast("AsyncIterator[bytes]", body), timeout)
