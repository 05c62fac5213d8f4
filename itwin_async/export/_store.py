"""Parts and a journal beside the output: what an export that was killed finds again.

A part is written and synced before a line of the journal names it, and what no line names does not
count; so a part and the places that its lists had reached are stored together or not at all. The
output appears by rename when every list is done. What is left then is a checkpoint: where each list
ended, for `since`. Everything here blocks, and is called from threads.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec

from itwin_async.export._rows import BadRow, Format, Row, concatenated, unfit_row

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")
_VERSION: Final = 1


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What an export is: only the same one goes on with its parts."""

    version: int = _VERSION
    format: str
    data_type: str | None
    since: int | None
    platform: str
    imodels: str | None  # a digest of the ids that were named; None where they are found on the way


class Progress(msgspec.Struct):
    """How far one list is. ``start`` lies before its last rows: of use when it has grown."""

    cursor: str | None = None
    start: str | None = None
    last: int = -1  # the highest index that was stored
    above: int = -1  # up to which the output that is added to has it
    done: bool = False


class _Begun(msgspec.Struct, kw_only=True):
    """The journal's first line. The counts are those of the output that is added to."""

    job: Job
    added_to: bool = False
    since: int | None = None
    rows: int = 0
    bad: int = 0


class _Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Each later line: a part, and how far its lists were with it."""

    part: int
    rows: int = 0
    bad: int = 0
    size: int = 0  # bytes of the part; -1 if there is none
    bad_size: int = 0
    imodels: dict[str, Progress] = {}


class Checkpoint(msgspec.Struct, kw_only=True):
    """What stays beside a finished output."""

    job: Job
    rows: int
    bad: int
    size: int  # of the output, in bytes
    imodels: dict[str, Progress]


class Store:
    """The parts of one export. Opened by one process at a time."""

    def __init__(self, output: Path, job: Job, form: Format) -> None:
        self.output: Final = output
        self.bad_output: Final = output.with_name(f"{output.name}.bad.jsonl")
        self.rows = self.bad = 0
        self.imodels: dict[str, Progress] = {}
        self._job = job
        self._form = form
        self._checkpoint = output.with_name(f"{output.name}.checkpoint")
        self._home = output.with_name(f"{output.name}.parts")
        self._parts: list[_Stored] = []
        self._added_to = False
        self._since = job.since  # of all that the output holds
        self._begun: set[str] = set()  # iModels that have rows in the parts, or none at all
        self._lock: BinaryIO | None = None
        self._journal: BinaryIO | None = None

    # Beginning

    def open(self, *, resume: bool) -> None:
        """Find what an earlier run has stored, or begin anew.

        Raises `ValueError` if it was another export, or there is nothing to add to; `RuntimeError`
        if one is running; `OSError`.
        """
        if self.output.exists() and not self.output.is_file():
            what = "directory" if self.output.is_dir() else "device"
            raise ValueError(f"output must be a file, and {self.output} is a {what}")
        self._home.mkdir(exist_ok=True)
        self._take_lock()
        journal = self._home / "journal"
        lines = _lines(journal) if resume and journal.exists() else []
        if lines:
            self._recover(journal, lines)
            return
        try:
            self._begin(journal)
        except ValueError:
            shutil.rmtree(self._home, ignore_errors=True)
            raise

    def _take_lock(self) -> None:
        self._lock = (self._home / "lock").open("wb")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"another export to {self.output} is running") from None

    def _recover(self, journal: Path, lines: list[bytes]) -> None:
        begun = self._read(lines[0], _Begun, journal)
        if begun.job != self._job:
            raise ValueError(
                f"{self._home} holds an unfinished export that was not asked for in this way "
                f"({_difference(begun.job, self._job)}): finish that one, or do not resume it"
            )
        self._added_to, self.rows, self.bad = begun.added_to, begun.rows, begun.bad
        self._since = begun.since
        for line in lines[1:]:
            stored = self._read(line, _Stored, journal)
            for path, size in (
                (self._part(stored), stored.size),
                (self._bad_part(stored), stored.bad_size),
            ):
                if size > 0 and (not path.exists() or path.stat().st_size != size):
                    raise ValueError(f"{path} is not as it was stored: begin anew, without resume")
            self._count(stored)
        known = {self._part(each) for each in self._parts}
        known |= {self._bad_part(each) for each in self._parts}
        for path in self._home.iterdir():
            if path.name[0].isdigit() and path not in known:
                path.unlink()
        self._journal = journal.open("r+b")
        self._journal.truncate(sum(map(len, lines)))  # of its last line a part may be missing
        self._journal.seek(0, os.SEEK_END)

    def _begin(self, journal: Path) -> None:
        journal.unlink(missing_ok=True)  # first: without it the rest counts for nothing
        for path in self._home.iterdir():
            if path.name != "lock":
                path.unlink()
        begun = _Begun(job=self._job, since=self._since)
        if self._job.since is not None and self.output.exists():
            before = self._finished()
            self._added_to, self.rows, self.bad = True, before.rows, before.bad
            self._since = before.job.since
            begun = _Begun(
                job=self._job, added_to=True, since=self._since, rows=self.rows, bad=self.bad
            )
            # The output as it is now, whatever becomes of its name.
            _link(self.output, self._home / "base")
            if before.bad:
                _link(self.bad_output, self._home / "base.bad")
            self.imodels = {
                imodel_id: Progress(each.start, each.start, last=each.last, above=each.last)
                for imodel_id, each in before.imodels.items()
            }
        with journal.with_name("journal.new").open("wb") as file:
            file.write(_line(begun))
            if self.imodels:
                file.write(_line(_Stored(part=0, size=-1, imodels=self.imodels)))
            _sync(file)
        journal.with_name("journal.new").replace(journal)
        _sync_directory(self._home)
        self._journal = journal.open("ab")

    def _finished(self) -> Checkpoint:
        """The checkpoint of the output that is to be added to."""
        if not self._checkpoint.exists():
            raise ValueError(
                f"{self.output} cannot be added to without {self._checkpoint.name}, which its "
                "export left: choose another output, or export all without since"
            )
        found = self._read(self._checkpoint.read_bytes(), Checkpoint, self._checkpoint)
        wanted = msgspec.structs.replace(self._job, since=None, imodels=None)
        if msgspec.structs.replace(found.job, since=None, imodels=None) != wanted:
            raise ValueError(
                f"{self.output} is not an export of this kind ({_difference(found.job, wanted)}): "
                "choose another output"
            )
        since = self._job.since
        if found.job.since is not None and since is not None and since < found.job.since:
            raise ValueError(
                f"{self.output} holds only what came after {found.job.since}: nothing from after "
                f"{since} can be added to it; export all without since"
            )
        bad_is_there = not found.bad or self.bad_output.is_file()
        if self.output.stat().st_size != found.size or not bad_is_there:
            raise ValueError(
                f"{self.output} is not what its export left: choose another output, or export all "
                "without since"
            )
        return found

    @staticmethod
    def _read(text: bytes, kind: type[T], where: Path) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError:
            raise ValueError(
                f"{where} is not what this version wrote: remove it, or do not resume"
            ) from None

    # Going on

    def store(
        self, rows: Sequence[Row], bad: Sequence[BadRow], imodels: dict[str, Progress]
    ) -> None:
        """Store rows, bad ones, and how far their lists were with them, all or nothing."""
        bad = list(bad)
        stored = _Stored(part=len(self._parts) + 1, size=-1, imodels=imodels)
        left_out = 0
        if rows:
            part = self._part(stored)
            for row, reason in self._form.write(rows, part):
                left_out += 1
                bad.append(unfit_row(row, reason))
            stored.size = _sync_file(part)
        if bad:
            path = self._bad_part(stored)
            path.write_bytes(b"".join(map(_line, bad)))
            stored.bad_size = _sync_file(path)
        stored.rows, stored.bad = len(rows) - left_out, len(bad)
        _sync_directory(self._home)
        assert self._journal is not None  # noqa: S101 - `open` comes first
        self._journal.write(_line(stored))
        _sync(self._journal)
        self._count(stored)

    def _count(self, stored: _Stored) -> None:
        self._parts.append(stored)
        self.rows += stored.rows
        self.bad += stored.bad
        self.imodels.update(stored.imodels)
        if stored.rows or stored.bad or any(each.done for each in stored.imodels.values()):
            self._begun.update(stored.imodels)

    def check_found(self, imodel_ids: AbstractSet[str]) -> None:
        """`ValueError` if the parts hold iModels that are not among these."""
        if strays := sorted(self._begun - imodel_ids):
            raise ValueError(
                f"{self._home} also holds rows of {', '.join(strays[:3])}, which was not asked "
                "for now: ask for the same as before, or do not resume"
            )

    def _part(self, stored: _Stored) -> Path:
        return self._home / f"{stored.part:06}{self._form.suffix}"

    def _bad_part(self, stored: _Stored) -> Path:
        return self._home / f"{stored.part:06}.bad"

    # Ending

    def finish(self) -> Iterator[None]:
        """Make the output of the parts, step by step, and put it in its place."""
        home = self._home
        parts = [self._part(each) for each in self._parts if each.size >= 0]
        bad = [self._bad_part(each) for each in self._parts if each.bad_size]
        if self._added_to:
            parts.insert(0, home / "base")
            if (home / "base.bad").exists():
                bad.insert(0, home / "base.bad")
        made = home / f"whole{self.output.suffix}"
        yield from self._form.join(parts, made)
        _sync_file(made)
        if bad:
            yield from concatenated(bad, home / "whole.bad")
            _sync_file(home / "whole.bad")
        left = Checkpoint(
            job=msgspec.structs.replace(self._job, since=self._since),
            rows=self.rows,
            bad=self.bad,
            size=made.stat().st_size,
            imodels=self.imodels,
        )
        (home / "whole.checkpoint").write_bytes(_line(left))
        _sync_file(home / "whole.checkpoint")
        # Killed between these, the next run makes the same of the parts once more.
        if bad:
            (home / "whole.bad").replace(self.bad_output)
        else:
            self.bad_output.unlink(missing_ok=True)
        made.replace(self.output)
        (home / "whole.checkpoint").replace(self._checkpoint)
        _sync_directory(self.output.parent)
        if sys.platform == "win32":
            self.close()  # an open file cannot be removed there
        (home / "journal").unlink()
        shutil.rmtree(home)

    def close(self) -> None:
        """Let another process have it."""
        for file in (self._journal, self._lock):
            if file is not None:
                file.close()
        self._journal = self._lock = None


def _lines(journal: Path) -> list[bytes]:
    """The whole lines."""
    return [line for line in journal.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"]


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _difference(one: Job, other: Job) -> str:
    """Which of the arguments differ."""
    names = [name for name in Job.__struct_fields__ if getattr(one, name) != getattr(other, name)]
    shown = {"imodels": "other iModels"}
    return ", ".join(
        shown.get(name, f"{name} {getattr(one, name)}, not {getattr(other, name)}")
        for name in names
    )


def _link(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # a file system without links
        shutil.copyfile(path, name)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_file(path: Path) -> int:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)


def _sync_directory(path: Path) -> None:
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
