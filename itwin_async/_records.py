"""How the platform's objects become structs: names, dates, short reprs. No I/O."""

from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from itwin_async.errors import one_line

_FIRST = {"itwin": "iTwin", "imodel": "iModel"}
_LATER = {"itwin": "ITwin", "imodel": "IModel"}


def wire_name(name: str) -> str:
    """The platform's spelling of a field: ``itwin_id`` is ``iTwinId``, ``links`` is ``_links``."""
    if name == "links":
        return "_links"
    first, *later = name.rstrip("_").split("_")
    return _FIRST.get(first, first) + "".join(_LATER.get(w, w.capitalize()) for w in later)


class Record(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Base of the platform's objects: frozen, unknown fields ignored, one line of repr."""

    _shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self._shown)
        shown = ", ".join(f"{name}={_short(value)}" for name, value in values if value is not None)
        return f"{type(self).__name__}({shown})"


def _short(value: object) -> str:
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return text if len(text) <= 60 else f"{text[:58]}…{text[-1]}"


def make_aware(record: Record, *names: str) -> None:
    """Read dates without an offset as UTC, which is what the platform's are."""
    for name in names:
        moment: datetime | None = getattr(record, name)
        if moment is not None and moment.tzinfo is None:
            msgspec.structs.force_setattr(record, name, moment.replace(tzinfo=UTC))


class Link(Record, frozen=True, kw_only=True):
    """A link of an object; ``storage_type`` is given for downloads."""

    href: str | None = None
    storage_type: str | None = None

    def __repr__(self) -> str:
        return f"Link({one_line((self.href or '').partition('?')[0])})"


def last_segment(link: Link | None) -> str | None:
    """The id at the end of a link, or None."""
    if link is None or not link.href:
        return None
    return link.href.partition("?")[0].rstrip("/").rpartition("/")[2] or None
