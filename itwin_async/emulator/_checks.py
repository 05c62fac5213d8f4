"""A wrong argument is a sentence at the call: later it would be a fault that never happens."""

import inspect
from collections.abc import Mapping
from typing import cast


def kind_of(value: object) -> str:
    """What a value is, for the end of a sentence."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def whole(
    name: str,
    value: object,
    least: int | None = None,
    most: int | None = None,
    *,
    none: bool = False,
) -> None:
    """`TypeError` or `ValueError` unless the value is an int within these bounds."""
    if none and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int{' or None' * none}, not {kind_of(value)}")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


def number(
    name: str, value: object, *, least: float = 0.0, most: float = 1e9, above: bool = False
) -> None:
    """`TypeError` or `ValueError` unless the value is a number within (or above) these bounds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {kind_of(value)}")
    if not least <= value <= most or (above and value == least):
        bound = f"{'above' if above else 'at least'} {least:g}"
        bound = f"at most {most:,.0f}" if value > most else bound
        raise ValueError(f"{name} must be {bound}, not {value}")


def text(name: str, value: object, *, empty: bool = False) -> None:
    """`TypeError` or `ValueError` unless the value is text, not empty where that says nothing."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {kind_of(value)}")
    if not value and not empty:
        raise ValueError(f"{name} must not be empty")


def flag(name: str, value: object) -> None:
    """`TypeError` unless the value is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {kind_of(value)}")


def status(value: object, *, none: bool = False) -> None:
    """`TypeError` or `ValueError` unless the value can be the status of a whole answer."""
    whole("status", value, 200, 999, none=none)


def header(name: str, value: str) -> None:
    """`ValueError` for what would be more than one header."""
    if any(sign in value for sign in "\r\n\0"):
        raise ValueError(f"{name} must have no line break and no NUL")


def headers(value: object) -> None:
    """`TypeError` or `ValueError` unless these are headers, or None."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {kind_of(value)}")
    for pair in cast("Mapping[object, object]", value).items():
        for each in pair:
            if not isinstance(each, str):
                raise TypeError(f"headers must be str, not {kind_of(each)}")
            header("headers", each)


def function(name: str, value: object) -> None:
    """`TypeError` unless the value can be called without awaiting it."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {kind_of(value)}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        raise TypeError(f"{name} must be a plain function, not an async one")
