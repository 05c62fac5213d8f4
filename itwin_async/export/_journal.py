"""The records of an export: a journal with checksums, and the checkpoint of a finished output."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from itwin_async._files.atomic import FileDigest, naming_errors, replace_file, sync_file

T = TypeVar("T")
VERSION: Final = 3
_CHUNK_BITS: Final = 1_024
_CHECKSUM_DIGITS: Final = 32


class ExportSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an export was asked for: only the same one is resumed."""

    version: int = VERSION
    format: str
    data_type: str | None
    since: int | str | None  # an index, or a date
    platform: str
    changesets: bool = False


class ListProgress(msgspec.Struct):
    """How far one list was read.

    ``cursor`` lies before the last entry that was read, whose changeset index is ``last``: a
    resumed list that begins with another entry has moved meanwhile.
    """

    cursor: str | None = None
    last: int | None = None
    done: bool = False


class IndexSet:
    """A set of changeset indexes: a bit for each, in chunks of 1,024."""

    def __init__(self, chunks: dict[int, int] | None = None) -> None:
        self._chunks = chunks or {}

    def __contains__(self, index: int) -> bool:
        return bool(self._chunks.get(index // _CHUNK_BITS, 0) >> index % _CHUNK_BITS & 1)

    def add(self, index: int) -> None:
        """Add one index."""
        key = index // _CHUNK_BITS
        self._chunks[key] = self._chunks.get(key, 0) | 1 << index % _CHUNK_BITS

    def update(self, packed: dict[str, str]) -> None:
        """Add all indexes of a set that was packed."""
        for number, bits in packed.items():
            key = int(number)
            self._chunks[key] = self._chunks.get(key, 0) | int(bits, 16)

    def copy(self) -> "IndexSet":
        """A set that changes by itself."""
        return IndexSet(dict(self._chunks))

    def packed(self) -> dict[str, str]:
        """The set as JSON has it."""
        return {str(key): f"{bits:x}" for key, bits in self._chunks.items()}


class JournalHeader(msgspec.Struct, kw_only=True):
    """The journal's first line. All but the spec describes the output that is added to."""

    spec: ExportSpec
    since: int | str | None = None
    rows: int = 0
    bad: int = 0
    base: FileDigest | None = None
    base_bad: FileDigest | None = None
    imodels: dict[str, ListProgress] = {}
    indexes: dict[str, dict[str, str]] = {}


class StoredPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Each later line: a part, its changesets, and how far its lists were read with it."""

    part: int
    rows: int = 0
    bad: int = 0
    file: FileDigest | None = None
    bad_file: FileDigest | None = None
    imodels: dict[str, ListProgress] = {}
    indexes: dict[str, dict[str, str]] = {}


class Checkpoint(msgspec.Struct, kw_only=True):
    """The file beside a finished output: what the output holds, and where each list ended."""

    spec: ExportSpec
    rows: int
    bad: int
    output: FileDigest
    bad_output: FileDigest | None
    imodels: dict[str, ListProgress]
    indexes: dict[str, dict[str, str]]


class Journal:
    """Lines of JSON, each behind a checksum of itself and of the line before.

    So a line that was changed, lost or moved is noticed, and with it all that follow.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._checksum = b""
        self._size = 0

    def create(self, header: JournalHeader) -> None:
        """Write a new journal, which is there as a whole or not at all."""
        draft = self.path.with_name("journal.new")
        replace_file(self.path, self._next_line(header), draft=draft)

    def append(self, stored: StoredPart) -> None:
        """Add a line, which is on the disk when this returns."""
        with naming_errors(self.path), self.path.open("ab") as file:
            file.write(self._next_line(stored))
            sync_file(file)

    def _next_line(self, value: object) -> bytes:
        data = msgspec.json.encode(value)
        self._checksum = _checksum(self._checksum, data)
        line = b"%b %b\n" % (self._checksum, data)
        self._size += len(line)
        return line

    def recover(
        self, is_unchanged: Callable[[StoredPart], bool]
    ) -> tuple[JournalHeader, list[StoredPart]]:
        """Read it up to the first line that was changed, or whose part was: the rest is cut off."""
        header: JournalHeader | None = None
        parts: list[StoredPart] = []
        for line in self.path.read_bytes().splitlines(keepends=True):
            checksum, data = line[:_CHECKSUM_DIGITS], line[_CHECKSUM_DIGITS + 1 : -1]
            if not line.endswith(b"\n") or checksum != _checksum(self._checksum, data):
                break
            if header is None:
                header = decode_record(data, JournalHeader, self.path)
            else:
                stored = decode_record(data, StoredPart, self.path)
                if not is_unchanged(stored):
                    break
                parts.append(stored)
            self._checksum = checksum
            self._size += len(line)
        if header is None:
            raise _unreadable(self.path)
        with naming_errors(self.path), self.path.open("r+b") as file:
            file.truncate(self._size)
            sync_file(file)
        return header, parts


def _checksum(previous: bytes, data: bytes) -> bytes:
    return hashlib.sha256(previous + data).hexdigest()[:_CHECKSUM_DIGITS].encode()


def decode_record(data: bytes, kind: type[T], path: Path) -> T:
    """Decode what an export wrote to a file; `ValueError` if it is something else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _unreadable(path) from None


def encode_line(record: object) -> bytes:
    """A record as a line of JSON."""
    return msgspec.json.encode(record) + b"\n"


def _unreadable(path: Path) -> ValueError:
    return ValueError(f"{path} is not what this version wrote: remove it, or do not resume")


def difference(found: ExportSpec, wanted: ExportSpec) -> str:
    """Which arguments differ, for a message."""
    return ", ".join(
        f"{name} {getattr(found, name)}, not {getattr(wanted, name)}"
        for name in ExportSpec.__struct_fields__
        if getattr(found, name) != getattr(wanted, name)
    )
