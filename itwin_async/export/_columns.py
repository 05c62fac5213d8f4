"""Which Arrow type a type of msgspec's becomes, and what makes its values fit."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import inspect

PA: Final[Any] = pa  # which has no types
Convert: TypeAlias = Callable[[Any], Any]
Column: TypeAlias = tuple[Any, Convert | None]
# What Arrow knows, and JSON that is kept as it came; everything else becomes what JSON has for it.
KEPT: Final = (
    bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, msgspec.Raw,
)  # fmt: skip
_DIGITS: Final = 38  # the most that readers other than Arrow know, 18 of them behind the point


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(
            f"{value.isoformat()} has no offset, and its column is in UTC: declare the field as "
            "Annotated[datetime, msgspec.Meta(tz=False)]"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} lies beyond the calendar in UTC") from None


def _without_offset(value: time | None) -> time | None:
    if value is not None and value.tzinfo is not None:
        raise ValueError(
            f"{value.isoformat()} has an offset, and its column has none: declare the field as "
            "Annotated[time, msgspec.Meta(tz=True)]"
        )
    return value


def _datetime(info: inspect.DateTimeType) -> Column:
    if info.tz is False:
        return PA.timestamp("us"), None
    return PA.timestamp("us", tz="UTC"), _utc


def _time(info: inspect.TimeType) -> Column:
    if info.tz:  # which Arrow has no type for
        return PA.string(), as_text
    return PA.time64("us"), None if info.tz is False else _without_offset


def _one_of(info: inspect.EnumType | inspect.LiteralType) -> Column:
    values: list[Any] = (
        [each.value for each in info.cls]
        if isinstance(info, inspect.EnumType)
        else list(info.values)
    )
    kinds: set[type] = {type(value) for value in values if value is not None}
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return PA.int64(), None
    return PA.string(), None if kinds == {str} else as_text


def _always(kind: Any, convert: Convert | None = None) -> Callable[[Any], Column]:
    return lambda _: (kind, convert)


# A value of these is one of a column's, and never JSON.
SCALARS: Final[dict[type, Callable[[Any], Column]]] = {
    inspect.NoneType: _always(PA.null()),
    inspect.StrType: _always(PA.string()),
    inspect.BoolType: _always(PA.bool_()),
    inspect.IntType: _always(PA.int64()),  # bounds beyond it are none of msgspec's
    inspect.FloatType: _always(PA.float64()),
    inspect.DecimalType: _always(PA.decimal128(_DIGITS, 18)),
    inspect.BytesType: _always(PA.binary()),
    inspect.ByteArrayType: _always(PA.binary()),
    inspect.MemoryViewType: _always(PA.binary()),
    inspect.DateTimeType: _datetime,
    inspect.DateType: _always(PA.date32()),
    inspect.TimeType: _time,
    inspect.TimeDeltaType: _always(PA.duration("us")),
    inspect.UUIDType: _always(PA.string()),
    inspect.EnumType: _one_of,
    inspect.LiteralType: _one_of,
}
OBJECTS: Final = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
MAPS: Final[Any] = (inspect.DictType, getattr(inspect, "FrozenDictType", inspect.DictType))
# Whose values are of no one type: a document, as JSON text.
DOCUMENTS: Final = (
    inspect.AnyType,
    inspect.RawType,
    inspect.TupleType,
    inspect.NamedTupleType,
    inspect.CustomType,
    inspect.ExtType,
)


def bare(info: inspect.Type) -> inspect.Type:
    """A type without what `Annotated` says of it."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


def is_array_like(info: inspect.Type) -> bool:
    """Whether it is a struct that JSON has as an array."""
    return isinstance(info, inspect.StructType) and info.array_like


