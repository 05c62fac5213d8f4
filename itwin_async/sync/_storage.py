"""Where a data set lies: its directory, and the sibling for all that is no data. On this machine.

A file is drafted in the sibling and gets its name by a rename, so that a reader of the directory
sees it as a whole or not at all. Everything here blocks.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from itwin_async._files.atomic import SyncedFile, naming_errors, sync_directory
from itwin_async._files.locks import try_lock

MARK: Final = b"What a sync of itwin_async needs beside its data set.\n"
MARKER: Final = "itwin-async-sync"
_LOCK: Final = f"{MARKER}.lock"
_DRAFT: Final = "draft"


class Storage(Protocol):
    """A directory with committed files, and a sibling with the rest. Names have no directories."""

    can_replace: bool
    """Whether readers of a file do not mind that it becomes longer meanwhile."""

    @property
    def label(self) -> str:
        """The directory as messages show it."""
        ...

    def claim(self) -> bool:
        """Make both directories and keep others out; False to be called again in a moment.

        Raises `RuntimeError` while another sync writes there, and `ValueError` for a place that
        belongs to somebody else.
        """
        ...

    def is_claimed(self) -> bool:
        """Whether others are still kept out."""
        ...

    def renew(self) -> None:
        """Go on keeping others out; called every few seconds."""
        ...

    def release(self) -> None:
        """Let others in."""
        ...

    def names(self) -> list[str]:
        """The names of all that lies in the directory."""
        ...

    def open(self, name: str) -> Any:
        """A context manager for a file of the directory, open for reading from any place of it."""
        ...

    def commit(self, name: str, data: bytes) -> None:
        """Add or replace a file of the directory, which is there as a whole or not at all."""
        ...

    def read_aside(self, name: str) -> bytes | None:
        """A file of the sibling; None if it is not there."""
        ...

    def write_aside(self, name: str, data: bytes) -> None:
        """Add or replace a file of the sibling."""
        ...

    def remove_aside(self, name: str) -> None:
        """Remove a file of the sibling, if it is there."""
        ...

    def names_aside(self) -> list[str]:
        """The names of all that lies in the sibling."""
        ...


class LocalStorage:
    """A directory of this machine. One process at a time holds the lock in its sibling."""

    can_replace = True

    def __init__(self, path: Path) -> None:
        self._given = path
        self._path = path
        self._aside = path
        self._lock: BinaryIO | None = None
        self.label = str(path)

    def claim(self) -> bool:
        """Make both directories and lock the sibling; see `Storage`."""
        path = self._path = self._given.resolve()
        self.label = str(path)
        if path == path.parent:
            raise ValueError(f"{path} cannot be a data set: choose a directory inside of it")
        self._aside = path.with_name(f"{path.name}.sync")
        for directory in (path, self._aside):
            if directory.exists() and not directory.is_dir():
                raise ValueError(f"{directory} is in the way, for it is no directory: move it away")
            directory.mkdir(parents=True, exist_ok=True)
        if path.stat().st_dev != self._aside.stat().st_dev:
            raise ValueError(
                f"{path} is a mount of its own, and no file of {self._aside} can be renamed into "
                "it: choose a directory inside of it"
            )
        found = self.read_aside(MARKER)
        # A part of it, with nothing but the lock, is of a process that was killed.
        is_begun = MARK.startswith(found or b"") and {*self.names_aside()} <= {_LOCK, MARKER}
        if found != MARK and not is_begun:
            raise ValueError(f"{self._aside} was not made by a sync of this version: move it away")
        self._lock = (self._aside / _LOCK).open("ab")
        if not try_lock(self._lock):
            raise RuntimeError(f"another sync to {path} is running")
        if found != MARK:
            with SyncedFile(self._aside / MARKER) as marker:
                marker.write(MARK)
        with suppress(FileNotFoundError):
            (self._aside / _DRAFT).unlink()
        sync_directory(path.parent)
        return True

    def is_claimed(self) -> bool:
        """Whether the lock is held."""
        return self._lock is not None

    def renew(self) -> None:
        """Do nothing: a lock lasts."""

    def release(self) -> None:
        """Unlock the sibling."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def names(self) -> list[str]:
        """The names of all that lies in the directory."""
        return [found.name for found in self._path.iterdir()]

    @contextmanager
    def open(self, name: str) -> Generator[BinaryIO]:
        """A file of the directory, open for reading."""
        # By Python: Arrow opens no names that are not UTF-8.
        with naming_errors(self._path / name), (self._path / name).open("rb") as file:
            yield file

    def commit(self, name: str, data: bytes) -> None:
        """Add or replace a file of the directory by a rename, and wait until it is on the disk."""
        self._write(self._path / name, data)
        sync_directory(self._path)

    def read_aside(self, name: str) -> bytes | None:
        """A file of the sibling; None if it is not there."""
        try:
            return (self._aside / name).read_bytes()
        except FileNotFoundError:
            return None

    def write_aside(self, name: str, data: bytes) -> None:
        """Add or replace a file of the sibling by a rename, and wait until it is on the disk."""
        self._write(self._aside / name, data)
        sync_directory(self._aside)

    def _write(self, path: Path, data: bytes) -> None:
        draft = self._aside / _DRAFT
        with SyncedFile(draft) as file:
            file.write(data)
        draft.replace(path)

    def remove_aside(self, name: str) -> None:
        """Remove a file of the sibling, if it is there."""
        with suppress(FileNotFoundError):
            (self._aside / name).unlink()

    def names_aside(self) -> list[str]:
        """The names of all that lies in the sibling."""
        return [found.name for found in self._aside.iterdir()]
