"""Error responses: what they say, in every form that the platform and its gateways use. No I/O."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec

from itwin_async._core.http_date import parse_http_date
from itwin_async._core.json import NOT_DECODED
from itwin_async._core.redaction import one_line
from itwin_async.errors import ErrorDetail, ResponseError, error_class, read_members

_DIGITS: Final = re.compile(r"[0-9]{1,12}")


def parse_retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """Seconds of a ``Retry-After`` header, which has a number or an HTTP date; None for neither.

    An HTTP date counts from the ``Date`` of the response, for our clock may be wrong; without it
    from ``now``, in seconds since the epoch.
    """
    if value is None:
        return None
    value = value.strip()
    if _DIGITS.fullmatch(value):
        return float(value)
    until = parse_http_date(value)
    if until is None:
        return None
    since = parse_http_date(date)
    return max(0.0, until.timestamp() - (now if since is None else since.timestamp()))


def parse_error(
    status: int,
    body: bytes,
    retry_after: float | None,
    *,
    secrets: tuple[str, ...] = (),
    kind: type[ResponseError] | None = None,
) -> ResponseError:
    """The error of a response that is no success.

    Understands the platform's envelope, the same without its ``error`` key, problem+json, OData
    and OAuth errors; of any other body it shows the beginning.
    """
    fields = _fields(body)

    def text(*names: str, fields: Mapping[Any, Any] = fields) -> str | None:
        found = (fields.get(name) for name in names)
        words = next((value for value in found if isinstance(value, str) and value), None)
        return None if words is None else one_line(words, secrets=secrets)

    message = text("message", "error_description", "detail", "title", "value")
    if message is None and not fields:
        message = one_line(body.decode("utf-8", "replace"), longest=200, secrets=secrets)
    code = text("code", "error")
    error = (kind or error_class(status, code))(message or _phrase(status))
    error.status, error.code, error.target = status, code, text("target")
    read_members(error, fields)
    details: object = fields.get("details")
    listed = cast("list[object]", details) if isinstance(details, list) else []
    error.details = tuple(
        ErrorDetail(*(text(name, fields=detail) for name in ("code", "message", "target")))
        for detail in (cast("dict[str, Any]", item) for item in listed if isinstance(item, dict))
    )
    error.retry_after = retry_after
    return error


def _fields(body: bytes) -> dict[str, Any]:
    try:
        decoded: object = msgspec.json.decode(body)
    except NOT_DECODED:
        return {}
    if not isinstance(decoded, dict):
        return {}
    fields = cast("dict[str, Any]", decoded)
    for envelope in ("error", "odata.error"):
        inner: object = fields.get(envelope)
        if isinstance(inner, dict):
            inner_fields = cast("dict[str, Any]", inner)
            message: object = inner_fields.get("message")
            # OData before version 4 wraps the message with its language.
            return {**inner_fields, **message} if isinstance(message, dict) else inner_fields
    return fields


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
