"""Checks of arguments: a wrong one fails at the call, not later as a fault that never fires."""

import inspect
from collections.abc import Iterable, Mapping
from typing import cast
from uuid import UUID


def kind_of(value: object) -> str:
    """What a value is, for the end of a sentence."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_int(
    name: str,
    value: object,
    least: int | None = None,
    most: int | None = None,
    *,
    optional: bool = False,
) -> None:
    """`TypeError` or `ValueError` unless the value is an int within these bounds."""
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int{' or None' * optional}, not {kind_of(value)}")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


def check_number(
    name: str, value: object, *, least: float = 0.0, most: float = 1e9, above: bool = False
) -> None:
    """`TypeError` or `ValueError` unless the value is a number within (or above) these bounds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {kind_of(value)}")
    if not least <= value <= most or (above and value == least):
        bound = f"{'above' if above else 'at least'} {least:g}"
        bound = f"at most {most:,.0f}" if value > most else bound
        raise ValueError(f"{name} must be {bound}, not {value}")


def check_str(name: str, value: object, *, may_be_empty: bool = False) -> None:
    """`TypeError` or `ValueError` unless the value is a str, not empty unless it may be."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {kind_of(value)}")
    if not value and not may_be_empty:
        raise ValueError(f"{name} must not be empty")


def id_text(name: str, value: object) -> str:
    """An id as text; `TypeError` or `ValueError` unless it is text or a UUID."""
    if isinstance(value, UUID):
        return str(value)
    check_str(name, value)
    return cast("str", value)


def check_bytes(name: str, value: object) -> None:
    """`TypeError` unless the value is bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"{name} must be bytes, not {kind_of(value)}")


def check_texts(name: str, values: object) -> list[str]:
    """The values as a list; `TypeError` or `ValueError` unless they are several str."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of str, not {kind_of(values)}")
    found = list(cast("Iterable[object]", values))
    for value in found:
        check_str(f"each of {name}", value)
    return cast("list[str]", found)


def check_bool(name: str, value: object) -> None:
    """`TypeError` unless the value is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {kind_of(value)}")


def check_status(value: object, *, optional: bool = False) -> None:
    """`TypeError` or `ValueError` unless the value can be the status of a final response."""
    check_int("status", value, 200, 999, optional=optional)


def check_header_value(name: str, value: str) -> None:
    """`ValueError` for text that would end the header and begin another."""
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"{name} must have no line break and no NUL")


def check_headers(value: object) -> None:
    """`TypeError` or `ValueError` unless these are headers, or None."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {kind_of(value)}")
    for name_and_value in cast("Mapping[object, object]", value).items():
        for part in name_and_value:
            if not isinstance(part, str):
                raise TypeError(f"headers must be str, not {kind_of(part)}")
            check_header_value("headers", part)


def check_function(name: str, value: object) -> None:
    """`TypeError` unless the value can be called without awaiting it."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {kind_of(value)}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        raise TypeError(f"{name} must be a plain function, not an async one")


def check_files(files: object) -> None:
    """`TypeError` or `ValueError` unless this maps names of files to their content, or is None."""
    if files is None:
        return
    if not isinstance(files, Mapping):
        raise TypeError(f"files must be a mapping of str to bytes, not {kind_of(files)}")
    for name, content in cast("Mapping[object, object]", files).items():
        check_str("the name of a file", name)
        if not isinstance(content, bytes):
            raise TypeError(f"the content of a file must be bytes, not {kind_of(content)}")
