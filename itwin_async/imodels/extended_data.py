"""Extended data: an entry is cheap to get, and its payload is decoded when it is first reached."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

import msgspec

from itwin_async._core.html import fields_table
from itwin_async._core.json import NOT_DECODED, decoder, why_not_decoded
from itwin_async._core.redaction import one_line
from itwin_async._pagination.page_types import LinkedPage, Streaming
from itwin_async.errors import PayloadError

_LARGEST: Final = 204_800  # bytes; the page does not say whether of JSON or of base64
_SHOWN: Final = 400  # bytes of a payload that a notebook looks at
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decodes(Protocol[T_co]):
    """What decodes a payload."""

    @property
    def type(self) -> Any:
        """What it decodes to."""
        ...

    def decode(self, payload: bytes, /) -> T_co:
        """The payload decoded; msgspec's errors if it is not what it should be."""
        ...


class _ObjectDecoder:
    """For types that more than a JSON object decodes to; the others need no look at the payload."""

    def __init__(self, kind: Any) -> None:
        self.type = kind
        self._decode = decoder(kind).decode

    def decode(self, payload: bytes, /) -> Any:
        if not isinstance(payload, bytes):
            raise TypeError  # as the decoders of msgspec do where there is no payload
        if payload.lstrip()[:1] != b"{":
            raise msgspec.ValidationError("Expected `object`")
        return self._decode(payload)


# Plain `dict` decodes in half the time of `dict[str, Any]`.
_A_DICT: Final[Decodes[Any]] = msgspec.json.Decoder(dict)


class _List(NamedTuple):
    """What all entries of a list have in common."""

    imodel_id: str
    decoder: Decodes[Any]


_NO_LIST: Final = _List("", _A_DICT)


@dataclass(frozen=True, slots=True)
class InvalidPayload:
    """Stands where a payload should be, and tells what was wrong, and what came instead."""

    why: str
    received: Any = None


class NotDecoded:
    """Stands for a payload that was not decoded yet. Nothing on the wire decodes to it."""


_UNREAD: Final = NotDecoded()
_set: Final = msgspec.structs.force_setattr


