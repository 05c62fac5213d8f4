"""One entry of extended data, whose payload is decoded when it is first read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgspec

from itwin_async._core.collector import decode_uncollected
from itwin_async._core.dataclass_fields import DataclassFields, DataclassParams
from itwin_async._core.html import fields_table
from itwin_async._core.json import NOT_DECODED, why_not_decoded
from itwin_async._core.redaction import one_line
from itwin_async.errors import PayloadError
from itwin_async.imodels.payloads import DICT_DECODER, PayloadDecoder, payload_decoder

_PREVIEW_SIZE: Final = 400  # bytes of a payload that a notebook shows
T = TypeVar("T")


class Source:
    """What the entries of a page share: their iModel, and how their payloads are decoded.

    ``decode`` is a field of its own because each entry calls it. Looking it up on the decoder, and
    asking each payload for its size, took a fifth of the time of ``data`` for small payloads.
    """

    __slots__ = ("decode", "decoder", "imodel_id")

    def __init__(
        self, imodel_id: str, decoder: PayloadDecoder[Any], decode: Callable[[bytes], Any]
    ) -> None:
        self.imodel_id: str = imodel_id
        self.decoder: PayloadDecoder[Any] = decoder
        self.decode: Callable[[bytes], Any] = decode

    def for_small_payloads(self) -> "Source":
        """The same without pauses of the collector, which small payloads do not need."""
        return Source(self.imodel_id, self.decoder, self.decoder.decode)


# msgspec's error for an entry that it should encode names this type, and so says what to do.
Source.__name__ = "ExtendedData (encode entry.to_dict() instead)"


def payload_source(imodel_id: str, decoder: PayloadDecoder[Any]) -> Source:
    """The source of entries with payloads of any size."""
    return Source(imodel_id, decoder, partial(decode_uncollected, decoder.decode))


_NO_SOURCE: Final = Source("", DICT_DECODER, DICT_DECODER.decode)


@dataclass(frozen=True, slots=True)
class InvalidPayload:
    """Takes the place of a bad payload: what was wrong with it, and the value that came."""

    why: str
    received: Any = None


class NotDecoded:
    """Takes the place of a payload that was not decoded yet. No JSON decodes to it."""


_NOT_DECODED_YET: Final = NotDecoded()
_set: Final = msgspec.structs.force_setattr


class ExtendedData(msgspec.Struct, Generic[T], frozen=True, eq=False, gc=False):
    """What an application stored with a changeset: a JSON object of at most 204,800 bytes.

    `data` is the payload as the type that was asked for, decoded when it is first read; `payload`
    is its bytes. Both raise `PayloadError` when the payload is bad, and nothing else does. Two are
    equal when changeset id, index and payload are. Pickles where its ``data_type`` does.
    Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-extended-data-details/
    """

    # Pages decode to this directly, hence the platform's names.
    changeset_id: str = msgspec.field(name="changesetId")
    changeset_index: int = msgspec.field(name="changesetIndex")
    # msgspec decodes the base64, in half the time of decoding to `str` first.
    _payload: bytes = msgspec.field(name="data")
    _source: Source = msgspec.field(name=" source", default=_NO_SOURCE)
    _data: NotDecoded = msgspec.field(name=" data", default=_NOT_DECODED_YET)
    __dataclass_fields__: ClassVar = DataclassFields(
        "changeset_id", "changeset_index", "imodel_id", "data"
    )
    __dataclass_params__: ClassVar[DataclassParams] = DataclassParams()

    @property
    def imodel_id(self) -> str:
        """The iModel that the changeset belongs to."""
        return self._source.imodel_id

    @property
    def data_type(self) -> Any:
        """The type that `data` is, as the list or call was asked for."""
        return self._source.decoder.type

    @property
    def payload(self) -> bytes:
        """The JSON as bytes."""
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
        if data is _NOT_DECODED_YET:
            try:
                decode = self._source.decode
                data = decode(self._payload)
            except (*NOT_DECODED, TypeError) as error:
                _ = self.payload  # raises where it is bad
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
        preview = (
            payload[:_PREVIEW_SIZE].decode(errors="replace") if isinstance(payload, bytes) else None
        )
        rows = (("imodel_id", self.imodel_id), *self.__rich_repr__(), ("begins", preview))
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
        source = self._source
        return extended_data, (
            self.changeset_id, self.changeset_index, self._payload, source.imodel_id,
            source.decoder.type,
        )  # fmt: skip


# polars names the columns of a frame of dataclasses by annotations, which properties have not.
ExtendedData.__annotations__.update(imodel_id=str, data=Any)


def extended_data(
    changeset_id: str, changeset_index: int, payload: Any, imodel_id: str, kind: Any = None
) -> ExtendedData[Any]:
    """Make an entry: ``payload`` is the JSON as bytes, or an `InvalidPayload`."""
    source = payload_source(imodel_id, payload_decoder(kind))
    return ExtendedData(changeset_id, changeset_index, payload, source)


def entry_type(data_type: Any) -> Any:
    """The type of entries whose payloads are of a type."""
    generic: Any = ExtendedData
    return generic[data_type]