def column(kind_of: inspect.Type, above: tuple[Any, ...] = ()) -> Column:
    """The Arrow type of a type, and what makes values fit it; JSON text where there is none."""
    info: Any = bare(kind_of)
    if isinstance(info, inspect.UnionType):
        return _union([bare(each) for each in info.types], above)
    if type(info) in SCALARS:
        return SCALARS[type(info)](info)
    if isinstance(info, inspect.CollectionType):
        kind, convert = column(info.item_type, above)
        return PA.list_(kind), None if convert is None else partial(_each_item, convert)
    if isinstance(info, MAPS):
        if isinstance(bare(info.key_type), inspect.StrType):
            kind, convert = column(info.value_type, above)
            convert = None if convert is None else partial(_each_value, convert)
            return PA.map_(PA.string(), kind), convert
    elif isinstance(info, OBJECTS):
        if not is_array_like(info) and info.cls not in above:
            return _struct(info, (*above, info.cls))
    elif not isinstance(info, DOCUMENTS):
        raise TypeError(f"no column is known for {type(info).__name__} of msgspec")
    return PA.string(), as_json


def _union(kinds: list[inspect.Type], above: tuple[Any, ...]) -> Column:
    some = [each for each in kinds if not isinstance(each, inspect.NoneType)]
    if len(some) == 1:
        kind, convert = column(some[0], above)
        return kind, None if convert is None else partial(_if_some, convert)
    if not all(type(each) in SCALARS for each in some):
        return PA.string(), as_json
    if all(isinstance(each, inspect.IntType | inspect.FloatType) for each in some):
        return PA.float64(), None
    return PA.string(), as_text


def _struct(info: Any, above: tuple[Any, ...]) -> Column:
    fields: list[Any] = []
    converts: dict[str, Convert] = {}
    defaults: dict[str, Any] = {}  # which the struct leaves out
    omitted = isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults
    if isinstance(info, inspect.StructType) and info.tag_field is not None:
        kind = PA.int64() if isinstance(info.tag, int) else PA.string()
        fields.append(PA.field(info.tag_field, kind))
    for each in info.fields:
        kind, convert = column(each.type, above)
        fields.append(PA.field(each.encode_name, kind))
        if convert is not None:
            converts[each.encode_name] = convert
        if omitted and each.default is not msgspec.NODEFAULT:
            defaults[each.encode_name] = each.default
        elif omitted and each.default_factory is not msgspec.NODEFAULT:
            defaults[each.encode_name] = each.default_factory()
    if not fields:
        return PA.string(), as_json  # Parquet has no column without a field

    def converted(value: dict[str, Any]) -> dict[str, Any]:
        made = {**built, **value}
        for name, convert in converts.items():
            if name in made:
                try:
                    made[name] = convert(made[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return made

    built = msgspec.to_builtins(defaults, builtin_types=KEPT, str_keys=True)
    return PA.struct(fields), converted if converts or built else None


def _if_some(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _each_item(convert: Convert, values: list[Any]) -> list[Any]:
    return [convert(each) for each in values]


def _each_value(convert: Convert, values: dict[str, Any]) -> dict[str, Any]:
    return {key: convert(each) for key, each in values.items()}


def as_json(value: Any) -> str | None:
    """A document; JSON's null is none."""
    return None if value is None else msgspec.json.encode(value).decode()


def as_text(value: Any) -> str | None:
    """A value of several kinds: text as it is, anything else as JSON has it."""
    text = msgspec.to_builtins(value)
    return text if text is None or isinstance(text, str) else msgspec.json.encode(text).decode()


def misfit(value: Any, kind: Any, name: str = "") -> str | None:
    """Which value within one does not fit its type in Arrow, and which type that is."""
    if value is None:
        return None
    try:
        PA.array([value], kind)
    except (PA.ArrowException, OverflowError, TypeError, ValueError) as error:
        parts: list[tuple[Any, Any, str]] = []
        if PA.types.is_struct(kind):
            parts = [(value.get(each.name), each.type, each.name) for each in kind]
        elif PA.types.is_map(kind):
            parts = [(each, kind.item_type, key) for key, each in value.items()]
        elif PA.types.is_list(kind):
            parts = [(each, kind.value_type, str(nth)) for nth, each in enumerate(value)]
        for part, its, key in parts:
            if found := misfit(part, its, f"{name}.{key}" if name else key):
                return found
        if isinstance(error, OverflowError):
            return f"{name}: {str(value)[:50]} does not fit {kind}"
        return f"{name}: {error}"
    return None
