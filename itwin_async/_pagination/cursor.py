"""A cursor: a place in a list, as a string from which another process can resume the list."""

import base64
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from itwin_async._core.json import NOT_DECODED
from itwin_async._core.urls import Origin, follow
from itwin_async._core.validation import check_text
from itwin_async.errors import LinkError


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: the page at ``target``, None after the end, behind ``count`` entries.

    ``digest`` identifies the list.
    """

    digest: str
    target: str | None
    count: int

    def __str__(self) -> str:
        data = msgspec.json.encode([1, self.digest, self.target, self.count])
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str, digest: str) -> Self:
        """Parse a cursor of the list with this digest; `ValueError` for any other string."""
        check_text("cursor", cursor, optional=False)
        try:
            data = base64.b64decode(
                cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            )
            version, cursor_digest, target, count = msgspec.json.decode(
                data, type=tuple[int, str, str | None, int]
            )
        except (ValueError, TypeError, *NOT_DECODED):
            raise ValueError("cursor must be a cursor that this library gave") from None
        if version != 1 or count < 0 or not (target is None or _is_target(target)):
            raise ValueError("cursor must be a cursor that this library gave")
        if cursor_digest != digest:
            raise ValueError("cursor belongs to another list: resume the list that gave it")
        return cls(digest, target, count)


def _is_target(target: str) -> bool:
    """Whether this can be a path and query on any base."""
    try:
        return target == follow(_ANY_BASE, "/", target)
    except LinkError:
        return False


_ANY_BASE: Final = Origin("https", "base.invalid", 443)
