"""A fault is a value; the plan says which requests meet it, and how often."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from itwin_async.emulator import _checks
from itwin_async.emulator._routes import NAMES

_T = TypeVar("_T")
_R = TypeVar("_R")

_Pairs = list[tuple[str, str]]


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

    def __reduce__(self) -> tuple[object, ...]:
        # The read-only views of the HTTP library do not pickle.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        query, headers = values.pop("query"), values.pop("headers")
        plain = [[(str(name), value) for name, value in each.items()] for each in (query, headers)]
        return _record, (values, *plain)


def _record(values: Mapping[str, Any], query: _Pairs, headers: _Pairs) -> RequestRecord:
    return RequestRecord(
        query=MultiDictProxy(MultiDict(query)),
        headers=CIMultiDictProxy(CIMultiDict(headers)),
        **values,
    )


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

    def __post_init__(self) -> None:
        _checks.status(self.status)
        _checks.headers(self.headers)
        if self.code is not None:
            _checks.text("code", self.code)
        try:
            msgspec.json.encode(self.body)
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise TypeError(f"body must be bytes, text or JSON: {problem}") from None


@dataclass(frozen=True, slots=True)
class Throttle:
    """Answers 429 as the platform does, with this ``Retry-After``."""

    retry_after: float | str = 1

    def __post_init__(self) -> None:
        value: object = self.retry_after
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            kind = _checks.kind_of(value)
            raise TypeError(f"retry_after must be a number or a str, not {kind}")
        _checks.header("retry_after", str(value))


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits before the operation is performed."""

    seconds: float

    def __post_init__(self) -> None:
        _checks.number("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the connection instead of an answer.

    The operation was performed by then, unless ``after_request`` is false.
    """

    after_request: bool = True

    def __post_init__(self) -> None:
        _checks.flag("after_request", self.after_request)


@dataclass(frozen=True, slots=True)
class Cut:
    """Sends all headers and this many bytes of the body, then ends or resets the connection.

    A reset waits a moment for the client to read; what it has not read by then is lost.
    """

    after_bytes: int
    reset: bool = False

    def __post_init__(self) -> None:
        _checks.whole("after_bytes", self.after_bytes, 0)
        _checks.flag("reset", self.reset)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers with what no operation declares, such as the page of a gateway."""

    body: bytes = b"<html><body>Service unavailable</body></html>"
    content_type: str = "text/html"
    status: int = 200

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.body), bytes):
            raise TypeError(f"body must be bytes, not {_checks.kind_of(self.body)}")
        _checks.text("content_type", self.content_type, empty=True)
        _checks.header("content_type", self.content_type)
        _checks.status(self.status)


@dataclass(frozen=True, slots=True)
class Slow:
    """Sends the body in pieces of ``chunk`` bytes at this pace."""

    bytes_per_second: float
    chunk: int = 1024

    def __post_init__(self) -> None:
        _checks.number("bytes_per_second", self.bytes_per_second, most=math.inf, above=True)
        _checks.whole("chunk", self.chunk, 1)


@dataclass(frozen=True, slots=True)
class Edit:
    """Performs the operation and changes its answer.

    ``function`` gets the JSON of the body, fresh each time (bytes where it is no JSON), and gives
    what is sent in its place: JSON, or bytes as they are; None means that it changed what it got.
    ``headers`` are added. When it raises, or gives what is no JSON, the request gets a 418 and
    closing the emulator raises the error.
    """

    function: Callable[[Any], Any] | None = None
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    status: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.function is not None:
            _checks.function("function", self.function)
        _checks.headers(self.headers)
        _checks.status(self.status, none=True)
        if self.function is None and self.status is None and not self.headers:
            raise ValueError("an Edit must have a function, headers or a status")


Fault: TypeAlias = Status | Throttle | Delay | Reset | Cut | Garbage | Slow | Edit
Match: TypeAlias = str | Callable[[RequestRecord], object]

_KINDS: Final = (Status, Throttle, Delay, Reset, Cut, Garbage, Slow, Edit)
_LONGEST_WORDS: Final = 200  # of an error in the body of an answer


class BrokenFaultError(Exception):
    """A function of the plan failed with ``problem``; the text says which, and where."""

    def __init__(self, problem: BaseException, where: str) -> None:
        super().__init__(where)
        self.problem = problem

    @property
    def words(self) -> str:
        """One line for the client."""
        return f"{self}: {self.problem!a:.{_LONGEST_WORDS}}"


def attempt(
    step: Callable[[_T], _R], argument: _T, what: str, function: object, record: RequestRecord
) -> _R:
    """The result of a step that calls the user's function, or `BrokenFaultError`."""
    try:
        return step(argument)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # noqa: BLE001 - what `pytest.fail` raises is no Exception
        name = getattr(function, "__qualname__", type(function).__name__)
        where = f"in the {what} {name} of a fault, for {record.method} {record.path}"
        raise BrokenFaultError(problem, where) from None


def given(result: _T) -> _T:
    """What a plain function gave; `TypeError` for what would have to be awaited."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"the function of a fault must not be async, and gave {_checks.kind_of(result)}"
        )
    return result


def check_operation(name: object) -> None:
    """`TypeError` or `ValueError` unless this is the name of an operation."""
    _checks.text("operation", name, empty=True)
    if name not in NAMES:
        raise ValueError(f"{name!r} is no operation: one of {', '.join(sorted(NAMES))}")


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
        return attempt(lambda each: bool(given(match(each))), record, "match", match, record)
    if not match.startswith("/"):
        return match == record.operation
    path, start = record.path.rstrip("/"), match.rstrip("/")
    return path == start or path.startswith(f"{start}/")


def _check_match(match: object) -> None:
    if not isinstance(match, str):
        if not callable(match) or isinstance(match, type):
            kind = _checks.kind_of(match)
            raise TypeError(f"match must be an operation, a path or a function, not {kind}")
        _checks.function("match", match)
    elif not match.startswith("/"):
        check_operation(match)
    elif "?" in match or "#" in match:
        raise ValueError(f"match must be a path without a query, not {match!r}")


def _several(fault: object) -> tuple[Fault, ...]:
    faults: tuple[object, ...] = (fault,)
    if isinstance(fault, Sequence) and not isinstance(fault, str | bytes):
        faults = tuple(cast("Sequence[object]", fault))
    if not faults:
        raise ValueError("fault must be one fault or several, not none")
    for each in faults:
        if not isinstance(each, _KINDS):
            kind = _checks.kind_of(each)
            raise TypeError(f"fault must be a fault such as Status(500) or Reset(), not {kind}")
    return cast("tuple[Fault, ...]", faults)


class Faults:
    """The plan. Each request meets the first entry that fits it."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def __repr__(self) -> str:
        return f"<Faults: {sum(planned.left != 0 for planned in self._planned)} planned>"

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
        in a row happen together: ``[Delay(1), Cut(100)]``. ``after`` matches pass first. A function
        that raises is answered as that of an `Edit`.

        Raises `TypeError` or `ValueError` for a plan that could not happen.
        """
        _check_match(match)
        faults = _several(fault)
        _checks.whole("times", times, 1, none=True)
        _checks.whole("after", after, 0)
        self._planned.append(_Planned(match, faults, times, after))

    def clear(self) -> None:
        """Forget all entries."""
        self._planned.clear()

    def take(self, record: RequestRecord) -> tuple[Fault, ...]:
        """What this request meets; counts it. A match that fails is a `BrokenFaultError`."""
        for planned in self._planned:
            if planned.takes(record):
                return planned.faults
        return ()
