"""Where files are gathered before all of them get their names at once, or none. All of it blocks.

A hidden directory beside the files' places holds their parts. Before the first file gets its name a
journal is written there, and each file that is replaced is kept. Moving the journal aside is the
commit; until then everything can be put back, also by another process after this one was killed.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from itwin_async._core.redaction import one_line
from itwin_async.errors import DecodeError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Names that Windows keeps for devices, with any extension.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")
_BLOCK: Final = 1 << 20  # bytes read at once to hash what is there
_JOURNAL: Final = "journal"  # of the files that get their names; there until they may stay
_DONE: Final = "done"  # its name from then on
_PASSING: Final = b"itwin_async download, not resumed"  # a lock's content: remove what it locked


def inside(path: str) -> list[str]:
    """The parts of a relative path; `DecodeError` for one that could lead out of its directory."""
    parts = path.split("/")
    for part in parts:
        if (
            part in {"", ".", ".."}
            or not part.isprintable()
            or "\\" in part
            or ":" in part
            or part.endswith((".", " "))  # which Windows drops
            or _RESERVED.fullmatch(part)
        ):
            raise _leaves(path)
    return parts


def _leaves(path: str) -> DecodeError:
    return DecodeError(
        f"a file has the relativePath {one_line(repr(path), longest=100)}, which may lead out of "
        "the directory"
    )


def _locate(directory: Path, path: str) -> Path:
    """Where a file belongs; `DecodeError` where a link is on the way."""
    final = directory
    for part in inside(path):
        final /= part
        if final.is_symlink():
            raise _leaves(path)
    return final


class _Entry(msgspec.Struct, frozen=True):
    """A file that gets its name. ``identity`` tells it from one that somebody else put there."""

    path: str
    part: str
    identity: tuple[int, int]


class _Journal(msgspec.Struct, frozen=True, tag="itwin_async download"):
    files: list[_Entry]


class PartFile:
    """A file that arrives: its bytes so far, their SHA-256 and the entity tag they belong to."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._tag_path = path.with_suffix(".etag")
        self.resume = resume
        self._digest = hashlib.sha256()
        self.etag: str | None = None
        self.size: int = 0

    @property
    def sha256(self) -> str:
        """Of what is there, hexadecimal."""
        return self._digest.hexdigest()

    def load(self) -> None:
        """Take up what an earlier process left."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while block := file.read(_BLOCK):
                self._digest.update(block)
                self.size += len(block)
        with suppress(FileNotFoundError):
            self.etag = self._tag_path.read_text("latin-1") or None

    def restart(self, etag: str | None = None) -> None:
        """Begin at the first byte of what has this entity tag."""
        self.size, self.etag = 0, None
        self._digest = hashlib.sha256()
        if self.resume:
            self._tag_path.unlink(missing_ok=True)  # first: it must not vouch for other bytes
        self._path.open("wb").close()
        self.etag = etag
        if self.resume and etag is not None:
            self._tag_path.write_text(etag, "latin-1")

    def append(self, piece: bytes) -> None:
        """Store the next piece."""
        with self._path.open("ab") as file:
            file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)


class StagingDirectory:
    """The hidden directory of one download, and the places its files go to.

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
        self._lock: IO[bytes] | None = None
        self._made: list[Path] = []  # directories that were not there
        self._files: list[_Entry] = []  # since they began to get their names
        self._replaces = False  # whether a file that was there gives way
        self._committed = False

    def open(self) -> None:
        """See that all files may go where they shall, before anything is fetched.

        Undoes first what a killed process left half done in this directory.
        """
        self._make(self._directory)
        _recover(self._directory)
        for path in self._parts:
            self._final(path)
        if self._key is None:
            self._hidden = Path(tempfile.mkdtemp(".part", ".itwin-", self._directory))
            self._lock = lock = _take_lock(self._hidden, create=True, wait=True)
            if lock is not None:
                lock.write(_PASSING)
                lock.flush()
            return
        hidden = self._directory / f".itwin-{self._key}.part"
        if hidden.is_symlink():
            raise FileExistsError(f"{hidden} is a link, and files are to be gathered there")
        hidden.mkdir(exist_ok=True)
        self._lock = _take_lock(hidden, create=True)
        if self._lock is None:
            raise RuntimeError(f"another download of these files to {self._directory} is running")
        self._hidden = hidden

    def part(self, path: str) -> PartFile:
        """The file where the one of this path is gathered."""
        return PartFile(self._gathered() / self._parts[path], resume=self._key is not None)

    def settle(self) -> dict[str, Path]:
        """Give all files their names; until `commit`, `rollback` undoes it."""
        hidden = self._gathered()
        files = [_Entry(path, part, _identity(hidden / part)) for path, part in self._parts.items()]
        draft = hidden / "draft"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(_Journal(files)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(hidden / _JOURNAL)
        self._files = files
        found: dict[str, Path] = {}
        for entry in files:
            final = found[entry.path] = self._final(entry.path)
            self._make(final.parent)
            if os.path.lexists(final):
                self._replaces = True
                _keep(final, hidden / f"{entry.part}.old")
            (hidden / entry.part).replace(final)
        return found

    def commit(self) -> None:
        """Let the files stay, and leave nothing beside them."""
        hidden = self._gathered()
        (hidden / _JOURNAL).replace(hidden / _DONE)
        self._committed = True
        self._close(remove=True)

    def rollback(self) -> None:
        """Put back what was there; parts stay where they can be gone on with.

        After the commit only files that replaced nothing can still be taken back.
        """
        hidden = self._hidden
        if self._committed:
            if self._replaces or self._key is not None:
                return
            for entry in self._files:
                final = _locate(self._directory, entry.path)
                if _is(final, entry):
                    final.unlink()
        elif hidden is not None:
            if self._files and _undo(hidden, self._files):
                (hidden / _JOURNAL).unlink()
            self._close(remove=self._key is None and not (hidden / _JOURNAL).exists())
        for directory in reversed(self._made):
            with suppress(OSError):  # somebody else uses it by now
                directory.rmdir()

    def _gathered(self) -> Path:
        if self._hidden is None:
            raise RuntimeError("the place of a download is not open")
        return self._hidden

    def _close(self, *, remove: bool) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with lock:
            if remove:
                _remove(self._gathered(), lock)

    def _final(self, path: str) -> Path:
        final = _locate(self._directory, path)
        if not self._overwrite and os.path.lexists(final):
            raise FileExistsError(f"{final} is there already: give overwrite=True to replace it")
        if final.is_dir():
            raise IsADirectoryError(f"{final} is a directory, and a file is to go there")
        return final

    def _make(self, directory: Path) -> None:
        missing: list[Path] = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for each in reversed(missing):
            with suppress(FileExistsError):  # by another download, just now
                each.mkdir()
                self._made.append(each)


def _identity(path: Path) -> tuple[int, int]:
    """What stays of a file when it is renamed or linked, and no other file has."""
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns


def _is(path: Path, entry: _Entry) -> bool:
    return os.path.lexists(path) and _identity(path) == entry.identity


def _keep(path: Path, copy: Path) -> None:
    """Give a file a second name, or another one where there are no second ones."""
    try:
        os.link(path, copy)
    except OSError:
        path.replace(copy)


def _undo(hidden: Path, files: Sequence[_Entry]) -> bool:
    """Put back what files replaced, and them where they came from; False if one could not be.

    Leaves alone what somebody else put in their places meanwhile.
    """
    whole = True
    for entry in reversed(files):
        part, old = hidden / entry.part, hidden / f"{entry.part}.old"
        try:
            final = _locate(hidden.parent, entry.path)
        except DecodeError:  # a link is on the way by now
            whole = whole and not old.exists()
            continue
        if _is(final, entry):
            if not part.exists():
                _keep(final, part)
            if old.exists():
                old.replace(final)
            else:
                final.unlink(missing_ok=True)  # it is there no more where it could not be linked
        elif old.exists() and not os.path.lexists(final):
            old.replace(final)
        elif old.exists() and not final.samefile(old):
            whole = False
    return whole


def _recover(directory: Path) -> None:
    """Undo what downloads to this directory left half done when they were killed."""
    for hidden in directory.glob(".itwin-*.part"):
        lock = None
        with suppress(PermissionError):  # somebody else's
            lock = None if hidden.is_symlink() else _take_lock(hidden, create=False)
        if lock is None:
            continue  # it is under way, or nothing of ours
        with lock:
            if (journal := _read(hidden / _JOURNAL)) is not None:
                if not _undo(hidden, journal.files):
                    continue
                (hidden / _JOURNAL).unlink()
            is_done = _read(hidden / _DONE) is not None
            lock.seek(0)
            if is_done or lock.read() == _PASSING:
                _remove(hidden, lock)


def _read(path: Path) -> _Journal | None:
    """A journal of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Journal)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _remove(hidden: Path, lock: IO[bytes]) -> None:
    """Remove a directory whose lock is held."""
    shutil.rmtree(hidden, ignore_errors=True)
    lock.close()
    if sys.platform == "win32":  # where a file that is open stays
        shutil.rmtree(hidden, ignore_errors=True)


def _take_lock(hidden: Path, *, create: bool, wait: bool = False) -> IO[bytes] | None:
    """Lock a directory until the file is closed; None if it is taken, or not there any more."""
    path = hidden / "lock"
    try:
        lock = path.open("a+b" if create else "r+b")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if sys.platform == "win32":
            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
    except OSError:
        pass  # taken; or whoever had it has removed it with the directory
    lock.close()
    return None
