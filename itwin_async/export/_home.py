"""The directory of an export's parts: only one with our marker, or an empty one, is ours."""

import os
import re
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from itwin_async.export._files import naming
from itwin_async.export._journal import VERSION
from itwin_async.export._rows import BadRow

if sys.platform != "win32":
    import fcntl

_MARKER: Final = "itwin-async-export"
_MARK: Final = f"Parts of an unfinished export of itwin_async, version {VERSION}.\n".encode()
_OURS: Final = re.compile(r"\d{6,}\.(jsonl|arrows|bad)|base|base\.bad|whole[.a-z]*|journal\.new")


class _JobVersion(msgspec.Struct):
    version: int


class _AnyCheckpoint(msgspec.Struct):
    """A checkpoint of any version."""

    job: _JobVersion
    imodels: dict[str, msgspec.Raw]


class Home:
    """A directory beside the output, held by one process at a time."""

    def __init__(self, output: Path) -> None:
        self.path: Final = output.with_name(f"{output.name}.parts")
        self._output = output
        self._marker = self.path / _MARKER
        self._lock: BinaryIO | None = None

    def claim(self) -> None:
        """Make it, or take it if it is ours: `ValueError` if not, `RuntimeError` if it is held."""
        if not self.path.is_dir():
            if self.path.is_symlink() or self.path.exists():
                raise ValueError(
                    f"{self.path} is in the way: move it away, or choose another output"
                )
            self.path.mkdir(exist_ok=True)
        if not self._is_ours():
            raise ValueError(
                f"{self.path} was not made by an export of this version: move it away, or choose "
                "another output"
            )
        self._lock = self._marker.open("ab")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"another export to {self._output} is running") from None
        if self._marker.read_bytes() == _MARK:
            return
        with naming(self._marker):
            self._lock.truncate(0)
            self._lock.write(_MARK)
            self._lock.flush()
            os.fsync(self._lock.fileno())

    def _is_ours(self) -> bool:
        found = self._marker.read_bytes() if self._marker.is_file() else b""
        # Killed right at its beginning, one leaves nothing, or a marker that is not whole.
        return found == _MARK or (
            _MARK.startswith(found) and {each.name for each in self.path.iterdir()} <= {_MARKER}
        )

    def remove_parts(self, kept: AbstractSet[Path] = frozenset()) -> None:
        """Remove all that an export makes in it, but for its journal, its marker, and these."""
        for path in self.path.iterdir():
            if _OURS.fullmatch(path.name) and path not in kept:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    def clear(self) -> None:
        """Remove what an export made; what somebody else put there stays, and so does a link."""
        self.remove_parts()
        if {each.name for each in self.path.iterdir()} - {_MARKER}:
            return
        if sys.platform == "win32":
            self.close()  # an open file cannot be removed there
        self._marker.unlink(missing_ok=True)
        if not self.path.is_symlink() and not self.path.is_mount():
            self.path.rmdir()

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def is_bad_rows(path: Path) -> bool:
    """Whether a file holds bad rows of an export."""
    with path.open("rb") as file:
        return _decodes(file.readline(), BadRow)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of an export, of whatever version."""
    return _decodes(path.read_bytes(), _AnyCheckpoint)


def _decodes(text: bytes, kind: type) -> bool:
    try:
        msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
