"""Responses as values, and the exception with which a handler refuses a request."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, cast

from itwin_async.emulator._state.seed import JSON

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP response. Its body is ``json`` to encode, or ``raw`` bytes as they are.

    ``chunks`` makes the bytes piece by piece, so that a large page does not block the loop; where
    their ``length`` is known, they are sent while they are made.
    """

    status: int = 200
    json: object = None
    raw: bytes | None = None
    chunks: Callable[[], Iterator[bytes]] | None = None
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"


class RefusedError(Exception):
    """The request is refused with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def error_detail(code: str, target: str | None, message: str) -> JSON:
    """One element of an error's ``details``."""
    return {"code": code, "message": message} | ({"target": target} if target else {})


def error_response(
    status: int,
    code: str,
    message: str,
    target: str | None = None,
    *,
    details: Iterable[JSON] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in the platform's envelope."""
    body = error_detail(code, target, message)
    if listed := list(details):
        body["details"] = listed
    return Response(status=status, json={"error": body}, headers=headers or {})


def refuse(
    status: int, code: str, message: str, target: str | None = None, *details: JSON
) -> NoReturn:
    """Refuse the request with an error."""
    raise RefusedError(error_response(status, code, message, target, details=details))


def is_guid(text: str | None) -> bool:
    """Whether the text is a GUID."""
    return text is not None and _GUID.fullmatch(text) is not None


def read_flag(text: str | None) -> bool | None:
    """A boolean of a query: False where it is missing, None where it is neither true nor false."""
    return {None: False, "true": True, "false": False}.get(text.lower() if text else None)


def read_object(body: bytes) -> JSON | None:
    """The JSON object in a request's body, or None where it is anything else."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("JSON", value) if isinstance(value, dict) else None
