"""Checks of arguments: one sentence that names what was wrong and what would be right."""

import math
import os
import re
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final, TypeAlias, cast
from urllib.parse import quote
from uuid import UUID

from itwin_async._core.redaction import one_line

Id: TypeAlias = str | UUID
# A path may be made of a URL, which then has one slash.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UNQUOTED: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_NOT_IN_A_SEGMENT: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


def as_sent(value: str | float | UUID) -> str:
    """The text of an id or a value. Of a member of an enumeration ``str`` would give its name."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    return str(value)


def normalize_id(imodel_id: Id) -> str:
    """The id in the platform's spelling, so that an iModel in two spellings is one."""
    is_text = isinstance(imodel_id, str)
    text = as_sent(imodel_id) if is_text else quote_segment("imodel_id", imodel_id)
    return text.lower() if _GUID.fullmatch(text) else text


def quote_segment(name: str, value: object) -> str:
    """One path segment that can never name another path; `TypeError` or `ValueError` if not."""
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(not_text(name, value))
    if _UNQUOTED.fullmatch(value):
        return as_sent(value)  # as nearly all are
    if not value.strip():
        raise ValueError(f"{name} must not be empty")
    if value in {".", ".."} or _NOT_IN_A_SEGMENT.search(value):
        raise ValueError(f"{name} must be one path segment without slashes or control characters")
    try:
        return quote(value, safe="-._~")
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that can be encoded as UTF-8") from None


def not_text(name: str, value: object, kind: str = "a str") -> str:
    """What an argument must be instead; of a record, also which of its attributes that is."""
    given = type(value).__name__
    record = given.lower()  # as a caller's variable may be named
    attribute = "id" if name in {record, f"{record}_id"} else name
    hint = (
        f": pass {record}.{attribute}" if isinstance(getattr(value, attribute, None), str) else ""
    )
    return f"{name} must be {kind}, not {given}{hint}"


def check_id(name: str, value: object, *, optional: bool = True) -> None:
    """`TypeError` or `ValueError` unless the value is an id: text or a UUID."""
    if not isinstance(value, UUID):
        check_text(name, value, optional=optional)


def check_text(
    name: str, value: object, *, optional: bool = True, longest: int | None = None
) -> None:
    """`TypeError` or `ValueError` unless the value is text; not empty where it is not optional.

    ``longest`` bounds its characters.
    """
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise TypeError(not_text(name, value))
    if not optional and not value.strip():
        raise ValueError(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that can be encoded as UTF-8") from None
    if longest is not None and len(value) > longest:
        raise ValueError(f"{name} must have at most {longest} characters, not {len(value)}")


def check_flag(name: str, value: object, *, optional: bool = False) -> None:
    """`TypeError` unless the value is a bool."""
    if not isinstance(value, bool) and not (optional and value is None):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def check_count(
    name: str, value: object, *, least: int = 1, most: int | None = None, optional: bool = False
) -> None:
    """`TypeError` or `ValueError` unless the value is a whole number in range."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limits}, not {value}")


def check_seconds(
    name: str, value: object, *, finite: bool = True, zero: bool = False, optional: bool = False
) -> None:
    """`TypeError` or `ValueError` unless the value is a number of seconds: more than 0, or 0."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if zero and not value >= 0:
        raise ValueError(f"{name} must be 0 seconds or more, not {value}")
    if not zero and not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")
    if finite and value == math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, not {value}")


def check_callback(name: str, value: object) -> None:
    """`TypeError` unless the value is None, or a function that is called and not awaited."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be a plain callable, not {type(value).__name__}")
    if iscoroutinefunction(value):
        raise TypeError(f"{name} must be a plain callable, not a coroutine function")


def check_type(name: str, value: object, kind: type) -> None:
    """`TypeError` unless the value is of this type or None."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def check_choice(
    name: str, value: object, choices: tuple[str, ...], *, optional: bool = True
) -> None:
    """`ValueError` unless the value is one of these."""
    if value not in choices and not (optional and value is None):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_directory(directory: object) -> None:
    """`TypeError` or `ValueError` unless this is a path: not empty, no URL, no `~` of a shell."""
    _check_path(
        "directory", directory, ": '.' is the current one",
        "; download to one, and copy the files from there",
    )  # fmt: skip


def check_file(name: str, path: object) -> None:
    """`TypeError` or `ValueError` unless this is the path of a file: not empty, no URL, no `~`."""
    _check_path(name, path, "", "; download the file first")


def path_text(name: str, value: object) -> str:
    """The text of a path; `TypeError` or `ValueError` for what is none."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    text = os.fsdecode(cast("str | os.PathLike[str]", value))
    if "\0" in text:
        raise ValueError(f"{name} must be a path, without a null character")
    return text


def _check_path(name: str, value: object, hint_of_empty: str, hint_of_url: str) -> None:
    path = path_text(name, value)
    if not path:
        raise ValueError(f"{name} must not be empty{hint_of_empty}")
    if _URL.match(path):
        raise ValueError(
            f"{name} must be a path of this machine, not a URL: {one_line(path)!r}{hint_of_url}"
        )
    check_no_tilde(name, path)


def check_no_tilde(name: str, path: str) -> None:
    """`ValueError` for a path in `~`, of which a directory with that name would be made."""
    if Path(path).parts[:1] == ("~",):
        raise ValueError(
            f"{name} begins with ~, which means a home directory to a shell alone: give its "
            f"path, or pathlib.Path({name}).expanduser()"
        )
