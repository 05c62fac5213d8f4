"""The plan of faults: which requests meet them, and how often."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar, cast

from itwin_async.emulator import _arguments
from itwin_async.emulator._faults.record import RequestRecord
from itwin_async.emulator._faults.types import (
    Cut,
    Delay,
    Edit,
    Fault,
    Garbage,
    Reset,
    Slow,
    Status,
    Throttle,
)
from itwin_async.emulator._routes import NAMES

_T = TypeVar("_T")
_R = TypeVar("_R")

Match: TypeAlias = str | Callable[[RequestRecord], object]

_FAULTS: Final = (Status, Throttle, Delay, Reset, Cut, Garbage, Slow, Edit)
_MAX_SUMMARY: Final = 200  # characters of an error in the body of a response


class BrokenFaultError(Exception):
    """A function of the plan failed with ``cause``; the text says which function, and where."""

    def __init__(self, cause: BaseException, where: str) -> None:
        super().__init__(where)
        self.cause = cause

    @property
    def summary(self) -> str:
        """One line for the client."""
        return f"{self}: {self.cause!a:.{_MAX_SUMMARY}}"


def call_step(
    step: Callable[[_T], _R], argument: _T, kind: str, function: object, record: RequestRecord
) -> _R:
    """Run a step that calls the user's function; its failure becomes a `BrokenFaultError`."""
    try:
        return step(argument)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - what `pytest.fail` raises is no Exception
        name = getattr(function, "__qualname__", type(function).__name__)
        where = f"in the {kind} {name} of a fault, for {record.method} {record.path}"
        raise BrokenFaultError(error, where) from None


def check_not_awaitable(result: _T) -> _T:
    """The result of a plain function; `TypeError` for one that would have to be awaited."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        kind = _arguments.kind_of(result)
        raise TypeError(f"the function of a fault must not be async, and gave {kind}")
    return result


def check_operation(name: object) -> None:
    """`TypeError` or `ValueError` unless this is the name of an operation."""
    _arguments.check_str("operation", name, may_be_empty=True)
    if name not in NAMES:
        raise ValueError(f"{name!r} is no operation: one of {', '.join(sorted(NAMES))}")


@dataclass(slots=True)
class _PlanEntry:
    match: Match
    faults: tuple[Fault, ...]
    remaining: int | None
    skip: int

    def take(self, record: RequestRecord) -> bool:
        """Whether this request meets the entry; counts it."""
        if self.remaining == 0 or not _matches(self.match, record):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.remaining is not None:
            self.remaining -= 1
        return True


def _matches(match: Match, record: RequestRecord) -> bool:
    if callable(match):
        return call_step(
            lambda request: bool(check_not_awaitable(match(request))),
            record,
            "match",
            match,
            record,
        )
    if not match.startswith("/"):
        return match == record.operation
    path, start = record.path.rstrip("/"), match.rstrip("/")
    return path == start or path.startswith(f"{start}/")


def _check_match(match: object) -> None:
    if not isinstance(match, str):
        if not callable(match) or isinstance(match, type):
            kind = _arguments.kind_of(match)
            raise TypeError(f"match must be an operation, a path or a function, not {kind}")
        _arguments.check_function("match", match)
    elif not match.startswith("/"):
        check_operation(match)
    elif "?" in match or "#" in match:
        raise ValueError(f"match must be a path without a query, not {match!r}")


def _to_faults(value: object) -> tuple[Fault, ...]:
    faults: tuple[object, ...] = (value,)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        faults = tuple(cast("Sequence[object]", value))
    if not faults:
        raise ValueError("fault must be one fault or several, not none")
    for fault in faults:
        if not isinstance(fault, _FAULTS):
            kind = _arguments.kind_of(fault)
            raise TypeError(f"fault must be a fault such as Status(500) or Reset(), not {kind}")
    return cast("tuple[Fault, ...]", faults)


class Faults:
    """The plan of faults. Each request meets the first entry that matches it."""

    def __init__(self) -> None:
        self._entries: list[_PlanEntry] = []

    def __repr__(self) -> str:
        return f"<Faults: {sum(entry.remaining != 0 for entry in self._entries)} planned>"

    def add(
        self,
        match: Match,
        fault: Fault | Sequence[Fault],
        times: int | None = 1,
        *,
        after: int = 0,
    ) -> None:
        """Let the next ``times`` matching requests meet a fault; None means all from now on.

        ``match`` is the name of an operation ("authorize", "token", "revocation" and "download"
        are names too), the start of a path in whole parts ("/" fits all), or a function of the
        `RequestRecord`. Several faults in a list happen together: ``[Delay(1), Cut(100)]``.
        ``after`` matching requests pass first. A function that raises has the effect that one of
        an `Edit` has.

        Raises `TypeError` or `ValueError` for a plan that could not happen.

        Example::

            emulator.faults.add("list_extended_data", Throttle(retry_after=1))
            emulator.faults.add("/imodels", [Delay(0.1), Status(503)], times=3, after=10)
            emulator.faults.add(lambda request: request.method == "POST", Reset(), times=None)
        """
        _check_match(match)
        faults = _to_faults(fault)
        _arguments.check_int("times", times, 1, optional=True)
        _arguments.check_int("after", after, 0)
        self._entries.append(_PlanEntry(match, faults, times, after))

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    def take(self, record: RequestRecord) -> tuple[Fault, ...]:
        """The faults this request meets; a match that fails is a `BrokenFaultError`."""
        for entry in self._entries:
            if entry.take(record):
                return entry.faults
        return ()
