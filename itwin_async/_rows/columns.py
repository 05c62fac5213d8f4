"""The Arrow type for each type of msgspec, and the conversion that makes its values fit."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import inspect

from itwin_async._core.json import unwrap_annotated

PA: Final[Any] = pa  # pyarrow has no types
Convert: TypeAlias = Callable[[Any], Any]
Column: TypeAlias = tuple[Any, Convert | None]
FieldNames: TypeAlias = Callable[[Any], dict[str, str]]
# What Arrow knows, and JSON kept as it came; `to_builtins` turns all else into JSON's types.
KEPT: Final = (
    bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, msgspec.Raw,
)  # fmt: skip
# What Arrow and msgspec raise for a value that does not fit its column.
UNFIT: Final = (
    PA.ArrowInvalid, PA.ArrowTypeError, PA.ArrowNotImplementedError, msgspec.MsgspecError,
    OverflowError, RecursionError, TypeError, ValueError,
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
        [member.value for member in info.cls]
        if isinstance(info, inspect.EnumType)
        else list(info.values)
    )
    types: set[type] = {type(value) for value in values if value is not None}
    if types == {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return PA.int64(), None
    return PA.string(), None if types == {str} else as_text


def _always(kind: Any) -> Callable[[Any], Column]:
    return lambda _: (kind, None)


# Types whose values are values of a column, and never JSON.
SCALARS: Final[dict[type, Callable[[Any], Column]]] = {
    inspect.NoneType: _always(PA.null()),
    inspect.StrType: _always(PA.string()),
    inspect.BoolType: _always(PA.bool_()),
    inspect.IntType: _always(PA.int64()),  # msgspec knows no bounds beyond it
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
# Types whose values have no one type: they become JSON text.
DOCUMENTS: Final = (
    inspect.AnyType,
    inspect.RawType,
    inspect.TupleType,
    inspect.NamedTupleType,
    inspect.CustomType,
    inspect.ExtType,
)


def is_array_like(info: inspect.Type) -> bool:
    """Whether a struct is an array in JSON."""
    return isinstance(info, inspect.StructType) and info.array_like


def encoded_names(info: Any) -> dict[str, str]:
    """The fields of a struct under the names that JSON has."""
    return {field.encode_name: field.encode_name for field in info.fields}


def column(
    field_type: inspect.Type,
    ancestors: tuple[Any, ...] = (),
    names: FieldNames = encoded_names,
) -> Column:
    """The Arrow type for a type, and the conversion of its values; JSON text where none fits.

    ``ancestors`` are the structs around it: one that holds itself becomes JSON text there.
    ``names`` gives the fields of a struct that become columns, and their names, by those in JSON.
    """
    info: Any = unwrap_annotated(field_type)
    if isinstance(info, inspect.UnionType):
        return _union([unwrap_annotated(member) for member in info.types], ancestors, names)
    if type(info) in SCALARS:
        return SCALARS[type(info)](info)
    if isinstance(info, inspect.CollectionType):
        kind, convert = column(info.item_type, ancestors, names)
        return PA.list_(kind), None if convert is None else partial(_each_item, convert)
    if isinstance(info, MAPS):
        if isinstance(unwrap_annotated(info.key_type), inspect.StrType):
            kind, convert = column(info.value_type, ancestors, names)
            convert = None if convert is None else partial(_each_value, convert)
            return PA.map_(PA.string(), kind), convert
    elif isinstance(info, OBJECTS):
        if not is_array_like(info) and info.cls not in ancestors:
            return _struct(info, (*ancestors, info.cls), names)
    elif not isinstance(info, DOCUMENTS):
        raise TypeError(f"no column is known for {type(info).__name__} of msgspec")
    return PA.string(), as_json


def _union(types: list[inspect.Type], ancestors: tuple[Any, ...], names: FieldNames) -> Column:
    members = [member for member in types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        kind, convert = column(members[0], ancestors, names)
        return kind, None if convert is None else partial(_if_some, convert)
    if not all(type(member) in SCALARS for member in members):
        return PA.string(), as_json
    if all(isinstance(member, inspect.IntType | inspect.FloatType) for member in members):
        return PA.float64(), None
    return PA.string(), as_text


def _struct(info: Any, ancestors: tuple[Any, ...], names: FieldNames) -> Column:
    fields: list[Any] = []
    converts: dict[str, Convert] = {}
    defaults: dict[str, Any] = {}  # which the encoded value leaves out
    columns = names(info)
    omits_defaults = isinstance(info, inspect.DataclassType) or (  # msgspec leaves them out there
        isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults
    )
    if isinstance(info, inspect.StructType) and info.tag_field is not None:
        kind = PA.int64() if isinstance(info.tag, int) else PA.string()
        fields.append(PA.field(info.tag_field, kind))
        columns = {info.tag_field: info.tag_field, **columns}
    for field in info.fields:
        if field.encode_name not in columns:
            continue
        kind, convert = column(field.type, ancestors, names)
        fields.append(PA.field(columns[field.encode_name], kind))
        if convert is not None:
            converts[field.encode_name] = convert
        if omits_defaults and field.default is not msgspec.NODEFAULT:
            defaults[field.encode_name] = field.default
        elif omits_defaults and field.default_factory is not msgspec.NODEFAULT:
            defaults[field.encode_name] = field.default_factory()
    if not fields:
        return PA.string(), as_json  # Parquet has no column without a field

    def convert_fields(value: dict[str, Any]) -> dict[str, Any]:
        converted = {**default_values, **value}
        for name, convert in converts.items():
            if name in converted:
                try:
                    converted[name] = convert(converted[name])
                except ValueError as error:
                    raise ValueError(f"{columns[name]}: {error}") from None
        if is_renamed:
            return {columns[name]: converted[name] for name in columns if name in converted}
        return converted

    default_values = msgspec.to_builtins(defaults, builtin_types=KEPT, str_keys=True)
    is_renamed = columns != {name: name for name in columns} or len(columns) < len(info.fields)
    is_converted = converts or default_values or is_renamed
    return PA.struct(fields), convert_fields if is_converted else None


def _if_some(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _each_item(convert: Convert, values: list[Any]) -> list[Any]:
    return [convert(value) for value in values]


def _each_value(convert: Convert, values: dict[str, Any]) -> dict[str, Any]:
    return {key: convert(value) for key, value in values.items()}


def as_json(value: Any) -> str | None:
    """A value as JSON text; None stays None."""
    return None if value is None else msgspec.json.encode(value).decode()


def as_text(value: Any) -> str | None:
    """A value of several scalar types: text as it is, anything else as JSON has it."""
    plain = msgspec.to_builtins(value)
    if plain is None or isinstance(plain, str):
        return plain
    return msgspec.json.encode(plain).decode()


def misfit(value: Any, kind: Any, name: str = "") -> str | None:
    """Why a value does not fit its Arrow type: the path to the value within it, and the type."""
    if value is None:
        return None
    try:
        PA.array([value], kind)
    except (PA.ArrowException, OverflowError, TypeError, ValueError) as error:
        parts: list[tuple[Any, Any, str]] = []
        if PA.types.is_struct(kind):
            parts = [(value.get(field.name), field.type, field.name) for field in kind]
        elif PA.types.is_map(kind):
            parts = [(item, kind.item_type, key) for key, item in value.items()]
        elif PA.types.is_list(kind):
            parts = [(item, kind.value_type, str(index)) for index, item in enumerate(value)]
        for part, part_type, key in parts:
            if found := misfit(part, part_type, f"{name}.{key}" if name else key):
                return found
        if isinstance(error, OverflowError):
            return f"{name}: {str(value)[:50]} does not fit {kind}"
        return f"{name}: {error}"
    return None
