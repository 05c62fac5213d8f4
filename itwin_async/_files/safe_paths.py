"""Relative paths from outside, which must not lead out of the directory they are for."""

import re
from pathlib import Path
from typing import Final

from itwin_async._core.redaction import one_line
from itwin_async.errors import DecodeError

# Names that Windows keeps for devices, with any extension.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")


def safe_parts(path: str) -> list[str]:
    """The parts of a relative path; `DecodeError` for one that may lead out of its directory."""
    parts = path.split("/")
    for part in parts:
        if (
            part in {"", ".", ".."}
            or not part.isprintable()
            or "\\" in part
            or ":" in part
            or part.endswith((".", " "))  # which Windows drops
            or _RESERVED.fullmatch(part)
        ):
            raise _unsafe(path)
    return parts


def locate(directory: Path, path: str) -> Path:
    """Where a file belongs in a directory; `DecodeError` where a link is on the way."""
    place = directory
    for part in safe_parts(path):
        place /= part
        if place.is_symlink():
            raise _unsafe(path)
    return place


def _unsafe(path: str) -> DecodeError:
    return DecodeError(
        f"a file has the relativePath {one_line(repr(path), longest=100)}, which may lead out of "
        "the directory"
    )
