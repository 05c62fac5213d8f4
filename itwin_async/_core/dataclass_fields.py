"""Structs as dataclasses, to what reads these: data frames, FastAPI, `dataclasses.asdict`."""

import dataclasses
import functools
from typing import Any, ClassVar

import msgspec


class DataclassFields:
    """The ``__dataclass_fields__`` of a struct's class, made when they are first read.

    They are the struct's own fields, without those in a record's ``_signed``; or the attributes
    ``names``.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, struct: object, owner: type) -> dict[str, dataclasses.Field[Any]]:
        return _fields_of(owner, self._names)


class DataclassParams:
    """The ``__dataclass_params__`` of a struct's class: without them pprint and pytest fail.

    They say that the repr is the struct's own, which these then print.
    """

    def __get__(self, struct: object, owner: type) -> object:
        return _params()


class DataclassStruct(msgspec.Struct, frozen=True):
    """A frozen struct that is read as a dataclass; a real one takes 40 times as long to import."""

    __dataclass_fields__: ClassVar = DataclassFields()
    __dataclass_params__: ClassVar[DataclassParams] = DataclassParams()


@functools.cache
def _params() -> object:
    built: Any = dataclasses.make_dataclass("Struct", (), frozen=True, repr=False)
    return built.__dataclass_params__


@functools.cache
def _fields_of(owner: Any, names: tuple[str, ...]) -> dict[str, dataclasses.Field[Any]]:
    kinds: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(owner)}
    signed = getattr(owner, "_signed", ())
    shown = names or [name for name in kinds if name not in signed]
    specs = [(name, kinds.get(name, Any), dataclasses.field(default=None)) for name in shown]
    built: Any = dataclasses.make_dataclass(owner.__name__, specs, kw_only=True)
    fields: dict[str, dataclasses.Field[Any]] = built.__dataclass_fields__
    return fields
