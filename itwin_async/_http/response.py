"""Responses as the layers above the transport see them, and the time limit of each."""

from collections.abc import Mapping
from typing import Final, Protocol

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
