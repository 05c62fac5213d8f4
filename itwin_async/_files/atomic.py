"""Atomic writes: a draft is written and synced, then renamed to the name it is for.

A reader, and a process that starts after this one was killed, finds the old file or the new one.
`FileDigest` tells later whether a file still is what was written. Everything here blocks.
"""

import hashlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

PIECE_BYTES: Final = 8 << 20  # read at a time, so that a cancelled job does not wait for long


class FileDigest(msgspec.Struct, frozen=True):
    """What a file holds: its size in bytes and its SHA-256, hexadecimal."""

    size: int
    sha256: str


@contextmanager
def naming_errors(path: Path) -> Generator[None]:
    """Put the path into an `OSError` that has none, as those of reads and writes have none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def update_digest(digest: Any, file: Any) -> int:
    """Feed an open file to a digest of `hashlib`, piece by piece. Returns its size in bytes."""
    size = 0
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return size


def digest_of(file: Any) -> FileDigest:
    """The digest of an open file, from where it is to its end."""
    digest = hashlib.sha256()
    size = update_digest(digest, file)
    return FileDigest(size, digest.hexdigest())


def digest_of_path(path: Path) -> FileDigest:
    """The digest of a file as it is now."""
    with naming_errors(path), path.open("rb") as file:
        return digest_of(file)


def digest_of_bytes(data: bytes) -> FileDigest:
    """The digest that a file with these bytes has."""
    return FileDigest(len(data), hashlib.sha256(data).hexdigest())


def sync_file(file: Any) -> None:
    """Wait until an open file is on the disk, if it is a file of this machine."""
    try:
        descriptor: int = file.fileno()
    except (AttributeError, OSError):  # a file of a remote file system
        return
    file.flush()
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk. Windows has no way to ask for it."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with naming_errors(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SyncedFile:
    """A file that is written from its beginning, and is on the disk when the block ends.

    Arrow can write to it as well.
    """

    def __init__(self, path: Path) -> None:
        self.closed = False  # Arrow asks for it
        self._path = path
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with naming_errors(self._path), self._file:
            if kind is None:
                sync_file(self._file)

    def write(self, data: Any) -> int:
        """Write all bytes of a buffer; their number."""
        with naming_errors(self._path):
            self._file.write(data)
        self._sha256.update(data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        """The number of bytes that were written."""
        return self._size

    def flush(self) -> None:
        """Do nothing: the end of the block syncs the file."""

    def close(self) -> None:
        """Do nothing: Arrow closes what it writes to, and here the end of the block does."""

    @property
    def digest(self) -> FileDigest:
        """The digest of what was written so far."""
        return FileDigest(self._size, self._sha256.hexdigest())


def replace_file(target: Path, data: bytes, *, draft: Path) -> None:
    """Write a file that has its name as a whole or not at all; ``draft`` is a name beside it."""
    with SyncedFile(draft) as file:
        file.write(data)
    draft.replace(target)
