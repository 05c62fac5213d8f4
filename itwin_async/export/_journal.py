"""What an export writes down of itself: a journal that proves its lines, and a checkpoint."""

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from itwin_async.export._files import NewFile, Sum, naming

T = TypeVar("T")
VERSION: Final = 2
_BITS: Final = 1_024
_DIGITS: Final = 32  # of a digest in a line


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What an export is: only the same one goes on with its parts."""

    version: int = VERSION
    format: str
    data_type: str | None
    since: int | None
    platform: str


class Progress(msgspec.Struct):
    """How far one list is.

    ``cursor`` lies before the last entry that was read, whose changeset's index is ``last``: who
    goes on there sees whether the list has moved meanwhile, and what came after its end.
    """

    cursor: str | None = None
    last: int | None = None
    done: bool = False


class Indexes:
    """A set of changeset indexes, of a bit for each where they lie close."""

    def __init__(self, bits: dict[int, int] | None = None) -> None:
        self._bits = bits or {}

    def __contains__(self, index: int) -> bool:
        return bool(self._bits.get(index // _BITS, 0) >> index % _BITS & 1)

    def add(self, index: int) -> None:
        """Put one in."""
        key = index // _BITS
        self._bits[key] = self._bits.get(key, 0) | 1 << index % _BITS

    def unpack(self, packed: dict[str, str]) -> None:
        """Put in all that `packed` gave."""
        for text, bits in packed.items():
            key = int(text)
            self._bits[key] = self._bits.get(key, 0) | int(bits, 16)

    def copy(self) -> "Indexes":
        """One that changes by itself."""
        return Indexes(dict(self._bits))

    def packed(self) -> dict[str, str]:
        """As JSON has it."""
        return {str(key): f"{bits:x}" for key, bits in self._bits.items()}


class Header(msgspec.Struct, kw_only=True):
    """The journal's first line. All but the job is of the output that is added to."""

    job: Job
    since: int | None = None
    rows: int = 0
    bad: int = 0
    base: Sum | None = None
    base_bad: Sum | None = None
    imodels: dict[str, Progress] = {}
    indexes: dict[str, dict[str, str]] = {}


class Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Each later line: a part, how far its lists were with it, and which changesets it has."""

    part: int
    rows: int = 0
    bad: int = 0
    file: Sum | None = None
    bad_file: Sum | None = None
    imodels: dict[str, Progress] = {}
    indexes: dict[str, dict[str, str]] = {}


class Checkpoint(msgspec.Struct, kw_only=True):
    """What stays beside a finished output: what it holds, and where each list ended."""

    job: Job
    rows: int
    bad: int
    output: Sum
    bad_output: Sum | None
    imodels: dict[str, Progress]
    indexes: dict[str, dict[str, str]]


class Journal:
    """Lines of JSON, each behind a digest of it and of the line before: none is lost unseen."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._digest = b""
        self._size = 0

    def begin(self, header: Header) -> None:
        """A new one, that is there as a whole or not at all."""
        made = self.path.with_name("journal.new")
        with NewFile(made) as file:
            file.write(self._next(header))
        made.replace(self.path)

    def append(self, stored: Stored) -> None:
        """One line more, on disk when this returns."""
        with naming(self.path), self.path.open("ab") as file:
            file.write(self._next(stored))
            file.flush()
            os.fsync(file.fileno())

    def _next(self, value: object) -> bytes:
        text = msgspec.json.encode(value)
        self._digest = _digest(self._digest, text)
        line = b"%b %b\n" % (self._digest, text)
        self._size += len(line)
        return line

    def recover(self, proved: Callable[[Stored], bool]) -> tuple[Header, list[Stored]]:
        """What it holds up to the first line that is not as it was written, or is not ``proved``.

        The rest is cut off: it does not count, and new lines follow what does.
        """
        header: Header | None = None
        lines: list[Stored] = []
        for line in self.path.read_bytes().splitlines(keepends=True):
            digest, text = line[:_DIGITS], line[_DIGITS + 1 : -1]
            if not line.endswith(b"\n") or digest != _digest(self._digest, text):
                break
            if header is None:
                header = read(text, Header, self.path)
            else:
                stored = read(text, Stored, self.path)
                if not proved(stored):
                    break
                lines.append(stored)
            self._digest = digest
            self._size += len(line)
        if header is None:
            raise unreadable(self.path)
        with naming(self.path), self.path.open("r+b") as file:
            file.truncate(self._size)
            os.fsync(file.fileno())
        return header, lines


def _digest(before: bytes, text: bytes) -> bytes:
    return blake2b(before + text, digest_size=_DIGITS // 2).hexdigest().encode()


def read(text: bytes, kind: type[T], where: Path) -> T:
    """What stands in a file of ours."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise unreadable(where) from None


def unreadable(path: Path) -> ValueError:
    """The error for a file of ours that is not what was written."""
    return ValueError(f"{path} is not what this version wrote: remove it, or do not resume")


def difference(one: Job, other: Job) -> str:
    """Which of the arguments differ."""
    return ", ".join(
        f"{name} {getattr(one, name)}, not {getattr(other, name)}"
        for name in Job.__struct_fields__
        if getattr(one, name) != getattr(other, name)
    )
