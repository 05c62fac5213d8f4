"""Every answer of the emulator is a value here; a refusal is raised and carries its own."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, cast

from itwin_async.emulator._seed import JSON

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: ``data`` is JSON to encode, ``raw`` are bytes as they are.

    ``pieces`` makes the bytes bit by bit, so that a large page does not hold up the loop.
    """

    status: int = 200
    data: object = None
    raw: bytes | None = None
    pieces: Callable[[], Iterator[bytes]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"


class RefusedError(Exception):
    """The operation is refused with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def detail(code: str, target: str | None, message: str) -> JSON:
    """One element of an error's ``details``."""
    return {"code": code, "message": message} | ({"target": target} if target else {})


def error(
    status: int,
    code: str,
    message: str,
    target: str | None = None,
    *,
    details: Iterable[JSON] = (),
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An error in the platform's envelope."""
    body = detail(code, target, message)
    if listed := list(details):
        body["details"] = listed
    return Answer(status=status, data={"error": body}, headers=headers or {})


def refuse(
    status: int, code: str, message: str, target: str | None = None, *details: JSON
) -> NoReturn:
    """Refuse the call with an error."""
    raise RefusedError(error(status, code, message, target, details=details))


def is_guid(text: str | None) -> bool:
    """Whether the text is a GUID."""
    return text is not None and _GUID.fullmatch(text) is not None


def read_flag(text: str | None) -> bool | None:
    """A boolean of a query: None for anything that is neither."""
    return {None: False, "true": True, "false": False}.get(text.lower() if text else None)


def read_object(body: bytes) -> JSON | None:
    """The JSON object of a request's body, or None when it is no such thing."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("JSON", value) if isinstance(value, dict) else None