class ExtendedData(msgspec.Struct, Generic[T], frozen=True, eq=False, gc=False):
    """What an application stored with a changeset: a JSON object of at most 204,800 bytes.

    `data` is the payload as the type that was asked for, decoded when it is first reached;
    `payload` its bytes. Both raise `PayloadError` when the payload is bad, and nothing else does.
    Two are equal when changeset id, index and payload are. Pickles where its ``data_type`` does.
    Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-extended-data-details/
    """

    # A page's entries are decoded to this at once, which is why it knows the platform's names.
    changeset_id: str = msgspec.field(name="changesetId")
    changeset_index: int = msgspec.field(name="changesetIndex")
    # msgspec undoes the base64, in half the time of decoding text first. Bad payloads stay as is.
    _payload: bytes = msgspec.field(name="data")
    _list: _List = msgspec.field(name=" list", default=_NO_LIST)
    _data: NotDecoded = msgspec.field(name=" data", default=_UNREAD)

    @property
    def imodel_id(self) -> str:
        """The iModel that the changeset belongs to."""
        return self._list.imodel_id

    @property
    def payload(self) -> bytes:
        """The JSON as bytes, base64 undone."""
        payload: bytes | InvalidPayload = self._payload
        if isinstance(payload, InvalidPayload):
            error = self._bad(payload.why)
            error.received = payload.received
            raise error
        return payload

    @property
    def data(self) -> T:
        """The payload as the type that was asked for; a dict where none was."""
        data: Any = self._data
        if data is _UNREAD:
            try:
                data = self._list.decoder.decode(self._payload)
            except (*NOT_DECODED, TypeError) as error:
                _ = self.payload  # raises if there is none
                raise self._bad(f"its payload does not decode: {why_not_decoded(error)}") from None
            _set(self, "_data", data)
        return data  # type: ignore[no-any-return]  # what the list's decoder gives

    def to_dict(self) -> dict[str, Any]:
        """``imodelId``, ``changesetId``, ``changesetIndex`` and ``data``, as a dict that is JSON.

        `data` is what the type that was asked for makes of the payload. Raises as it does.
        """
        return {
            "imodelId": self.imodel_id,
            "changesetId": self.changeset_id,
            "changesetIndex": self.changeset_index,
            "data": msgspec.to_builtins(self.data, str_keys=True),
        }

    def _bad(self, why: str) -> PayloadError:
        error = PayloadError(
            f"extended data of changeset {self.changeset_index} ({one_line(self.changeset_id)}) "
            f"of iModel {self.imodel_id}: {why}"
        )
        error.imodel_id, error.changeset_id = self.imodel_id, self.changeset_id
        error.changeset_index = self.changeset_index
        return error

    def __repr__(self) -> str:
        return (
            f"ExtendedData(changeset_index={self.changeset_index}, "
            f"changeset_id={self.changeset_id!r}, {self._size()})"
        )

    def _size(self) -> str:
        payload: bytes | InvalidPayload = self._payload
        return f"{len(payload)} bytes" if isinstance(payload, bytes) else "bad payload"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            ("changeset_index", self.changeset_index),
            ("changeset_id", self.changeset_id),
            ("payload", self._size()),
        ]

    def _repr_html_(self) -> str:
        payload: bytes | InvalidPayload = self._payload
        begin = payload[:_SHOWN].decode(errors="replace") if isinstance(payload, bytes) else None
        rows = (("imodel_id", self.imodel_id), *self.__rich_repr__(), ("begins", begin))
        return fields_table("ExtendedData", rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtendedData):
            return NotImplemented
        return (
            self.changeset_index == other.changeset_index
            and self.changeset_id == other.changeset_id
            and bool(self._payload == other._payload)
        )

    def __hash__(self) -> int:
        return hash((self.changeset_id, self.changeset_index))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        owner = self._list
        return extended_data, (
            self.changeset_id, self.changeset_index, self._payload, owner.imodel_id,
            owner.decoder.type,
        )  # fmt: skip


class _LenientEntry(msgspec.Struct, rename="camel", gc=False):
    """An entry of a page where a payload is bad, which is to cost itself alone."""

    changeset_id: str
    changeset_index: int
    data: Any = None


class ExtendedDataPage(LinkedPage[ExtendedData[Any]]):
    """A page of extended data. The documents spell its key in two ways, and require neither."""

    extended_data: list[ExtendedData[Any]] | None = msgspec.field(name="extendedData", default=None)
    lower_case: list[ExtendedData[Any]] | None = msgspec.field(name="extendeddata", default=None)

    def entries(self) -> list[ExtendedData[Any]]:
        """The entries."""
        return (self.lower_case if self.extended_data is None else self.extended_data) or []


class _LenientPage(LinkedPage[_LenientEntry]):
    extended_data: list[_LenientEntry] | None = msgspec.field(name="extendedData", default=None)
    lower_case: list[_LenientEntry] | None = msgspec.field(name="extendeddata", default=None)

    def entries(self) -> list[_LenientEntry]:
        return (self.lower_case if self.extended_data is None else self.extended_data) or []


class ExtendedDataBody(msgspec.Struct):
    """The answer for one changeset."""

    extended_data: _LenientEntry | None = msgspec.field(name="extendedData", default=None)
    lower_case: _LenientEntry | None = msgspec.field(name="extendeddata", default=None)

    def entry(self) -> _LenientEntry | None:
        """The entry."""
        return self.lower_case if self.extended_data is None else self.extended_data


_decode_page: Final = msgspec.json.Decoder(ExtendedDataPage).decode
_decode_lenient_page: Final = msgspec.json.Decoder(_LenientPage).decode
_decode_run: Final = msgspec.json.Decoder(list[ExtendedData[Any]]).decode
_decode_lenient_run: Final = msgspec.json.Decoder(list[_LenientEntry]).decode


