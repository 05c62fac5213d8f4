"""A file that gets its name when it is whole, and that several processes may want at once.

Until then its bytes, and the lock of the process that fetches it, are in hidden files beside it.
Everything here blocks.
"""

import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from itwin_async._files.locks import try_lock_path
from itwin_async._files.part_file import PartFile


class ResumableFile:
    """One file of ``size`` bytes in a directory, and the part of it that has arrived."""

    def __init__(self, directory: Path, name: str, size: int) -> None:
        self.path = directory / name
        self.part = PartFile(directory / f".{name}.part", resume=True, hashed=False)
        self.is_whole = False
        self._size = size
        self._lock_path = directory / f".{name}.lock"
        self._lock: BinaryIO | None = None

    def find(self) -> bool:
        """Whether the whole file is there. Removes what a killed process left beside it."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{self.path} is a directory, and a file is to go there")
        self.is_whole = stat.S_ISREG(found.st_mode) and found.st_size == self._size
        if self.is_whole:
            self._clean_up()
        return self.is_whole

    def open(self) -> bool:
        """Take the lock, and look whether the file is whole by now; False if it is taken."""
        lock = self._lock_path.open("a+b")
        try:
            if try_lock_path(lock, self._lock_path):
                self._lock = lock
        finally:
            if self._lock is None:
                lock.close()
        if self._lock is None:
            return False
        if self.part.path.is_symlink():
            raise FileExistsError(f"{self.part.path} is a link, and a file is to be gathered there")
        self.find()
        return True

    def commit(self) -> None:
        """Give the file its name; a file that has it is replaced.

        Raises `OSError` if something else has changed what arrived.
        """
        if self.part.path.stat().st_size != self._size:
            raise OSError(f"{self.part.path} was changed while the file was downloaded")
        self.part.rename(self.path)
        self.is_whole = True
        self.close()

    def close(self) -> None:
        """Release the lock. What has arrived stays for a later `open`."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with lock:
                self._remove_lock()
            if sys.platform == "win32":  # where a file that is open stays
                self._remove_lock()

    def _clean_up(self) -> None:
        with suppress(OSError):  # a file system that can only be read
            self.part.remove()
            if self._lock is None:
                self._remove_lock()

    def _remove_lock(self) -> None:
        with suppress(PermissionError):  # on Windows, while it is open
            self._lock_path.unlink(missing_ok=True)
