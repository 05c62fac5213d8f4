"""Lenient dates: an unreadable date of the platform becomes None, and its page is decoded."""

import functools
from datetime import datetime
from typing import Any, Final, cast

import msgspec
from msgspec.inspect import (
    DateTimeType,
    DictType,
    Field,
    ListType,
    NoneType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from itwin_async._core.json import unwrap_annotated

_PACKAGE: Final = __name__.partition(".")[0]


def with_lenient_dates(value: Any, kind: Any) -> Any:
    """Decoded JSON with None in place of unreadable dates; the same object if there are none.

    Only in fields that a struct of this library declares as ``datetime | None``. Structs of other
    packages are left as they are, with all their fields.
    """
    return _convert(value, _info(kind))


@functools.lru_cache(maxsize=256)
def _info(kind: Any) -> Type:
    return type_info(kind)


def _convert(value: Any, kind: Type) -> Any:
    kind = _unwrap_optional(kind)
    if isinstance(kind, StructType) and isinstance(value, dict):
        return _convert_fields(cast("dict[str, Any]", value), kind)
    if isinstance(kind, DictType) and isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        converted = {name: _convert(item, kind.value_type) for name, item in items.items()}
        return converted if any(converted[name] is not items[name] for name in items) else items
    if isinstance(kind, ListType | VarTupleType) and isinstance(value, list):
        listed: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  # mypy knows
        entries = [_convert(entry, kind.item_type) for entry in listed]
        return entries if any(map(_differ, entries, listed)) else listed
    return value


def _convert_fields(fields: dict[str, Any], kind: StructType) -> dict[str, Any]:
    if kind.cls.__module__.partition(".")[0] != _PACKAGE:
        return fields
    changed: dict[str, Any] = {}
    for field in kind.fields:
        before = fields.get(field.encode_name)
        after = (
            _parse_lenient_date(before)
            if _is_optional_date(field)
            else _convert(before, field.type)
        )
        if after is not before:
            changed[field.encode_name] = after
    return {**fields, **changed} if changed else fields


def _differ(one: object, other: object) -> bool:
    return one is not other


def _unwrap_optional(kind: Type) -> Type:
    """A type without annotations, and without None where it is optional."""
    kind = unwrap_annotated(kind)
    if isinstance(kind, UnionType):
        others = [member for member in kind.types if not isinstance(member, NoneType)]
        return _unwrap_optional(others[0]) if len(others) == 1 else kind
    return kind


def _is_optional_date(field: Field) -> bool:
    return isinstance(field.type, UnionType) and isinstance(
        _unwrap_optional(field.type), DateTimeType
    )


def _parse_lenient_date(value: Any) -> Any:
    """A date that msgspec can read, None for text that is no date, and other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        try:
            return datetime.fromisoformat(value).isoformat()
        except ValueError:
            return None
    return value
