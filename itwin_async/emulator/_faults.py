"""A fault is a value; the plan says which requests meet it, and how often."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from multidict import CIMultiDictProxy, MultiDictProxy

from itwin_async.emulator._routes import NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that arrived.

    ``path`` and ``target`` (path and query) are as they were sent, ``query`` is decoded.
    ``operation`` is None where no operation fits, "token" for the token endpoint, "download" and
    "download_archive" for files. Times are those of ``time.monotonic``; ``status`` is the one that
    was sent, and stays None when none was.
    """

    operation: str | None
    method: str
    path: str
    target: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    started: float
    ended: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Answers with this status instead of the operation, which is not performed.

    Without ``body`` the documented error of that status is sent (nothing below 400), with ``code``
    in place of its code. ``body`` may be bytes, text or anything that JSON holds. A 429 has
    ``Retry-After: 1`` unless ``headers`` are given.
    """

    status: int
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    body: Any = field(default=None, kw_only=True)
    code: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Answers 429 as the platform does, with this ``Retry-After``."""

    retry_after: float | str = 1


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits before the operation is performed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the connection instead of an answer.

    The operation was performed by then, unless ``after_request`` is false.
    """

    after_request: bool = True


@dataclass(frozen=True, slots=True)
class Cut:
    """Sends all headers and this many bytes of the body, then ends or resets the connection.

    A reset waits a moment for the client to read; what it has not read by then is lost.
    """

    after_bytes: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers with what no operation declares, such as the page of a gateway."""

    body: bytes = b"<html><body>Service unavailable</body></html>"
    content_type: str = "text/html"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Slow:
    """Sends the body in pieces of ``chunk`` bytes at this pace."""

    bytes_per_second: float
    chunk: int = 1024


@dataclass(frozen=True, slots=True)
class Edit:
    """Performs the operation and changes its answer.

    ``function`` gets the JSON of the body, fresh each time (bytes where it is no JSON), and gives
    what is sent in its place: JSON, or bytes as they are; None means that it changed what it got.
    ``headers`` are added.
    """

    function: Callable[[Any], Any] | None = None
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    status: int | None = field(default=None, kw_only=True)


Fault: TypeAlias = Status | Throttle | Delay | Reset | Cut | Garbage | Slow | Edit
Match: TypeAlias = str | Callable[[RequestRecord], object]


@dataclass(slots=True)
class _Planned:
    match: Match
    faults: tuple[Fault, ...]
    left: int | None
    after: int

    def takes(self, record: RequestRecord) -> bool:
        if self.left == 0 or not _matches(self.match, record):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


def _matches(match: Match, record: RequestRecord) -> bool:
    if callable(match):
        return bool(match(record))
    if not match.startswith("/"):
        return match == record.operation
    path, start = record.path.rstrip("/"), match.rstrip("/")
    return path == start or path.startswith(f"{start}/")


class Faults:
    """The plan. Each request meets the first entry that fits it."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(
        self,
        match: Match,
        fault: Fault | Sequence[Fault],
        times: int | None = 1,
        *,
        after: int = 0,
    ) -> None:
        """Let the next ``times`` matching requests meet a fault; None means all from now on.

        ``match`` is the name of an operation ("token" and "download" are names too), the start of
        a path in whole parts ("/" fits all), or a function of the `RequestRecord`. Several faults
        in a row happen together: ``[Delay(1), Cut(100)]``. ``after`` matches pass first.
        """
        if isinstance(match, str) and not match.startswith("/") and match not in NAMES:
            raise ValueError(f"{match!r} is no operation: one of {', '.join(sorted(NAMES))}")
        faults = tuple(fault) if isinstance(fault, Sequence) else (fault,)
        self._planned.append(_Planned(match, faults, times, after))

    def clear(self) -> None:
        """Forget all entries."""
        self._planned.clear()

    def take(self, record: RequestRecord) -> tuple[Fault, ...]:
        """What this request meets; counts it."""
        for planned in self._planned:
            if planned.takes(record):
                return planned.faults
        return ()
