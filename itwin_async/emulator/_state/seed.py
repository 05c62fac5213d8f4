"""Generated values: each is derived from the seed and its own name, so nothing is random."""

import base64
import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from itwin_async.emulator import _arguments

JSON: TypeAlias = dict[str, Any]

_EPOCH: Final = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
_HOUR: Final = 3600
LARGEST_PAYLOAD: Final = 204_800  # bytes; the page does not say whether encoded or decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much data an emulator has."""

    seed: int = 0
    itwins: int = 5
    imodels: int = 40
    changesets: int = 100
    extended_data_every: int = 1
    payload_bytes: int | None = None
    extensions: int = 300
    versions: int = 4
    packages: int = 12
    rows: int = 250

    def __post_init__(self) -> None:
        _arguments.check_int("seed", self.seed)
        least = {"itwins": 3, "extensions": 3, "packages": 3, "extended_data_every": 1}
        for name in ("imodels", "changesets", "versions", "rows", *least):
            _arguments.check_int(name, getattr(self, name), least.get(name, 0))
        bounds = SMALLEST_PAYLOAD, LARGEST_PAYLOAD
        _arguments.check_int("payload_bytes", self.payload_bytes, *bounds, optional=True)


def _digest(size: int, parts: tuple[object, ...]) -> bytes:
    text = "\x1f".join(map(str, parts))
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


def guid(*parts: object) -> str:
    """A GUID derived from this name."""
    return str(UUID(bytes=_digest(16, parts), version=4))


def changeset_id(*parts: object) -> str:
    """A changeset id (40 hexadecimal digits) derived from this name."""
    return _digest(20, parts).hex()


def number(below: int, *parts: object) -> int:
    """A number from 0 to ``below - 1``, derived from this name."""
    return int.from_bytes(_digest(8, parts)) % below


def span(hours: int) -> timedelta:
    """About so many hours; more hours always give more."""
    return timedelta(seconds=hours * _HOUR + hours * 37 % _HOUR)


def timestamp(hours: int, digits: int = 3, *, since: datetime = _EPOCH) -> str:
    """A time so many hours after the beginning of the data, with so many digits of a second."""
    when = since + span(hours)
    fraction = f"{hours * 9_301 % 10_000_000:07}"[:digits]
    return f"{when:%Y-%m-%dT%H:%M:%S}.{fraction}Z"


_LINE: Final = ',\n      "{}"'


def payload(files: tuple[str, ...], task_id: str, filler: str = "") -> bytes:
    """Extended data in the documented shape, indented like the sample."""
    lines = ",\n      ".join(f'"{name}"' for name in files)
    return (
        '{\n  "data": {\n    "changedFiles": [\n      '
        f'{lines}{filler}\n    ],\n    "taskId": "{task_id}"\n  }}\n}}'
    ).encode()


def _name(seed: int, imodel: int, index: int, number: int) -> str:
    return f"M{imodel:04}-{index:06}-{chr(65 + (seed + number) % 26)}.dgn"


_FIXED: Final = len(payload((_name(0, 0, 0, 0),), guid()))
_NAME_OVERHEAD: Final = len(_LINE.format(""))
_FILLER_NAME: Final = 24
SMALLEST_PAYLOAD: Final = _FIXED + _NAME_OVERHEAD + _FILLER_NAME


@functools.cache
def _filler(size: int) -> str:
    whole, rest = divmod(size - _FIXED, _NAME_OVERHEAD + _FILLER_NAME)
    names = [f"sheet-{at:014}.dgn" for at in range(whole)]
    names[-1] = names[-1].rjust(_FILLER_NAME + rest, "x")
    return "".join(map(_LINE.format, names))


def extended_data(size: Size, imodel: int, index: int) -> str:
    """The base64 text of one changeset's extended data."""
    task = guid(size.seed, "task", imodel, index)
    if size.payload_bytes is None:
        names = tuple(_name(size.seed, imodel, index, at) for at in range(1 + index % 4))
        return to_base64(payload(names, task))
    name = _name(size.seed, imodel, index, 0)
    return to_base64(payload((name,), task, _filler(size.payload_bytes)))


def to_base64(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")
