"""The directory of an export's parts. One with our marker, or an empty one, is ours."""

import re
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import BinaryIO, Final

from itwin_async._files.atomic import naming_errors, sync_file
from itwin_async._files.locks import try_lock
from itwin_async.export._journal import VERSION

_MARKER: Final = "itwin-async-export"
_MARK: Final = f"Parts of an unfinished export of itwin_async, version {VERSION}.\n".encode()
_OURS: Final = re.compile(r"\d{6,}\.(jsonl|arrows|bad)|base|base\.bad|whole[.a-z]*|journal\.new")


class PartsDirectory:
    """A directory beside the output, locked by one process at a time."""

    def __init__(self, output: Path) -> None:
        self.path: Final = output.with_name(f"{output.name}.parts")
        self._output = output
        self._marker = self.path / _MARKER
        self._lock: BinaryIO | None = None

    def claim(self) -> None:
        """Create and lock it: `ValueError` if it is not ours, `RuntimeError` if it is locked."""
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
        if sys.platform != "win32" and not try_lock(self._lock):
            raise RuntimeError(f"another export to {self._output} is running")
        if self._marker.read_bytes() == _MARK:
            return
        with naming_errors(self._marker):
            self._lock.truncate(0)
            self._lock.write(_MARK)
            sync_file(self._lock)

    def _is_ours(self) -> bool:
        found = self._marker.read_bytes() if self._marker.is_file() else b""
        # An export that was killed at its very beginning leaves no marker, or a part of it.
        return found == _MARK or (
            _MARK.startswith(found) and {path.name for path in self.path.iterdir()} <= {_MARKER}
        )

    def remove_parts(self, kept: AbstractSet[Path] = frozenset()) -> None:
        """Remove all files of exports but the journal, the marker, and those that are ``kept``."""
        for path in self.path.iterdir():
            if _OURS.fullmatch(path.name) and path not in kept:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    def clear(self) -> None:
        """Remove it with all files of exports; files of others stay, and so does a link to it."""
        self.remove_parts()
        if {path.name for path in self.path.iterdir()} - {_MARKER}:
            return
        if sys.platform == "win32":
            self.close()  # an open file cannot be removed there
        self._marker.unlink(missing_ok=True)
        if not self.path.is_symlink() and not self.path.is_mount():
            self.path.rmdir()

    def close(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
