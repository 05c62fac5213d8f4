"""The faults that a request can meet."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import msgspec

from itwin_async.emulator import _arguments


@dataclass(frozen=True, slots=True)
class Status:
    """Responds with this status instead of the operation, which is not performed.

    Without ``body`` the documented error of that status is sent (nothing below 400), with ``code``
    in place of its code. ``body`` may be bytes, text or anything that JSON holds. A 429 has
    ``Retry-After: 1`` unless ``headers`` are given.
    """

    status: int
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    body: Any = field(default=None, kw_only=True)
    code: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _arguments.check_status(self.status)
        _arguments.check_headers(self.headers)
        if self.code is not None:
            _arguments.check_str("code", self.code)
        try:
            msgspec.json.encode(self.body)
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise TypeError(f"body must be bytes, text or JSON: {problem}") from None


@dataclass(frozen=True, slots=True)
class Throttle:
    """Responds 429 as the platform does, with this ``Retry-After``."""

    retry_after: float | str = 1

    def __post_init__(self) -> None:
        value: object = self.retry_after
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            kind = _arguments.kind_of(value)
            raise TypeError(f"retry_after must be a number or a str, not {kind}")
        _arguments.check_header_value("retry_after", str(value))


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits before the operation is performed."""

    seconds: float

    def __post_init__(self) -> None:
        _arguments.check_number("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the connection instead of sending a response.

    The operation was performed by then, unless ``after_request`` is false.
    """

    after_request: bool = True

    def __post_init__(self) -> None:
        _arguments.check_bool("after_request", self.after_request)


@dataclass(frozen=True, slots=True)
class Cut:
    """Sends all headers and this many bytes of the body, then ends or resets the connection.

    A reset waits a moment for the client to read; what it has not read by then is lost.
    """

    after_bytes: int
    reset: bool = False

    def __post_init__(self) -> None:
        _arguments.check_int("after_bytes", self.after_bytes, 0)
        _arguments.check_bool("reset", self.reset)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Responds with a body that no operation declares, such as the page of a gateway."""

    body: bytes = b"<html><body>Service unavailable</body></html>"
    content_type: str = "text/html"
    status: int = 200

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.body), bytes):
            raise TypeError(f"body must be bytes, not {_arguments.kind_of(self.body)}")
        _arguments.check_str("content_type", self.content_type, may_be_empty=True)
        _arguments.check_header_value("content_type", self.content_type)
        _arguments.check_status(self.status)


@dataclass(frozen=True, slots=True)
class Slow:
    """Sends the body in pieces of ``chunk`` bytes at this rate."""

    bytes_per_second: float
    chunk: int = 1024

    def __post_init__(self) -> None:
        _arguments.check_number(
            "bytes_per_second", self.bytes_per_second, most=math.inf, above=True
        )
        _arguments.check_int("chunk", self.chunk, 1)


@dataclass(frozen=True, slots=True)
class Edit:
    """Performs the operation and changes its response.

    ``function`` gets the JSON of the body, a new copy each time (bytes where it is no JSON), and
    returns what is sent in its place: JSON, or bytes as they are; None means that it changed what
    it got. ``headers`` are added. When it raises, or returns what is no JSON, the request gets a
    418 and closing the emulator raises the error.
    """

    function: Callable[[Any], Any] | None = None
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    status: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.function is not None:
            _arguments.check_function("function", self.function)
        _arguments.check_headers(self.headers)
        _arguments.check_status(self.status, optional=True)
        if self.function is None and self.status is None and not self.headers:
            raise ValueError("an Edit must have a function, headers or a status")


Fault: TypeAlias = Status | Throttle | Delay | Reset | Cut | Garbage | Slow | Edit
