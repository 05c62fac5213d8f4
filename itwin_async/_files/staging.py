"""Staging: a hidden directory in which files arrive before all of them get their names, or none.

Before the first file is renamed a journal is written there, and each file that is replaced is kept.
Renaming the journal is the commit; until then everything can be rolled back, also by another
process after this one was killed. Everything here blocks.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from itwin_async._files.atomic import replace_file
from itwin_async._files.locks import try_lock_path
from itwin_async._files.part_file import PartFile
from itwin_async._files.safe_paths import locate
from itwin_async.errors import DecodeError

_JOURNAL: Final = "journal"  # of the files that are being renamed, until the commit
_COMMITTED: Final = "done"  # the journal's name from then on
_TEMPORARY: Final = b"itwin_async download, not resumed"  # in a lock: remove the directory with it


class _Entry(msgspec.Struct, frozen=True):
    """A file that gets its name. ``identity`` tells it from one that somebody else put there."""

    path: str
    part: str
    identity: tuple[int, int]


class _Journal(msgspec.Struct, frozen=True, tag="itwin_async download"):
    files: list[_Entry]


class StagingDirectory:
    """The hidden directory of one download.

    With a ``key``, which stands for what is downloaded, it outlives a failure and is found again.
    """

    def __init__(
        self, directory: Path, paths: Sequence[str], *, overwrite: bool, key: str | None
    ) -> None:
        self._directory = directory
        self._overwrite = overwrite
        self._key = key
        self._parts = {path: hashlib.sha256(path.encode()).hexdigest()[:16] for path in paths}
        self._hidden: Path | None = None
        self._lock: BinaryIO | None = None
        self._created: list[Path] = []  # directories that were not there
        self._renamed: list[_Entry] = []  # the journal's files, once renaming began
        self._replaces = False  # whether a file that was there is replaced
        self._committed = False

    def open(self) -> None:
        """Check that all files may go where they belong, before anything is fetched.

        Rolls back first what a killed process left half done in this directory.
        """
        self._create(self._directory)
        _recover(self._directory)
        for path in self._parts:
            self._destination(path)
        if self._key is None:
            self._hidden = Path(tempfile.mkdtemp(".part", ".itwin-", self._directory))
            self._lock = lock = _lock_directory(self._hidden, create=True, wait=True)
            if lock is not None:
                lock.write(_TEMPORARY)
                lock.flush()
            return
        hidden = self._directory / f".itwin-{self._key}.part"
        if hidden.is_symlink():
            raise FileExistsError(f"{hidden} is a link, and files are to be gathered there")
        hidden.mkdir(exist_ok=True)
        self._lock = _lock_directory(hidden, create=True)
        if self._lock is None:
            raise RuntimeError(f"another download of these files to {self._directory} is running")
        self._hidden = hidden

    def part(self, path: str) -> PartFile:
        """The part of the file with this path."""
        return PartFile(self._opened() / self._parts[path], resume=self._key is not None)

    def rename_all(self) -> dict[str, Path]:
        """Give all files their names; `rollback` takes them back until `commit`."""
        hidden = self._opened()
        files = [_Entry(path, part, _identity(hidden / part)) for path, part in self._parts.items()]
        journal = msgspec.json.encode(_Journal(files))
        replace_file(hidden / _JOURNAL, journal, draft=hidden / "draft")
        self._renamed = files
        found: dict[str, Path] = {}
        for entry in files:
            final = found[entry.path] = self._destination(entry.path)
            self._create(final.parent)
            if os.path.lexists(final):
                self._replaces = True
                _keep(final, hidden / f"{entry.part}.old")
            (hidden / entry.part).replace(final)
        return found

    def commit(self) -> None:
        """Keep the files under their names, and remove everything beside them."""
        hidden = self._opened()
        (hidden / _JOURNAL).replace(hidden / _COMMITTED)
        self._committed = True
        self._close(remove=True)

    def rollback(self) -> None:
        """Put back what was there. Parts stay where a later download can resume them.

        After the commit only files that replaced nothing can still be removed.
        """
        hidden = self._hidden
        if self._committed:
            if self._replaces or self._key is not None:
                return
            for entry in self._renamed:
                final = locate(self._directory, entry.path)
                if _is(final, entry):
                    final.unlink()
        elif hidden is not None:
            if self._renamed and _undo(hidden, self._renamed):
                (hidden / _JOURNAL).unlink()
            self._close(remove=self._key is None and not (hidden / _JOURNAL).exists())
        for directory in reversed(self._created):
            with suppress(OSError):  # somebody else uses it by now
                directory.rmdir()

    def _opened(self) -> Path:
        if self._hidden is None:
            raise RuntimeError("the staging directory is not open")
        return self._hidden

    def _close(self, *, remove: bool) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with lock:
            if remove:
                _remove(self._opened(), lock)

    def _destination(self, path: str) -> Path:
        final = locate(self._directory, path)
        if not self._overwrite and os.path.lexists(final):
            raise FileExistsError(f"{final} is there already: give overwrite=True to replace it")
        if final.is_dir():
            raise IsADirectoryError(f"{final} is a directory, and a file is to go there")
        return final

    def _create(self, directory: Path) -> None:
        missing: list[Path] = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for ancestor in reversed(missing):
            with suppress(FileExistsError):  # by another download, just now
                ancestor.mkdir()
                self._created.append(ancestor)


def _identity(path: Path) -> tuple[int, int]:
    """What a file keeps when it is renamed or linked, and no other file has."""
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns


def _is(path: Path, entry: _Entry) -> bool:
    return os.path.lexists(path) and _identity(path) == entry.identity


def _keep(path: Path, copy: Path) -> None:
    """Give a file a second name; rename it where the file system has no links."""
    try:
        os.link(path, copy)
    except OSError:
        path.replace(copy)


def _undo(hidden: Path, files: Sequence[_Entry]) -> bool:
    """Rename files back, and restore those that they replaced; False if one could not be.

    Leaves alone what somebody else put in their places meanwhile.
    """
    complete = True
    for entry in reversed(files):
        part, old = hidden / entry.part, hidden / f"{entry.part}.old"
        try:
            final = locate(hidden.parent, entry.path)
        except DecodeError:  # a link is on the way by now
            complete = complete and not old.exists()
            continue
        if _is(final, entry):
            if not part.exists():
                _keep(final, part)
            if old.exists():
                old.replace(final)
            else:
                final.unlink(missing_ok=True)  # it is gone already where it could not be linked
        elif old.exists() and not os.path.lexists(final):
            old.replace(final)
        elif old.exists() and not final.samefile(old):
            complete = False
    return complete


def _recover(directory: Path) -> None:
    """Roll back what downloads to this directory left half done when they were killed."""
    for hidden in directory.glob(".itwin-*.part"):
        lock = None
        with suppress(PermissionError):  # somebody else's
            lock = None if hidden.is_symlink() else _lock_directory(hidden, create=False)
        if lock is None:
            continue  # its download is running, or it is none of ours
        with lock:
            if (journal := _read(hidden / _JOURNAL)) is not None:
                if not _undo(hidden, journal.files):
                    continue
                (hidden / _JOURNAL).unlink()
            is_committed = _read(hidden / _COMMITTED) is not None
            lock.seek(0)
            if is_committed or lock.read() == _TEMPORARY:
                _remove(hidden, lock)


def _read(path: Path) -> _Journal | None:
    """The journal of this name; None if it is none of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Journal)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _remove(hidden: Path, lock: BinaryIO) -> None:
    """Remove a directory whose lock is held."""
    shutil.rmtree(hidden, ignore_errors=True)
    lock.close()
    if sys.platform == "win32":  # where a file that is open stays
        shutil.rmtree(hidden, ignore_errors=True)


def _lock_directory(hidden: Path, *, create: bool, wait: bool = False) -> BinaryIO | None:
    """Lock a directory until the file is closed; None if it is taken, or not there any more."""
    path = hidden / "lock"
    try:
        lock = path.open("a+b" if create else "r+b")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with suppress(OSError):  # no locks here; or who held it has removed it with the directory
        if try_lock_path(lock, path, wait=wait):
            return lock
    lock.close()
    return None
