"""The errors of the library. They pickle, and show no secret.

ITwinError                    str() is one line: 404 iModelNotFound: Requested iModel is ...
├── TransportError            no answer: DNS, proxy, TLS, refused, reset, timed out, cut, too large
├── ResponseError             an answer of 3xx, 4xx or 5xx
│   ├── InvalidRequestError   400, 422
│   ├── UnauthorizedError     401, and a token endpoint that refuses
│   ├── ForbiddenError        403
│   ├── NotFoundError         404
│   ├── ConflictError         409
│   │   ├── LockConflictError   other briefcases hold the locks
│   │   └── NewerChangesError   somebody pushed before
│   ├── RateLimitError        429
│   └── ServerError           5xx
├── LinkError                 a next link or redirect that must not be followed
└── DecodeError               an answer that is not what the operation declares
    └── PayloadError          an extended-data payload that is not what was asked for
"""

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec

from itwin_async._core.redaction import one_line

_MAX_DETAILS: Final = 300  # characters of an error's details in its line


def _sentences(first: str, second: str) -> str:
    """Both in a line, of which the second may be empty."""
    if not first or not second:
        return first or second
    return f"{first} {second}" if first.endswith((".", "!", "?")) else f"{first}. {second}"


class ITwinError(Exception):
    """Base of every error of this library.

    ``operation`` is the method and path template of the call (``GET /imodels/{imodel_id}``),
    ``request_id`` the correlation id of its last request, ``outcome_unknown`` whether a write
    may have been carried out although it failed.
    """

    operation: str | None = None
    request_id: str | None = None
    outcome_unknown: bool = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """What went wrong, in a sentence."""
        return str(self.args[0]) if self.args else ""

    @message.setter
    def message(self, message: str) -> None:
        super().__init__(message)  # which sets `args`

    def __str__(self) -> str:
        line = self._line()
        return f"{line} (it may have been carried out)" if self.outcome_unknown else line

    def _line(self) -> str:
        return self.message


Reason: TypeAlias = Literal[
    "dns",
    "refused",
    "unreachable",
    "proxy",
    "tls",
    "reset",
    "timeout",
    "cut",
    "malformed",
    "too large",
]


class TransportError(ITwinError):
    """There was no whole answer; ``reason`` says in a word why not."""

    reason: Reason

    def __init__(self, message: str = "", reason: Reason = "reset") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def sent(self) -> bool:
        """Whether the request, or a part of it, may have reached the platform."""
        return self.reason not in {"dns", "refused", "unreachable", "tls", "proxy"}


class ErrorDetail(msgspec.Struct, frozen=True):
    """One of the details of a `ResponseError`."""

    code: str | None = None
    message: str | None = None
    target: str | None = None


class ResponseError(ITwinError):
    """A response of 3xx, 4xx or 5xx: its ``status``, and what the platform says in it.

    ``code``, ``message``, ``target`` and ``details`` are the platform's words; ``retry_after`` is
    in seconds; ``path`` is the one that was asked for, without its query, where the platform was
    asked.
    """

    status: int = 0
    code: str | None = None
    target: str | None = None
    details: tuple[ErrorDetail, ...] = ()
    retry_after: float | None = None
    path: str | None = None
    # What the body says beyond these, by attribute: its name there and its type.
    _members: ClassVar[Mapping[str, tuple[str, Any]]] = MappingProxyType({})

    def _line(self) -> str:
        head = " ".join(str(word) for word in (self.status, self.code) if word)
        text = _sentences(self.message, one_line(" ".join(self._more()), longest=_MAX_DETAILS))
        if not head:
            return text
        return f"{head}: {text}" if text else head

    def _more(self) -> list[str]:
        """What the details say beyond the message."""
        texts: list[str] = []
        for detail in self.details:
            target, text = detail.target or "", detail.message or detail.code or ""
            if text and text != self.message:
                texts.append(text if target in text else f"{target}: {text}")
        return texts


class InvalidRequestError(ResponseError):
    """400 or 422: the platform could not accept what it was asked."""


class UnauthorizedError(ResponseError):
    """401, or a token endpoint that refused: the credentials are not valid."""


class ForbiddenError(ResponseError):
    """403: a permission is missing."""


class NotFoundError(ResponseError):
    """404: what was asked for does not exist, or not for this caller."""

    _missing: str | None = None  # what it is, where the path does not say it

    def _line(self) -> str:
        missing = self._missing or self.path
        if missing is None:
            return super()._line()
        what = one_line(missing, longest=_MAX_DETAILS)
        advice = f"{what} is missing, or not visible to this caller."
        if "%20" in what:  # ids have no spaces
            advice += " Pass an id, not a name."
        return _sentences(super()._line(), advice)


