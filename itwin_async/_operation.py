"""What can be asked of the platform, as values: an operation is declared once and does no I/O."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from itwin_async._dates import with_dates_mended
from itwin_async._silent import SilentValue
from itwin_async.errors import DecodeError, one_line

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
QueryValue: TypeAlias = str | int | float | bool | None

# Invalid UTF-8 and nesting beyond the interpreter's limit are not MsgspecErrors.
NOT_DECODED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MINIMAL: Final = "return=minimal"
REPRESENTATION: Final = "return=representation"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@functools.lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    """A decoder for a type, made once; `TypeError` for what msgspec cannot decode to."""
    try:
        return _decoder(kind)  # type: ignore[arg-type]  # types hash
    except (TypeError, NameError) as error:
        name = getattr(kind, "__name__", None) or repr(kind)
        raise TypeError(f"msgspec cannot decode to {name}: {one_line(str(error))}") from None


def why_not_decoded(error: Exception) -> str:
    """What was wrong with a body, in a few words and without its content."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return one_line(_QUOTED.sub("'…'", str(error)))


_QUOTED: Final = re.compile(r"'[^']*'")  # a value of the body; types and paths are in backticks


class Described(Protocol):
    """Something with a content type that is fit to be shown."""

    @property
    def content_type(self) -> str:
        """What an answer says it is."""
        ...


@dataclass(frozen=True, slots=True)
class Operation(Generic[T_co]):
    """One operation of the platform: method, path template, what a success decodes to, version.

    ``version`` is the API's, as it stands in the ``Accept`` header. ``returns`` is anything
    msgspec decodes; ``NoneType`` where a success has no body, ``bytes`` for the body as it is.
    """

    method: Method
    path: str
    returns: type[T_co]
    version: str = field(default="v1", kw_only=True)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(
        self,
        /,
        *,
        query: Mapping[str, QueryValue] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: object = msgspec.UNSET,
        **ids: object,
    ) -> "Request[T_co]":
        """A request: ids quoted into the path, query values encoded, ``body`` as JSON."""
        path = self.path.format_map({name: quoted(name, value) for name, value in ids.items()})
        pairs = "&".join(
            f"{_encoded(name)}={_encoded(value)}"
            for name, value in query.items()
            if value is not None
        )
        accept = f"application/vnd.bentley.itwin-platform.{self.version}+json"
        sent = {"Accept": accept, **headers}
        content: bytes | None = None
        if body is not msgspec.UNSET:
            sent["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        return Request(self, f"{path}?{pairs}" if pairs else path, sent, content)

    def decode(self, body: bytes | bytearray, source: "Described | None" = None) -> T_co:
        """A success as the declared type; `DecodeError` that names the operation for the rest.

        ``source`` tells its content type, should that be needed.
        """
        if self.returns is NoneType:
            return None  # type: ignore[return-value]  # T is None
        if self.returns is bytes:
            return bytes(body)  # type: ignore[return-value]  # T is bytes
        try:
            try:
                return decoder(self.returns).decode(body)
            except msgspec.ValidationError:
                answer = SilentValue(msgspec.json.decode(body))
                mended = SilentValue(with_dates_mended(answer.value, self.returns))
                if mended.value is answer.value:
                    raise
                return msgspec.convert(mended.value, self.returns)
        except NOT_DECODED as error:
            why, empty = why_not_decoded(error), not body
        del body  # no frame of an error shows it, nor an error of msgspec's that has frames
        kind = "" if source is None else source.content_type
        raise self.undecodable(why, empty=empty, kind=kind)

    def undecodable(self, why: str, *, empty: bool = False, kind: str = "") -> DecodeError:
        """The error for an answer that is not what this operation declares."""
        what = "an empty body" if empty else f"a body that does not decode: {why}"
        declared = f" (Content-Type {kind})" if kind else ""
        error = DecodeError(f"{self} was answered with {what}{declared}")
        error.operation = str(self)
        return error


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """One request: its operation, and path with query, headers and body as they go out."""

    operation: Operation[T_co]
    target: str
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)


def _encoded(value: object) -> str:
    """A name or value of a query. `$` stays as it is, which is how the platform writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise TypeError(f"a query has str, int, float and bool, not {type(value).__name__}")
    try:
        return quote(str(value), safe="$-._~:,'()")
    except UnicodeEncodeError:
        raise ValueError("a query must be text that can be encoded as UTF-8") from None


_NOT_IN_A_SEGMENT: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


def quoted(name: str, value: object) -> str:
    """One path segment that can never name another path; `TypeError` or `ValueError` if not."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty")
    if value in {".", ".."} or _NOT_IN_A_SEGMENT.search(value):
        raise ValueError(f"{name} must be one path segment without slashes or control characters")
    try:
        return _segment(value)
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that can be encoded as UTF-8") from None


@functools.lru_cache(maxsize=1_024)  # the same few ids, over and over
def _segment(value: str) -> str:
    return quote(value, safe="-._~")


def check_text(name: str, value: object, *, optional: bool = True) -> None:
    """`TypeError` or `ValueError` unless the value is text; not empty where it is not optional."""
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not optional and not value.strip():
        raise ValueError(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that can be encoded as UTF-8") from None


def check_flag(name: str, value: object, *, optional: bool = False) -> None:
    """`TypeError` unless the value is a bool."""
    if not isinstance(value, bool) and not (optional and value is None):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def check_count(
    name: str, value: object, *, least: int = 1, most: int | None = None, optional: bool = False
) -> None:
    """`TypeError` or `ValueError` unless the value is a whole number in range."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limits}, not {value}")
