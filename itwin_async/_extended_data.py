"""Extended data: an entry is cheap to get, and its payload is decoded when it is first reached."""

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from itwin_async._operation import NOT_DECODED, decoder, why_not_decoded
from itwin_async._pages import LinkedPage, Streaming
from itwin_async.errors import PayloadError, one_line

T = TypeVar("T")


class Entry(msgspec.Struct, rename="camel", gc=False):
    """An entry as it comes; msgspec undoes the base64 in half the time of decoding text first."""

    changeset_id: str
    changeset_index: int
    data: bytes


class _LenientEntry(msgspec.Struct, rename="camel", gc=False):
    """The same when a payload is bad, so that it costs itself alone."""

    changeset_id: str
    changeset_index: int
    data: Any = None


class ExtendedDataPage(LinkedPage[Entry]):
    """A page of extended data. The documents spell its key in two ways, and require neither."""

    extended_data: list[Entry] | None = msgspec.field(name="extendedData", default=None)
    lower_case: list[Entry] | None = msgspec.field(name="extendeddata", default=None)

    def entries(self) -> list[Entry]:
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
_decode_run: Final = msgspec.json.Decoder(list[Entry]).decode
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


def _run(text: memoryview) -> list[Entry] | list[_LenientEntry]:
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
_A_DICT: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(dict[str, Any])


class ExtendedData(msgspec.Struct, Generic[T], frozen=True, eq=False, gc=False):
    """What an application stored with a changeset: a JSON object of at most 204,800 bytes.

    `data` is the payload as the type that was asked for, decoded when it is first reached;
    `payload` its bytes. Both raise `PayloadError` when the payload is bad, and nothing else does.
    Two are equal when changeset id, index and payload are. Pickles.
    Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-extended-data-details/
    """

    imodel_id: str
    changeset_id: str
    changeset_index: int
    _payload: Any  # bytes, or what stood in their place
    _decoder: msgspec.json.Decoder[T] = _A_DICT
    _data: Any = msgspec.UNSET

    @property
    def payload(self) -> bytes:
        """The JSON as bytes, base64 undone."""
        payload: object = self._payload
        if type(payload) is bytes:
            return payload
        if payload is None:
            raise self._bad("it has no data")
        if not isinstance(payload, str):
            raise self._bad(f"its data is not text but {type(payload).__name__}")
        raise self._bad("its data is not base64")

    @property
    def data(self) -> T:
        """The payload as the type that was asked for; a dict where none was."""
        data = self._data
        if data is msgspec.UNSET:
            payload = self.payload
            if payload.lstrip()[:1] != b"{":
                raise self._bad("its payload is no JSON object")
            try:
                data = self._decoder.decode(payload)
            except NOT_DECODED as error:
                raise self._bad(f"its payload does not decode: {why_not_decoded(error)}") from None
            msgspec.structs.force_setattr(self, "_data", data)
        return data  # type: ignore[no-any-return]  # what the decoder gave

    def _bad(self, why: str) -> PayloadError:
        error = PayloadError(
            f"extended data of changeset {self.changeset_index} ({one_line(self.changeset_id)}) "
            f"of iModel {self.imodel_id}: {why}"
        )
        error.imodel_id, error.changeset_id = self.imodel_id, self.changeset_id
        error.changeset_index = self.changeset_index
        return error

    def __repr__(self) -> str:
        payload: object = self._payload
        size = f"{len(payload)} bytes" if isinstance(payload, bytes) else "bad payload"
        return (
            f"ExtendedData(changeset_index={self.changeset_index}, "
            f"changeset_id={self.changeset_id!r}, {size})"
        )

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
        place = (self.imodel_id, self.changeset_id, self.changeset_index)
        return _rebuilt, (*place, self._payload, self._decoder.type)


def _rebuilt(imodel_id: str, changeset_id: str, index: int, payload: object, kind: Any) -> Any:
    return ExtendedData(imodel_id, changeset_id, index, payload, decoder(kind))


def payload_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """The decoder for a ``data_type``; `TypeError` for what no JSON object decodes to."""
    if kind is None:
        return _A_DICT
    made = decoder(kind)
    info = msgspec.inspect.type_info(kind)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    if not any(isinstance(each, _OBJECTS) for each in kinds):
        name = getattr(kind, "__name__", None) or repr(kind)
        raise TypeError(f"data_type must be a type that a JSON object decodes to, not {name}")
    return made


_OBJECTS: Final = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.DictType,
    msgspec.inspect.AnyType,
    msgspec.inspect.RawType,
)


def build(imodel_id: str, made: msgspec.json.Decoder[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """How the entries of an iModel become `ExtendedData`."""

    def built(entries: Sequence[Any]) -> list[Any]:
        return [
            ExtendedData(imodel_id, entry.changeset_id, entry.changeset_index, entry.data, made)
            if type(entry.data) is bytes
            else lenient(imodel_id, entry, made)
            for entry in entries
        ]

    return built


def lenient(imodel_id: str, entry: Any, made: msgspec.json.Decoder[Any]) -> ExtendedData[Any]:
    """An entry that was decoded tolerantly, because it or one beside it is bad."""
    payload: object = entry.data
    if isinstance(payload, str):
        with contextlib.suppress(msgspec.ValidationError):  # told when the payload is reached
            payload = msgspec.convert(payload, bytes)
    return ExtendedData(imodel_id, entry.changeset_id, entry.changeset_index, payload, made)
