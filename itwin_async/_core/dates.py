"""Dates that are none: the platform's empty texts and placeholders, which must not cost a page."""

import functools
from datetime import datetime
from typing import Any, Final, cast

import msgspec
from msgspec.inspect import (
    DateTimeType,
    DictType,
    Field,
    ListType,
    Metadata,
    NoneType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

_OURS: Final = __name__.partition(".")[0]


def with_dates_mended(value: Any, kind: Any) -> Any:
    """Decoded JSON with None for each date that cannot be read; the very same where there is none.

    Only in fields that a struct of this library declares as ``datetime | None``. What a struct of
    somebody else's declares is left as it is, with all that is inside.
    """
    return _mended(value, _info(kind))


@functools.lru_cache(maxsize=256)
def _info(kind: Any) -> Type:
    return type_info(kind)


def _mended(value: Any, kind: Type) -> Any:
    kind = _only(kind)
    if isinstance(kind, StructType) and isinstance(value, dict):
        return _each_field(cast("dict[str, Any]", value), kind)
    if isinstance(kind, DictType) and isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        made = {name: _mended(each, kind.value_type) for name, each in items.items()}
        return made if any(made[name] is not items[name] for name in items) else items
    if isinstance(kind, ListType | VarTupleType) and isinstance(value, list):
        listed: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  # mypy knows
        entries = [_mended(each, kind.item_type) for each in listed]
        return entries if any(map(_differ, entries, listed)) else listed
    return value


def _each_field(fields: dict[str, Any], kind: StructType) -> dict[str, Any]:
    if kind.cls.__module__.partition(".")[0] != _OURS:
        return fields
    changed: dict[str, Any] = {}
    for field in kind.fields:
        before = fields.get(field.encode_name)
        after = _date(before) if _may_be_no_date(field) else _mended(before, field.type)
        if after is not before:
            changed[field.encode_name] = after
    return {**fields, **changed} if changed else fields


def _differ(one: object, other: object) -> bool:
    return one is not other


def _only(kind: Type) -> Type:
    """A type without annotations, and without None where it is optional."""
    while isinstance(kind, Metadata):
        kind = kind.type
    if isinstance(kind, UnionType):
        others = [each for each in kind.types if not isinstance(each, NoneType)]
        return _only(others[0]) if len(others) == 1 else kind
    return kind


def _may_be_no_date(field: Field) -> bool:
    return isinstance(field.type, UnionType) and isinstance(_only(field.type), DateTimeType)


def _date(value: Any) -> Any:
    """A date as msgspec reads it, None for a text that is no date, and everything else as it is."""
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
