"""Payloads of extended data: JSON objects, decoded to the caller's type and encoded from it."""

from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

import msgspec

from itwin_async._core.json import NOT_DECODED, decoder, encoded, unwrap_annotated, why_not_decoded

T_co = TypeVar("T_co", covariant=True)
_MAX_PAYLOAD: Final = 204_800  # bytes; the platform does not say whether of JSON or of base64


class PayloadDecoder(Protocol[T_co]):
    """Decodes payloads to one type, such as a `msgspec.json.Decoder`."""

    @property
    def type(self) -> Any:
        """The type that payloads decode to."""
        ...

    def decode(self, payload: bytes, /) -> T_co:
        """The decoded payload; raises msgspec's errors where it does not decode."""
        ...


class _ObjectDecoder:
    """Checks that a payload is a JSON object, for types that other JSON decodes to as well."""

    def __init__(self, kind: Any) -> None:
        self.type = kind
        self._decode = decoder(kind).decode

    def decode(self, payload: bytes, /) -> Any:
        if not isinstance(payload, bytes):
            raise TypeError  # as msgspec's decoders do where there is no payload
        if payload.lstrip()[:1] != b"{":
            raise msgspec.ValidationError("Expected `object`")
        return self._decode(payload)


# Plain `dict` decodes in half the time of `dict[str, Any]`.
DICT_DECODER: Final[PayloadDecoder[Any]] = msgspec.json.Decoder(dict)


def payload_decoder(kind: Any) -> PayloadDecoder[Any]:
    """The decoder for a ``data_type``; `TypeError` for what no JSON object decodes to."""
    if kind is None or kind is dict:
        return DICT_DECODER
    decoder(kind)  # raises for what does not hash, too
    return _checked_decoder(kind)


@lru_cache(maxsize=256)  # looking into a struct took 50 µs of each single entry that was read
def _checked_decoder(kind: Any) -> PayloadDecoder[Any]:
    type_decoder = decoder(kind)
    info = unwrap_annotated(msgspec.inspect.type_info(kind))
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    kinds = tuple(unwrap_annotated(member) for member in kinds)
    if not any(isinstance(member, _OBJECTS) for member in kinds):
        name = getattr(kind, "__name__", None) or repr(kind)
        raise TypeError(
            "data_type must be a type that a JSON object decodes to, such as a msgspec.Struct or a "
            f"dataclass, not {name}"
        )
    array_like = isinstance(info, msgspec.inspect.StructType) and info.array_like
    return (
        type_decoder if isinstance(info, _ONLY_OBJECTS) and not array_like else _ObjectDecoder(kind)
    )


_ONLY_OBJECTS: Final = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.DictType,
)
_OBJECTS: Final = (*_ONLY_OBJECTS, msgspec.inspect.AnyType, msgspec.inspect.RawType)


def encode_payload(data: object) -> bytes:
    """Encode a payload as JSON; `TypeError` or `ValueError` where it cannot be one."""
    name = type(data).__name__
    payload = encoded("data", data)
    try:
        msgspec.json.decode(payload, type=dict)
    except msgspec.ValidationError:
        raise TypeError(f"data must be what msgspec encodes to a JSON object, not {name}") from None
    except NOT_DECODED as error:
        raise ValueError(f"data must be JSON that decodes: {why_not_decoded(error)}") from None
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError(f"data has {len(payload):,} bytes as JSON, and may have {_MAX_PAYLOAD:,}")
    return payload
