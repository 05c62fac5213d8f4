"""Pages of extended data, and how their entries become `ExtendedData`."""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, cast

import msgspec

from itwin_async._core.collector import LARGE
from itwin_async._pagination.list_spec import StreamFormat
from itwin_async._pagination.page_types import LinkedPage
from itwin_async.imodels.extended_data_entry import (
    ExtendedData,
    InvalidPayload,
    Source,
)

_set: Final = msgspec.structs.force_setattr


class LenientEntry(msgspec.Struct, rename="camel", gc=False):
    """An entry of a page with a bad payload, which must not make the other entries fail."""

    changeset_id: str
    changeset_index: int
    data: Any = None


class ExtendedDataPage(LinkedPage[ExtendedData[Any]]):
    """A page of extended data, whose key is documented in two spellings, neither required."""

    extended_data: list[ExtendedData[Any]] | None = msgspec.field(name="extendedData", default=None)
    lower_case: list[ExtendedData[Any]] | None = msgspec.field(name="extendeddata", default=None)

    def entries(self) -> list[ExtendedData[Any]]:
        """The entries."""
        return (self.lower_case if self.extended_data is None else self.extended_data) or []


class _LenientPage(LinkedPage[LenientEntry]):
    extended_data: list[LenientEntry] | None = msgspec.field(name="extendedData", default=None)
    lower_case: list[LenientEntry] | None = msgspec.field(name="extendeddata", default=None)

    def entries(self) -> list[LenientEntry]:
        return (self.lower_case if self.extended_data is None else self.extended_data) or []


class ExtendedDataBody(msgspec.Struct):
    """The response for one changeset."""

    extended_data: LenientEntry | None = msgspec.field(name="extendedData", default=None)
    lower_case: LenientEntry | None = msgspec.field(name="extendeddata", default=None)

    def entry(self) -> LenientEntry | None:
        """The entry."""
        return self.lower_case if self.extended_data is None else self.extended_data


_decode_page: Final = msgspec.json.Decoder(ExtendedDataPage).decode
_decode_lenient_page: Final = msgspec.json.Decoder(_LenientPage).decode
_decode_entries: Final = msgspec.json.Decoder(list[ExtendedData[Any]]).decode
_decode_lenient_entries: Final = msgspec.json.Decoder(list[LenientEntry]).decode


def _decode_any_page(data: bytes | bytearray) -> ExtendedDataPage | _LenientPage:
    page: ExtendedDataPage | _LenientPage
    try:
        page = _decode_page(data)
    except msgspec.ValidationError:
        page = _decode_lenient_page(data)
    if page.extended_data is None and page.lower_case is None:
        # `{}` must not look like the end of a list, though the documentation requires no key.
        raise msgspec.ValidationError("Object missing required field `extendedData`")
    return page


def _decode_any_entries(
    data: memoryview,
) -> list[ExtendedData[Any]] | list[LenientEntry]:
    try:
        return _decode_entries(data)
    except msgspec.ValidationError:
        return _decode_lenient_entries(data)


STREAM_FORMAT: Final[StreamFormat[Any]] = StreamFormat(
    list_start=re.compile(rb'"extended[Dd]ata"[ \t\r\n]*:[ \t\r\n]*\['),
    decode_page=_decode_any_page,
    decode_entries=_decode_any_entries,
    entry_key=attrgetter("changeset_id", "changeset_index"),
)


def entry_builder(source: Source) -> Callable[[Sequence[Any]], list[Any]]:
    """A function that makes `ExtendedData` of the entries of a page."""
    small = source.for_small_payloads()

    def build(entries: Sequence[Any]) -> list[Any]:
        if not entries:
            return []
        if isinstance(entries[0], LenientEntry):
            return [validate_entry(entry, source) for entry in entries]
        # By the first one: payloads of a list are alike, and the pause is for their speed alone.
        shared = small if len(entries[0].payload) < LARGE else source
        for entry in entries:
            _set(entry, "_source", shared)
        return list(entries)

    return build


def validate_entry(entry: LenientEntry, source: Source) -> ExtendedData[Any]:
    """Make `ExtendedData` of an entry, with an `InvalidPayload` where its payload is bad."""
    payload: object = entry.data
    if isinstance(payload, str):
        try:
            payload = msgspec.convert(payload, bytes)
        except msgspec.ValidationError:
            payload = InvalidPayload("its data is not base64", entry.data)
    elif payload is None:
        payload = InvalidPayload("it has no data")
    else:
        payload = InvalidPayload(f"its data is not text but {type(payload).__name__}", payload)
    return ExtendedData(entry.changeset_id, entry.changeset_index, cast("bytes", payload), source)
