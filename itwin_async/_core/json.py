"""JSON through msgspec: cached decoders, what they decode to, and why a body does not decode."""

import functools
import re
from typing import Any, Final, TypeVar

import msgspec

from itwin_async._core.redaction import one_line

T = TypeVar("T")


# Invalid UTF-8 and nesting beyond the interpreter's limit are not MsgspecErrors.
NOT_DECODED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@functools.lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    """The decoder of a type, cached; `TypeError` for a type that msgspec cannot decode to."""
    try:
        return _decoder(kind)  # type: ignore[arg-type]  # types hash
    except (TypeError, NameError) as error:
        name = getattr(kind, "__name__", None) or repr(kind)
        raise TypeError(f"msgspec cannot decode to {name}: {one_line(str(error))}") from None


def encoded(name: str, value: object) -> bytes:
    """A value as JSON; `TypeError` or `ValueError` that names it where it cannot be that."""
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be what msgspec encodes: {one_line(str(error))}") from None


def unwrap_annotated(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """A type, as msgspec describes it, without its `Annotated`."""
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info


def why_not_decoded(error: Exception) -> str:
    """Why a body does not decode, in a few words and without its content."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return one_line(_QUOTED.sub("'…'", str(error)))


_QUOTED: Final = re.compile(r"'[^']*'")  # a value of the body; types and paths are in backticks
