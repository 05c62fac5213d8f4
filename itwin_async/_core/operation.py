"""Operations of the platform as values: each is declared once and does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from itwin_async._core.collector import decode_uncollected
from itwin_async._core.dates import with_lenient_dates
from itwin_async._core.json import NOT_DECODED, decoder, encoded, why_not_decoded
from itwin_async._core.secrets import SecretStrs, SecretValue
from itwin_async._core.validation import as_sent, quote_segment
from itwin_async.errors import DecodeError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
QueryValue: TypeAlias = str | int | float | bool | UUID | None

MINIMAL: Final = "return=minimal"
REPRESENTATION: Final = "return=representation"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_SECRETS: Final = SecretStrs()


class HasContentType(Protocol):
    """Something with a content type that may be shown."""

    @property
    def content_type(self) -> str:
        """The content type of a response."""
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

    def request(
        self,
        /,
        *,
        query: Mapping[str, QueryValue] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: object = msgspec.UNSET,
        **ids: object,
    ) -> "Request[T_co]":
        """A request of it: ids quoted in the path, query values encoded, ``body`` as JSON."""
        path = self.path.format_map(
            {name: quote_segment(name, value) for name, value in ids.items()}
        )
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
            content = encoded("body", body)
        return Request(self, f"{path}?{pairs}" if pairs else path, sent, content)

    def decode(self, body: bytes | bytearray, source: "HasContentType | None" = None) -> T_co:
        """Decode the body of a success to the declared type; `DecodeError` if it does not decode.

        An error names the content type of ``source``.
        """
        if self.returns is NoneType:
            return None  # type: ignore[return-value]  # T is None
        if self.returns is bytes:
            return bytes(body)  # type: ignore[return-value]  # T is bytes
        try:
            try:
                return decode_uncollected(decoder(self.returns).decode, body)
            except msgspec.ValidationError:
                data = SecretValue(msgspec.json.decode(body))
                lenient = SecretValue(with_lenient_dates(data.value, self.returns))
                if lenient.value is data.value:
                    raise
                return msgspec.convert(lenient.value, self.returns)
        except NOT_DECODED as error:
            why, empty = why_not_decoded(error), not body
        del body  # secrets in frames: docs/adr/0008
        content_type = "" if source is None else source.content_type
        raise self.decode_error(why, empty=empty, kind=content_type)

    def decode_error(self, why: str, *, empty: bool = False, kind: str = "") -> DecodeError:
        """The error of a body that is not what this operation declares."""
        what = "an empty body" if empty else f"a body that does not decode: {why}"
        declared = f" (Content-Type {kind})" if kind else ""
        error = DecodeError(f"{self} was answered with {what}{declared}")
        error.operation = str(self)
        return error


class Request(msgspec.Struct, Generic[T_co], frozen=True):
    """One request: its operation, and path with query, headers and body as they go out.

    ``secrets`` are what is secret in its body: no error shows it, even if the answer repeats it.
    """

    operation: Operation[T_co]
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None
    secrets: SecretStrs = _NO_SECRETS

    def __repr__(self) -> str:
        return f"Request({self.operation}, {self.target})"


def without_none(**values: object) -> dict[str, object]:
    """The properties of a body that were given; the keywords are their names on the wire."""
    return {name: value for name, value in values.items() if value is not None}


def _encoded(value: object) -> str:
    """A name or value of a query. `$` stays as it is, which is how the platform writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float | UUID):
        raise TypeError(f"a query has str, int, float and bool, not {type(value).__name__}")
    try:
        return quote(as_sent(value), safe="$-._~:,'()")
    except UnicodeEncodeError:
        raise ValueError("a query must be text that can be encoded as UTF-8") from None
