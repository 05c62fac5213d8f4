"""A checkpoint: what was handed over of the iModels of a scope, as a string."""

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

from itwin_async._core.validation import check_text, normalize_id
from itwin_async.sync._list_state import ListState

_VERSION: Final = "1"
_SCOPE_BYTES: Final = 8
_CHECKSUM_BYTES: Final = 4
_LONG: Final = 0xFF  # marks a size of more than two bytes
_LONG_BYTES: Final = 4
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def scope_of(*, itwin_id: str | None = None, imodel_ids: Iterable[str] = ()) -> bytes:
    """A digest of what a checkpoint belongs to: an iTwin, or a set of iModels."""
    ids = sorted({normalize_id(imodel_id) for imodel_id in imodel_ids})
    names = ["iTwin", normalize_id(itwin_id)] if itwin_id is not None else ["iModels", *ids]
    return hashlib.sha256("\0".join(names).encode()).digest()[:_SCOPE_BYTES]


class Checkpoint:
    """The states of the lists of a scope, by iModel. It does not change.

    ``str(checkpoint)`` is the string, `parse` its inverse. A part of it (`part_of`) is a
    checkpoint as well, and `combined` puts parts together.
    """

    __slots__ = ("_records", "scope")

    def __init__(self, scope: bytes, records: Mapping[str, bytes] | None = None) -> None:
        self.scope: Final = scope
        self._records: Final[Mapping[str, bytes]] = {} if records is None else records

    @classmethod
    def parse(cls, text: str, scope: bytes | None = None) -> Self:
        """Parse the string of a checkpoint.

        Raises `ValueError` for any other string, and for the checkpoint of another scope where
        ``scope`` is given.
        """
        check_text("checkpoint", text, optional=False)
        try:
            data = _decode(text)
            records = dict(_split(data[_SCOPE_BYTES:]))
            for record in records.values():
                ListState.decode(record)
        except ValueError:
            raise ValueError("checkpoint must be a checkpoint that this library gave") from None
        if scope is not None and data[:_SCOPE_BYTES] != scope:
            raise ValueError(
                "checkpoint belongs to another iTwin, or to other iModels: go on with the same "
                "ones, or begin without it"
            )
        return cls(data[:_SCOPE_BYTES], records)

    def __str__(self) -> str:
        return dump(self.scope, (line(*item) for item in self._records.items()))

    def __repr__(self) -> str:
        return f"Checkpoint({len(self._records)} iModels)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Checkpoint):
            return NotImplemented
        return self.scope == other.scope and dict(self._records) == dict(other._records)

    __hash__ = None  # type: ignore[assignment]  # it may hold many iModels

    @property
    def imodel_ids(self) -> frozenset[str]:
        """The iModels it knows of."""
        return frozenset(self._records)

    @property
    def records(self) -> Mapping[str, bytes]:
        """The encoded states by iModel."""
        return self._records

    def state(self, imodel_id: str) -> ListState | None:
        """How far one iModel is, None for an unknown one."""
        record = self._records.get(normalize_id(imodel_id))
        return None if record is None else ListState.decode(record)

    def combined(self, others: Iterable["Checkpoint"]) -> "Checkpoint":
        """All of them as one; of two states of an iModel the further one counts.

        Raises `ValueError` for a checkpoint of another scope.
        """
        records = dict(self._records)
        for other in others:
            if other.scope != self.scope:
                raise ValueError("checkpoints of different iTwins or iModels cannot be combined")
            for imodel_id, record in other.records.items():
                known = records.get(imodel_id)
                if known is None or ListState.decode(record).is_further_than(
                    ListState.decode(known)
                ):
                    records[imodel_id] = record
        return Checkpoint(self.scope, records)


def line(imodel_id: str, record: bytes) -> bytes:
    """The encoded state of one iModel as a checkpoint has it."""
    return _key(imodel_id) + _size(len(record)) + record


def dump(scope: bytes, lines: Iterable[bytes]) -> str:
    """The string of a checkpoint."""
    data = scope + b"".join(lines)
    body = data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES)
    return _VERSION + base64.urlsafe_b64encode(body).decode().rstrip("=")


def part_of(text: str, imodel_id: str) -> str:
    """The part of one iModel of a checkpoint, of some 70 bytes: a checkpoint of the same scope.

    The states are not checked, and those of the others not decoded: a sync of 10,000 iModels takes
    one part after the other, each out of the whole checkpoint.
    """
    data = _decode(text)
    key = _key(normalize_id(imodel_id))
    at = _SCOPE_BYTES
    while at < len(data):
        end_of_key = at + 17 if data[at] == 0 else _end(data, at + 1)
        end = _end(data, end_of_key)
        if data.startswith(key, at) and end_of_key == at + len(key):
            return dump(data[:_SCOPE_BYTES], [data[at:end]])
        at = end
    return dump(data[:_SCOPE_BYTES], [])


def _end(data: bytes, at: int) -> int:
    """Where the bytes end whose number is at this place, as `_size` has it."""
    first = data[at]
    if first < 0x80:
        return at + 1 + first
    if first < _LONG:
        return at + 2 + ((first & 0x7F) << 8 | data[at + 1])
    return at + 1 + _LONG_BYTES + int.from_bytes(data[at + 1 : at + 1 + _LONG_BYTES])


def _decode(text: str) -> bytes:
    """Scope and records; `ValueError` for what is no checkpoint, or has changed."""
    text, version = text[1:], text[:1]
    body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    data, checksum = body[:-_CHECKSUM_BYTES], body[-_CHECKSUM_BYTES:]
    if (
        version != _VERSION
        or len(data) < _SCOPE_BYTES
        or zlib.crc32(data).to_bytes(_CHECKSUM_BYTES) != checksum
    ):
        raise ValueError("it is damaged")
    return data


def _key(imodel_id: str) -> bytes:
    if _GUID.fullmatch(imodel_id):
        return b"\0" + bytes.fromhex(imodel_id.replace("-", ""))
    text = imodel_id.encode()
    return b"\1" + _size(len(text)) + text


def _size(size: int) -> bytes:
    """A number of bytes: in one byte, in two, or after a mark, for a state of a huge window."""
    if size < 0x80:
        return bytes([size])
    if size < (_LONG & 0x7F) << 8:
        return bytes([0x80 | size >> 8, size & 0xFF])
    return bytes([_LONG]) + size.to_bytes(_LONG_BYTES)


def _split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The records by iModel; `ValueError` where they are cut."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(data):
            raise ValueError("too short")
        at += size
        return data[at - size : at]

    def size() -> int:
        first = take(1)[0]
        if first < 0x80:
            return first
        if first < _LONG:
            return (first & 0x7F) << 8 | take(1)[0]
        return int.from_bytes(take(_LONG_BYTES))

    while at < len(data):
        if take(1) == b"\0":
            digits = take(16).hex()
            parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
            imodel_id = "-".join(parts)
        else:
            imodel_id = take(size()).decode()
        yield imodel_id, take(size())