class ConflictError(ResponseError):
    """409: the state of things stands against it, such as a name that is taken."""


class ConflictingLock(msgspec.Struct, frozen=True, rename="camel"):
    """A lock that stands against another one: on which object, how strong, whose."""

    object_id: str = ""
    lock_level: str = ""
    briefcase_ids: tuple[int, ...] = ()


class LockConflictError(ConflictError):
    """Locks of other briefcases stand against those that were asked for: ``conflicting_locks``."""

    conflicting_locks: tuple[ConflictingLock, ...] = ()
    _members = MappingProxyType(
        {"conflicting_locks": ("conflictingLocks", tuple[ConflictingLock, ...])}
    )


class NewerChangesError(ConflictError):
    """There are newer changesets than the caller's; they changed the objects ``object_ids``."""

    object_ids: tuple[str, ...] = ()
    _members = MappingProxyType({"object_ids": ("objectIds", tuple[str, ...])})


class RateLimitError(ResponseError):
    """429: too many requests, for longer than the caller's `Retry` allows to wait."""


class ServerError(ResponseError):
    """5xx: the platform failed."""


class LinkError(ITwinError):
    """A next link or redirect that must not be followed: another origin, a loop."""


class DecodeError(ITwinError):
    """An answer that is not what its operation declares."""


class PayloadError(DecodeError):
    """An extended-data payload that is missing or not what was asked for.

    Names its ``imodel_id``, ``changeset_id`` and ``changeset_index``. ``received`` is what came in
    the place of base64, as JSON has it; None where the payload was base64.
    """

    imodel_id: str = ""
    changeset_id: str = ""
    changeset_index: int = 0
    received: object = None


_BY_STATUS: Final[dict[int, type[ResponseError]]] = {
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidRequestError,
    429: RateLimitError,
}
# Codes of the platform whose errors say more, in lower case: their case varies between APIs.
_BY_CODE: Final[dict[str, type[ResponseError]]] = {
    "conflictwithanotheruser": LockConflictError,
    "newerchangesexist": NewerChangesError,
}


def error_class(status: int, code: str | None = None) -> type[ResponseError]:
    """The class of the error of a status and a code."""
    if code is not None and 400 <= status < 500 and code.lower() in _BY_CODE:
        return _BY_CODE[code.lower()]
    return _BY_STATUS.get(status, ServerError if status >= 500 else ResponseError)


def name_missing(error: NotFoundError, what: str) -> None:
    """Let the error of a request whose query has the ids name them."""
    error._missing = what or None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def read_members(error: ResponseError, fields: Mapping[str, Any]) -> None:
    """Set what the body of a response says beyond code, message, target and details."""
    for attribute, (name, kind) in error._members.items():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        with contextlib.suppress(msgspec.ValidationError):
            setattr(error, attribute, msgspec.convert(fields.get(name), kind, strict=False))


E = TypeVar("E", bound=BaseException)
_PACKAGE: Final = __name__.partition(".")[0]
_HEAP_TYPE: Final = 1 << 9  # in a class's ``__flags__``: it comes from a class statement


def is_own(error: BaseException) -> bool:
    """Whether an error is of a class of this library."""
    return isinstance(error, ITwinError) and type(error).__module__.partition(".")[0] == _PACKAGE


def own_copy(error: E) -> E:
    """An equal error without a traceback, for one more task that has to raise it.

    No constructor runs: a foreign class may want arguments that nobody knows. An error that keeps
    data in slots or in C cannot be copied so, and is returned itself.
    """
    for kind in type(error).__mro__[:-1]:
        builtin = not kind.__flags__ & _HEAP_TYPE
        if (builtin and kind.__basicsize__ != BaseException.__basicsize__) or vars(kind).get(
            "__slots__"
        ):
            return error
    copied = BaseException.__new__(type(error), *error.args)
    vars(copied).update(vars(error))
    if notes := getattr(error, "__notes__", None):
        copied.__notes__ = list(notes)
    return copied


def ended_with(error: Exception, what: str, advice: str) -> Exception:
    """The error to keep of an iterator that ended with one, to be raised when it is asked again.

    Raise an `own_copy` of it. The error itself would keep its frames alive. In place of a foreign
    one an `ITwinError` names its type, and ``advice``.
    """
    if is_own(error) or type(error) in {StopAsyncIteration, RuntimeError}:
        return own_copy(error)
    return ITwinError(f"{what} ended with {type(error).__qualname__}: {advice}")
