"""Parts and a journal beside the output: what an export that was killed finds again.

A part is written and synced before a line of the journal names it, with what proves it, and what no
line names does not count; so a part and the places that its lists had reached are stored together
or not at all. What cannot be proved any more does not count either, nor what was stored after it.
The output appears when every list is done. What is left then is a checkpoint: where each list
ended, for `since`. Everything here blocks, and is called from threads.
"""

import logging
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import msgspec

from itwin_async.export._files import (
    NewFile,
    Place,
    Sum,
    naming,
    read_proved,
    sum_of,
    sync_directory,
)
from itwin_async.export._home import Home, is_bad_rows, is_checkpoint
from itwin_async.export._journal import (
    Checkpoint,
    Header,
    Indexes,
    Job,
    Journal,
    Progress,
    Stored,
    difference,
    read,
)
from itwin_async.export._rows import BadRow, Format, Row, concatenated, unfit_row

_logger = logging.getLogger("itwin_async")


class Store:
    """The parts of one export. Opened by one process at a time."""

    def __init__(self, output: Path, job: Job, form: Format) -> None:
        self.output: Final = output
        self.bad_output: Final = output.with_name(f"{output.name}.bad.jsonl")
        self.rows = self.bad = 0
        self.imodels: dict[str, Progress] = {}
        self.indexes: dict[str, Indexes] = {}  # of the changesets that are stored
        self._job = job
        self._form = form
        self._checkpoint = output.with_name(f"{output.name}.checkpoint")
        self._directory = Home(output)
        self._home = self._directory.path
        self._journal = Journal(self._home / "journal")
        self._header = Header(job=job, since=job.since)
        self._parts: list[Stored] = []
        self._begun: set[str] = set()  # iModels that have rows in the parts, or none at all
        self._place: Place | None = None

    # Beginning

    def open(self, *, resume: bool) -> None:
        """Find what an earlier run has stored, or begin anew.

        Raises `ValueError` if it was another export, there is nothing to add to, or what is beside
        the output is not an export's; `RuntimeError` if one is running; `OSError`.
        """
        self._directory.claim()
        try:
            self._place = Place(self._home, self.output)
            if resume and self._journal.path.exists():
                self._recover()
            else:
                self._begin()
        finally:
            if not self._journal.path.exists():
                self._directory.clear()

    def _recover(self) -> None:
        header, parts = self._journal.recover(self._is_proved)
        if header.job != self._job:
            raise ValueError(
                f"{self._home} holds an unfinished export that was not asked for in this way "
                f"({difference(header.job, self._job)}): finish that one, or do not resume it"
            )
        self._add_to(header)
        for name, expected in (("base", header.base), ("base.bad", header.base_bad)):
            if expected is not None and sum_of(self._home / name) != expected:
                raise ValueError(
                    f"{self._home / name} is not as it was stored: begin anew, without resume"
                )
        for each in parts:
            self._count(each)
        known = {self._part(each) for each in parts} | {self._bad_part(each) for each in parts}
        self._directory.remove_parts(known | {self._home / "base", self._home / "base.bad"})

    def _is_proved(self, stored: Stored) -> bool:
        for path, expected in (
            (self._part(stored), stored.file),
            (self._bad_part(stored), stored.bad_file),
        ):
            if expected is None:
                continue
            if not path.exists() or sum_of(path) != expected:
                _logger.warning(
                    "%r is not as it was stored: it is read again, and all that was stored after "
                    "it",
                    str(path),
                )
                return False
        return True

    def _begin(self) -> None:
        self._journal.path.unlink(missing_ok=True)  # first: without it the rest counts for nothing
        self._directory.remove_parts()
        before = None
        if self._job.since is not None and self.output.exists():
            before = self._finished()
        self._check_beside()
        if before is not None:
            # The output as it is now, whatever becomes of its name.
            base = self._keep(self.output, "base", before.output)
            self._add_to(
                Header(
                    job=self._job,
                    since=before.job.since,
                    rows=before.rows,
                    bad=before.bad,
                    base=base,
                    base_bad=self._keep(self.bad_output, "base.bad", before.bad_output),
                    imodels={
                        imodel_id: Progress(each.cursor, each.last)
                        for imodel_id, each in before.imodels.items()
                    },
                    indexes=before.indexes,
                )
            )
        self._journal.begin(self._header)
        sync_directory(self._home)

    def _add_to(self, header: Header) -> None:
        self._header = header
        self.rows, self.bad = header.rows, header.bad
        self.imodels = dict(header.imodels)
        for imodel_id, packed in header.indexes.items():
            self.indexes.setdefault(imodel_id, Indexes()).unpack(packed)

    def _check_beside(self) -> None:
        """`ValueError` if what is to be replaced beside the output is not an export's."""
        for path, is_ours in ((self.bad_output, is_bad_rows), (self._checkpoint, is_checkpoint)):
            if path.exists() and not (path.is_file() and is_ours(path)):
                raise ValueError(
                    f"{path} was not made by an export, and would be replaced: move it away, or "
                    "choose another output"
                )

    def _finished(self) -> Checkpoint:
        """The checkpoint of the output that is to be added to."""
        if not self._checkpoint.exists():
            raise ValueError(
                f"{self.output} cannot be added to without {self._checkpoint.name}, which its "
                "export left: choose another output, or export all without since"
            )
        found = read(self._checkpoint.read_bytes(), Checkpoint, self._checkpoint)
        wanted = msgspec.structs.replace(self._job, since=None)
        if msgspec.structs.replace(found.job, since=None) != wanted:
            raise ValueError(
                f"{self.output} is not an export of this kind ({difference(found.job, wanted)}): "
                "choose another output"
            )
        since = self._job.since
        if found.job.since is not None and since is not None and since < found.job.since:
            raise ValueError(
                f"{self.output} holds only what came after {found.job.since}: nothing from after "
                f"{since} can be added to it; export all without since"
            )
        return found

    def _keep(self, path: Path, name: str, expected: Sum | None) -> Sum | None:
        if expected is None:
            return None
        kept = self._home / name
        if path.is_file():
            assert self._place is not None  # noqa: S101 - `open` comes first
            # A file that is to be written over would change what is linked to it as well.
            if self._place.in_place or not _link(path, kept):
                with naming(kept):
                    shutil.copyfile(path, kept)
            if sum_of(kept) == expected:
                return expected
        raise ValueError(
            f"{path} is not what its export left: choose another output, or export all without "
            "since"
        )

    # Going on

    def store(
        self, rows: Sequence[Row], bad: Sequence[BadRow], imodels: dict[str, Progress]
    ) -> None:
        """Store rows, bad ones, and how far their lists were with them, all or nothing."""
        bad = list(bad)
        indexes: dict[str, Indexes] = {}
        entries: tuple[Row | BadRow, ...] = (*rows, *bad)
        for each in entries:
            indexes.setdefault(each.imodel_id, Indexes()).add(each.changeset_index)
        stored = Stored(
            part=len(self._parts) + 1,
            imodels=imodels,
            indexes={imodel_id: found.packed() for imodel_id, found in indexes.items()},
        )
        left_out: list[tuple[Row, str]] = []
        if rows:
            with NewFile(self._part(stored)) as file:
                left_out = self._form.write(rows, file)
            stored.file = file.sum
            bad += [unfit_row(row, reason) for row, reason in left_out]
        if bad:
            with NewFile(self._bad_part(stored)) as file:
                for bad_row in bad:
                    file.write(_line(bad_row))
            stored.bad_file = file.sum
        stored.rows, stored.bad = len(rows) - len(left_out), len(bad)
        sync_directory(self._home)
        self._journal.append(stored)
        self._count(stored)

    def _count(self, stored: Stored) -> None:
        self._parts.append(stored)
        self.rows += stored.rows
        self.bad += stored.bad
        self.imodels.update(stored.imodels)
        for imodel_id, packed in stored.indexes.items():
            self.indexes.setdefault(imodel_id, Indexes()).unpack(packed)
        if stored.rows or stored.bad or any(each.done for each in stored.imodels.values()):
            self._begun.update(stored.imodels)

    def check_found(self, imodel_ids: AbstractSet[str]) -> None:
        """`ValueError` if the parts hold iModels that are not among these."""
        if strays := sorted(self._begun - imodel_ids):
            raise ValueError(
                f"{self._home} also holds rows of other iModels ({', '.join(strays[:3])}), which "
                "was not asked for now: ask for the same as before, or do not resume"
            )

    def _part(self, stored: Stored) -> Path:
        return self._home / f"{stored.part:06}{self._form.suffix}"

    def _bad_part(self, stored: Stored) -> Path:
        return self._home / f"{stored.part:06}.bad"

    # Ending

    def finish(self) -> Generator[None]:
        """Make the output of the parts, step by step, and put it in its place."""
        home, header = self._home, self._header
        parts = [(self._part(each), each.file) for each in self._parts]
        bad_parts = [(self._bad_part(each), each.bad_file) for each in self._parts]
        with NewFile(home / "whole") as whole:
            base = None if header.base is None else home / "base"
            yield from self._form.join(base, _proved(parts), whole)
        bad: NewFile | None = None
        if self.bad:
            with NewFile(home / "whole.bad") as bad:
                base = None if header.base_bad is None else home / "base.bad"
                yield from concatenated(base, _proved(bad_parts), bad)
        left = Checkpoint(
            job=msgspec.structs.replace(self._job, since=header.since),
            rows=self.rows,
            bad=self.bad,
            output=whole.sum,
            bad_output=None if bad is None else bad.sum,
            imodels=self.imodels,
            indexes={imodel_id: each.packed() for imodel_id, each in self.indexes.items()},
        )
        with NewFile(home / "whole.checkpoint") as checkpoint:
            checkpoint.write(_line(left))
        assert self._place is not None  # noqa: S101 - `open` comes first
        # Killed between these, the next run makes the same of the parts once more.
        if bad is not None:
            self._place.put(home / "whole.bad", self.bad_output)
        elif self.bad_output.is_file() and is_bad_rows(self.bad_output):
            self.bad_output.unlink()
        self._place.put(home / "whole", self.output)
        self._place.put(home / "whole.checkpoint", self._checkpoint)
        sync_directory(self.output.parent)
        self._journal.path.unlink()
        self._directory.clear()

    def close(self) -> None:
        """Let another process have it."""
        self._directory.close()


def _proved(parts: Iterable[tuple[Path, Sum | None]]) -> Iterator[bytes]:
    for path, expected in parts:
        if expected is not None:
            yield read_proved(path, expected)


def _link(path: Path, name: Path) -> bool:
    try:
        os.link(path, name)
    except OSError:  # a file system without links
        return False
    return True


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
