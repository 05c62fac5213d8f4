"""The Arrow columns of items other than extended data: their schema, and batches of items."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import inspect

from itwin_async._core.json import unwrap_annotated
from itwin_async._core.records import Record
from itwin_async._rows.columns import (
    KEPT,
    OBJECTS,
    PA,
    UNFIT,
    Convert,
    column,
    is_array_like,
    misfit,
)

_VALUE: Final = "value"  # the one column of items that have no fields
_WITHOUT_TYPES: Final = (inspect.AnyType, inspect.DictType)


class Columns(Protocol):
    """What makes record batches of items."""

    schema: Any
    """The columns; None until the first batch shows them."""

    def batch(self, items: Sequence[Any]) -> Any:
        """A record batch; `ValueError` where an item does not fit the columns."""
        ...


def columns_of(item_type: Any, *, signed_links: bool = False) -> Columns:
    """The columns of items of a type; `TypeError` for a type that has none."""
    info = unwrap_annotated(inspect.type_info(item_type))
    if isinstance(info, _WITHOUT_TYPES):
        return InferredColumns()
    return TypedColumns(info, signed_links=signed_links)


class TypedColumns:
    """A column for each field, named as its attribute; one column, ``value``, without fields."""

    def __init__(self, info: Any, *, signed_links: bool) -> None:
        names = _attributes if signed_links else _attributes_without_signed_links
        kind, convert = column(info, names=names)
        self._convert: Convert | None = convert
        if not isinstance(info, OBJECTS) or is_array_like(info) or not PA.types.is_struct(kind):
            self._convert = lambda value: {_VALUE: convert(value) if convert else value}
            kind = PA.struct([PA.field(_VALUE, kind)])
        self._struct = kind
        self.schema = PA.schema(list(kind))

    def batch(self, items: Sequence[Any]) -> Any:
        """A record batch; `ValueError` where an item does not fit the columns."""
        try:
            return PA.RecordBatch.from_struct_array(
                PA.array([self._value(item) for item in items], self._struct)
            )
        except UNFIT as error:
            raise ValueError(
                f"an item does not fit its columns: {self._why(items, error)}"
            ) from None

    def _value(self, item: Any) -> Any:
        value = msgspec.to_builtins(item, builtin_types=KEPT, str_keys=True)
        return self._convert(value) if self._convert else value

    def _why(self, items: Sequence[Any], error: Exception) -> object:
        for item in items:
            try:
                found = misfit(self._value(item), self._struct)
            except UNFIT as own:
                found = str(own)
            if found:
                return found
        return error


class InferredColumns:
    """Columns of plain JSON: the keys of the first batch, with the types of their values."""

    schema: Any = None

    def batch(self, items: Sequence[Any]) -> Any:
        """A record batch; `ValueError` where the values of a key have several types."""
        try:
            array = PA.array(items)
            if not PA.types.is_struct(array.type):
                array = PA.StructArray.from_arrays([array], names=[_VALUE])
            found = PA.schema(list(array.type))
            if self.schema is None:
                self.schema = found
            elif found != self.schema:
                schema = PA.unify_schemas([self.schema, found], promote_options="permissive")
                if schema != self.schema:
                    raise ValueError(_difference(self.schema, schema))
                array = PA.array(items, PA.struct(list(self.schema)))
            return PA.RecordBatch.from_struct_array(array)
        except UNFIT as error:
            raise ValueError(
                f"the items of this list have no columns that fit all of them ({error}): give the "
                "list a type, such as a struct with the fields that are wanted"
            ) from None


def _difference(first: Any, later: Any) -> str:
    known = {field.name: field.type for field in first}
    changed = [
        f"{field.name} is {field.type} in a later one"
        for field in later
        if known.get(field.name) != field.type
    ]
    return f"unlike in the first batch, {', '.join(changed[:3])}"


def _attributes(info: Any) -> dict[str, str]:
    """The fields of a struct by their attributes."""
    return {field.encode_name: field.name for field in info.fields}


def _attributes_without_signed_links(info: Any) -> dict[str, str]:
    signed = info.cls._signed if issubclass(info.cls, Record) else ()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return {field.encode_name: field.name for field in info.fields if field.name not in signed}
