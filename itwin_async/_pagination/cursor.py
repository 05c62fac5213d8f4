"""A cursor: a place in a list, as a string from which another process can resume the list."""

import base64
import hashlib
from typing import Final, Self

import msgspec

from itwin_async._core.json import NOT_DECODED
from itwin_async._core.urls import Origin, follow
from itwin_async._core.validation import check_text
from itwin_async.errors import LinkError


class _Fields(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A cursor as JSON. ``fingerprint`` came with version 2."""

    version: int
    digest: str
    target: str | None
    count: int
    fingerprint: str | None = None


class Cursor(msgspec.Struct, frozen=True):
    """A place in a list: the page at ``target``, None after the end, behind ``count`` entries.

    ``digest`` identifies the list. ``fingerprint`` is that of the last entry of a list that ended
    there: what comes behind that entry was added since, wherever it is by now.
    """

    digest: str
    target: str | None
    count: int
    fingerprint: str | None = None

    def __str__(self) -> str:
        fields: list[object] = [1, self.digest, self.target, self.count]
        if self.fingerprint is not None:
            fields = [2, *fields[1:], self.fingerprint]
        data = msgspec.json.encode(fields)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str, digest: str) -> Self:
        """Parse a cursor of the list with this digest; `ValueError` for any other string."""
        check_text("cursor", cursor, optional=False)
        try:
            data = base64.b64decode(
                cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            )
            fields = msgspec.json.decode(data, type=_Fields)
        except (ValueError, TypeError, *NOT_DECODED):
            raise ValueError("cursor must be a cursor that this library gave") from None
        target, fingerprint = fields.target, fields.fingerprint
        is_place = (
            fields.count >= 0
            and (target is None or _is_target(target))
            and fields.version == (1 if fingerprint is None else 2)
            and (fingerprint is None or target is not None)
        )
        if not is_place:
            raise ValueError("cursor must be a cursor that this library gave")
        if fields.digest != digest:
            raise ValueError("cursor belongs to another list: resume the list that gave it")
        return cls(digest, target, fields.count, fingerprint)


def fingerprint(key: str) -> str:
    """A short fingerprint of an entry's key."""
    return hashlib.blake2s(key.encode(), digest_size=6).hexdigest()


def _is_target(target: str) -> bool:
    """Whether this can be a path and query on any base."""
    try:
        return target == follow(_ANY_BASE, "/", target)
    except LinkError:
        return False


_ANY_BASE: Final = Origin("https", "base.invalid", 443)
