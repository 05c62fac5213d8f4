"""Files of an export: errors name them, digests prove them, and paths are paths.

Everything here blocks, and is called from threads.
"""

import errno
import os
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import msgspec

PIECE: Final = 8 << 20  # bytes at a time, so that a cancelled export need not wait for long
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[\\/]")  # a drive of Windows is one letter
_NO_RENAME: Final = {errno.EXDEV, errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS}


class Sum(msgspec.Struct, frozen=True):
    """What proves that a file is still what was written: its size in bytes, and a digest."""

    size: int
    digest: str


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Let an error of the system say which file it is about: writing to an open file does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


class NewFile:
    """A file that is written, and on disk when the block ends. Also a sink for Arrow."""

    def __init__(self, path: Path) -> None:
        self.closed = False
        self._path = path
        self._hash = blake2b(digest_size=16)
        self._size = 0
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with naming(self._path), self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())

    def write(self, data: Any) -> int:
        """Write all of it."""
        with naming(self._path):
            self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        """How much was written."""
        return self._size

    def flush(self) -> None:
        """Nothing: it is synced at its end."""

    def close(self) -> None:
        """Nothing: Arrow closes what it writes to, and here the block does."""

    @property
    def sum(self) -> Sum:
        """Of what was written so far."""
        return Sum(self._size, self._hash.hexdigest())


def sum_of(path: Path) -> Sum:
    """Of a file as it is now."""
    digest, size = blake2b(digest_size=16), 0
    with naming(path), path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return Sum(size, digest.hexdigest())


def read_proved(path: Path, expected: Sum) -> bytes:
    """The bytes of a file; `OSError` if they are not what was written."""
    with naming(path):
        data = path.read_bytes()
    if Sum(len(data), blake2b(data, digest_size=16).hexdigest()) != expected:
        raise OSError(errno.EIO, "what was stored has changed: run the export again", str(path))
    return data


def check_local(output: str | os.PathLike[str]) -> Path:
    """The path of an output; `ValueError` for a URL."""
    path = Path(output)
    if _URL.match(os.fspath(output)) or _URL.match(str(path)):
        raise ValueError(
            f"output must be a path of this machine, not a URL: {os.fspath(output)!r}; "
            "export to a local file, and copy it there"
        )
    return path


def resolved(output: Path) -> Path:
    """Where an output lies, symbolic links followed; it must be a file, if it is there."""
    path = output.resolve()
    if not path.parent.is_dir():
        if output.parts[0].startswith("~"):
            raise ValueError(
                f"output begins with {output.parts[0]}, which means a home directory to a shell "
                "alone: give its path, or pathlib.Path(output).expanduser()"
            )
        raise FileNotFoundError(
            errno.ENOENT, "The directory of the output is not there", str(path.parent)
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, "The directory of the output cannot be written to", str(path.parent)
        )
    if path.exists() and not path.is_file():
        what = "directory" if path.is_dir() else "device"
        raise ValueError(f"output must be a file, and {path} is a {what}")
    return path


class Place:
    """How a finished file gets to its name: by rename, or where none can be, by writing over it.

    An output is written in place, which another process may see half done, where it is a mount of
    its own, its directory lets nobody remove it, or the parts lie on another file system. Which
    way it is to be is found out at the beginning, and leaves no trace.
    """

    def __init__(self, home: Path, output: Path) -> None:
        self._output = output
        probe = home / "whole.probe"
        with suppress(FileNotFoundError):
            probe.rmdir()
        probe.mkdir()
        # Nothing is there to be renamed: that it leads to another file system is told first.
        self._apart = _renaming(probe / "missing", output) == errno.EXDEV
        # No directory is ever renamed to a file: that nothing can be is told first as well.
        self.in_place = self._apart or (
            output.exists()
            and (_renaming(probe, output) in _NO_RENAME or _is_mount(output, home / "whole.link"))
        )
        probe.rmdir()
        if self.in_place and output.exists() and not os.access(output, os.W_OK):
            raise PermissionError(
                errno.EACCES, "The output can neither be replaced nor written to", str(output)
            )

    def put(self, made: Path, target: Path) -> None:
        """Give a file its name, replacing what is there."""
        if not (self.in_place if target == self._output else self._apart):
            try:
                made.replace(target)
            except OSError as error:
                # Not to be foreseen. What is linked to it, as what is added to may be, stays.
                if error.errno not in _NO_RENAME or (
                    target.exists() and target.stat().st_nlink > 1
                ):
                    raise
            else:
                return
        with (
            naming(target),
            made.open("rb") as source,
            target.open("r+b" if target.exists() else "wb") as file,
        ):
            shutil.copyfileobj(source, file, PIECE)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _is_mount(path: Path, link: Path) -> bool:
    """Whether a file is a mount of its own: of the device of all else, and no link leads to it."""
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:  # else most often: no links on this file system
        return error.errno == errno.EXDEV
    link.unlink()
    return False


def _renaming(path: Path, target: Path) -> int | None:
    """The number of the error of a rename that must fail."""
    try:
        path.rename(target)
    except OSError as error:
        return error.errno
    return None


def sync_directory(path: Path) -> None:
    """Let the names in it be on disk."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