def _page(text: bytes | bytearray) -> ExtendedDataPage | _LenientPage:
    page: ExtendedDataPage | _LenientPage
    try:
        page = _decode_page(text)
    except msgspec.ValidationError:
        page = _decode_lenient_page(text)
    if page.extended_data is None and page.lower_case is None:
        # Required whatever the schema says: `{}` must not look like the end of a list.
        raise msgspec.ValidationError("Object missing required field `extendedData`")
    return page


def _run(text: memoryview) -> list[ExtendedData[Any]] | list[_LenientEntry]:
    try:
        return _decode_run(text)
    except msgspec.ValidationError:
        return _decode_lenient_run(text)


STREAMING: Final[Streaming[Any]] = Streaming(
    opening=re.compile(rb'"extended[Dd]ata"[ \t\r\n]*:[ \t\r\n]*\['),
    whole=_page,
    run=_run,
    key=lambda entry: (entry.changeset_id, entry.changeset_index),
)


def extended_data(
    changeset_id: str, changeset_index: int, payload: Any, imodel_id: str, kind: Any = None
) -> ExtendedData[Any]:
    """An entry made by hand: ``payload`` is the JSON as bytes, or what stands in its place."""
    owner = _List(imodel_id, payload_decoder(kind))
    return ExtendedData(changeset_id, changeset_index, payload, owner)


def payload_decoder(kind: Any) -> Decodes[Any]:
    """The decoder for a ``data_type``; `TypeError` for what no JSON object decodes to."""
    if kind is None or kind is dict:
        return _A_DICT
    made = decoder(kind)
    info = _unwrap_annotated(msgspec.inspect.type_info(kind))
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    kinds = tuple(_unwrap_annotated(each) for each in kinds)
    if not any(isinstance(each, _OBJECTS) for each in kinds):
        name = getattr(kind, "__name__", None) or repr(kind)
        raise TypeError(f"data_type must be a type that a JSON object decodes to, not {name}")
    array_like = isinstance(info, msgspec.inspect.StructType) and info.array_like
    return made if isinstance(info, _ONLY_OBJECTS) and not array_like else _ObjectDecoder(kind)


def _unwrap_annotated(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """A type without what `Annotated` says of it."""
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info


_ONLY_OBJECTS: Final = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.DictType,
)
_OBJECTS: Final = (*_ONLY_OBJECTS, msgspec.inspect.AnyType, msgspec.inspect.RawType)


def payload_of(data: object) -> bytes:
    """An object as the JSON of a payload; `TypeError` or `ValueError` for what cannot be one."""
    name = type(data).__name__
    try:
        payload = msgspec.json.encode(data)
        msgspec.json.decode(payload, type=dict)
    except msgspec.ValidationError:
        raise TypeError(f"data must be what msgspec encodes to a JSON object, not {name}") from None
    except (*NOT_DECODED, TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"data must be what msgspec encodes: {one_line(str(error))}") from None
    if len(payload) > _LARGEST:
        raise ValueError(f"data has {len(payload):,} bytes as JSON, and may have {_LARGEST:,}")
    return payload


def build(imodel_id: str, made: Decodes[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """How the entries of an iModel become `ExtendedData`: they are that, but for their list."""
    owner = _List(imodel_id, made)

    def built(entries: Sequence[Any]) -> list[Any]:
        if entries and isinstance(entries[0], _LenientEntry):
            return [_strict(entry, owner) for entry in entries]
        for entry in entries:
            _set(entry, "_list", owner)
        return list(entries)

    return built


def build_one(imodel_id: str, entry: _LenientEntry, made: Decodes[Any]) -> ExtendedData[Any]:
    """The same for one entry."""
    return _strict(entry, _List(imodel_id, made))


def _strict(entry: _LenientEntry, owner: _List) -> ExtendedData[Any]:
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
    made: ExtendedData[Any] = ExtendedData(
        entry.changeset_id, entry.changeset_index, cast("bytes", payload), owner
    )
    return made
