"""Base of the platform's objects as structs: names, dates, short reprs. No I/O."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable

import msgspec

from itwin_async._core.dataclass_fields import DataclassStruct
from itwin_async._core.html import fields_table
from itwin_async._core.redaction import one_line
from itwin_async._core.validation import check_flag

_FIRST = {"itwin": "iTwin", "imodel": "iModel"}
_LATER = {"itwin": "ITwin", "imodel": "IModel"}


def wire_name(name: str) -> str:
    """The platform's spelling of a field: ``itwin_id`` is ``iTwinId``, ``links`` is ``_links``."""
    if name == "links":
        return "_links"
    first, *later = name.rstrip("_").split("_")
    return _FIRST.get(first, first) + "".join(_LATER.get(w, w.capitalize()) for w in later)


class Record(DataclassStruct, frozen=True, kw_only=True, rename=wire_name):
    """Base of the platform's objects: frozen, unknown fields ignored, one line of repr.

    It is a dataclass to pandas, polars, FastAPI and `dataclasses.asdict`, without signed links.
    """

    _repr_fields: ClassVar[tuple[str, ...]] = ()
    _signed: ClassVar[tuple[str, ...]] = ()  # fields that are signed links, or secrets

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self._repr_fields)
        texts = {name: _text(value) for name, value in values if value is not None}
        line = self._line(texts)
        for name in sorted(texts, key=lambda name: (name == "id", -len(texts[name]))):
            over = len(line) - _LINE
            if over <= 0:
                break
            texts[name] = _cut(texts[name], max(_LEAST, len(texts[name]) - over))
            line = self._line(texts)
        return line

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's would show every field, signed URLs as well.
        values = ((name, getattr(self, name)) for name in self._repr_fields)
        return [(name, value) for name, value in values if value is not None]

    def _repr_html_(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        # A signed link is shown without its query, any other secret not at all.
        shown = (
            (name, value)
            for name, value in values
            if name not in self._signed or value is None or isinstance(value, Link)
        )
        return fields_table(type(self).__name__, shown)

    def _line(self, texts: dict[str, str]) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={texts[name]}' for name in texts)})"


@runtime_checkable
class HasDict(Protocol):
    """A struct that says itself what it is as a dict, such as `ExtendedData`."""

    def to_dict(self) -> dict[str, Any]:
        """A dict that is JSON."""
        ...


def plain(record: object, *, signed_links: bool = False) -> dict[str, Any]:
    """A record as a dict that is JSON, in the platform's spelling, with the records inside it.

    Dates are ISO 8601 text, None stays None. Signed links (of a changeset's file, of the files of
    an extension) work without a token: they are left out unless ``signed_links``, and so is the
    secret of a new webhook. An entry of extended data is what its ``to_dict`` gives. Raises
    `TypeError` for what is neither.

    Example::

        changeset = await itwin.imodels.get_changeset(imodel_id, 1)
        print(json.dumps([changeset], default=plain))
    """
    check_flag("signed_links", signed_links)
    if isinstance(record, HasDict) and isinstance(record, msgspec.Struct):
        return record.to_dict()
    if not isinstance(record, Record):
        raise TypeError(f"plain takes a record such as an IModel, not {type(record).__name__}")
    names = zip(record.__struct_fields__, record.__struct_encode_fields__, strict=True)
    left_out = () if signed_links else record._signed  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return {
        encoded: _plain(getattr(record, name), signed_links)
        for name, encoded in names
        if name not in left_out
    }


def _plain(value: object, signed_links: bool) -> Any:  # noqa: FBT001 - passed on
    if isinstance(value, Record):
        return plain(value, signed_links=signed_links)
    if isinstance(value, list | tuple):
        return [_plain(item, signed_links) for item in cast("Sequence[object]", value)]
    return msgspec.to_builtins(value)


_LINE: Final = 120  # characters of a repr, which fit a line of a notebook
_LONGEST: Final = 60  # of a value
_LEAST: Final = 12  # that are left of one that must be cut; an id is cut last


def _text(value: object) -> str:
    return _cut(value.isoformat() if isinstance(value, datetime) else repr(value), _LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 2]}…{text[-1]}"


def assume_utc(record: Record, *names: str) -> None:
    """Read dates without an offset as UTC, which is what the platform's are."""
    for name in names:
        moment: datetime | None = getattr(record, name)
        if moment is not None and moment.tzinfo is None:
            msgspec.structs.force_setattr(record, name, moment.replace(tzinfo=UTC))


class Link(Record, frozen=True, kw_only=True):
    """A link of an object; ``storage_type`` is set in those of downloads."""

    href: str | None = None
    storage_type: str | None = None

    def __repr__(self) -> str:
        return f"Link({one_line(self._address(), longest=_LINE - 6)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("href", self._address())]

    def _repr_html_(self) -> str:
        return fields_table(
            "Link", (("href", self._address()), ("storage_type", self.storage_type))
        )

    def _address(self) -> str:
        """The link without its query, which may be a signature."""
        return (self.href or "").partition("?")[0]


def last_segment(link: Link | None) -> str | None:
    """The id at the end of a link, or None."""
    if link is None or not link.href:
        return None
    return link.href.partition("?")[0].rstrip("/").rpartition("/")[2] or None
