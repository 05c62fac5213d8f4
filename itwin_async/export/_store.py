"""Parts and a journal beside the output: what the same export resumes from after it was killed.

A part is written and synced before a line of the journal names it with its digest, and a part that
no line names does not count: so a part and the progress of its lists are stored together or not at
all. A part that has changed does not count either, nor do those stored after it. The output appears
when every list is done. A checkpoint then stays beside it: where each list ended, for ``since``.
Everything here blocks, and is called from threads.
"""

import errno
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import msgspec

from itwin_async._files.atomic import (
    FileDigest,
    SyncedFile,
    digest_of_bytes,
    digest_of_path,
    naming_errors,
    sync_directory,
)
from itwin_async._rows.entries import BadRow, Row, unfit_row
from itwin_async.export._earlier_output import (
    is_bad_rows,
    is_checkpoint,
    keep_file,
    read_checkpoint,
)
from itwin_async.export._formats import Format, concatenate
from itwin_async.export._journal import (
    Checkpoint,
    ExportSpec,
    IndexSet,
    Journal,
    JournalHeader,
    ListProgress,
    StoredPart,
    difference,
    encode_line,
)
from itwin_async.export._output import OutputPlacement
from itwin_async.export._parts_directory import PartsDirectory

_logger = logging.getLogger("itwin_async")


class Store:
    """The parts of one export. One process at a time may open it."""

    def __init__(self, output: Path, spec: ExportSpec, form: Format) -> None:
        self.output: Final = output
        self.bad_output: Final = output.with_name(f"{output.name}.bad.jsonl")
        self.rows = self.bad = 0
        self.imodels: dict[str, ListProgress] = {}
        self.indexes: dict[str, IndexSet] = {}  # of the changesets that are stored
        self._spec = spec
        self._form = form
        self._checkpoint = output.with_name(f"{output.name}.checkpoint")
        self._directory = PartsDirectory(output)
        self._path = self._directory.path
        self._journal = Journal(self._path / "journal")
        self._header = JournalHeader(spec=spec, since=spec.since)
        self._parts: list[StoredPart] = []
        self._started_ids: set[str] = set()  # iModels with rows in the parts, or known to be empty
        self._placement: OutputPlacement | None = None

    # Opening

    def open(self, *, resume: bool) -> None:
        """Find what an earlier run has stored, or begin anew.

        Raises `ValueError` if it was another export, there is nothing to add to, or a file beside
        the output is not an export's; `RuntimeError` if one is running; `OSError`.
        """
        self._directory.claim()
        try:
            self._placement = OutputPlacement(self._path, self.output)
            if resume and self._journal.path.exists():
                self._recover()
            else:
                self._begin(self._placement)
        finally:
            if not self._journal.path.exists():
                self._directory.clear()

    def _recover(self) -> None:
        header, parts = self._journal.recover(self._is_unchanged)
        if header.spec != self._spec:
            raise ValueError(
                f"{self._path} holds an unfinished export that was not asked for in this way "
                f"({difference(header.spec, self._spec)}): finish that one, or start over with "
                "resume=False (--no-resume)"
            )
        self._add_to(header)
        for name, expected in (("base", header.base), ("base.bad", header.base_bad)):
            if expected is not None and digest_of_path(self._path / name) != expected:
                raise ValueError(
                    f"{self._path / name} is not as it was stored: begin anew, without resume"
                )
        for stored in parts:
            self._count(stored)
        known = {self._part(stored) for stored in parts}
        known |= {self._bad_part(stored) for stored in parts}
        self._directory.remove_parts(known | {self._path / "base", self._path / "base.bad"})

    def _is_unchanged(self, stored: StoredPart) -> bool:
        for path, expected in (
            (self._part(stored), stored.file),
            (self._bad_part(stored), stored.bad_file),
        ):
            if expected is None:
                continue
            if not path.exists() or digest_of_path(path) != expected:
                _logger.warning(
                    "%r is not as it was stored: it is read again, and all that was stored after "
                    "it",
                    str(path),
                )
                return False
        return True

    def _begin(self, placement: OutputPlacement) -> None:
        self._journal.path.unlink(missing_ok=True)  # first: without it no part counts
        self._directory.remove_parts()
        earlier = None
        if self._spec.since is not None and self.output.exists():
            earlier = read_checkpoint(self.output, self._checkpoint, self._spec)
        self._check_replaceable()
        if earlier is not None:
            self._add_to(self._keep_base(earlier, placement))
        self._journal.create(self._header)
        sync_directory(self._path)

    def _check_replaceable(self) -> None:
        """`ValueError` if a file beside the output, which will be replaced, is not an export's."""
        for path, is_ours in ((self.bad_output, is_bad_rows), (self._checkpoint, is_checkpoint)):
            if path.exists() and not (path.is_file() and is_ours(path)):
                raise ValueError(
                    f"{path} was not made by an export, and would be replaced: move it away, or "
                    "choose another output"
                )

    def _keep_base(self, earlier: Checkpoint, placement: OutputPlacement) -> JournalHeader:
        """Keep the output as it is now, whatever becomes of its name, to add to it at the end."""
        for path, name, expected in (
            (self.output, "base", earlier.output),
            (self.bad_output, "base.bad", earlier.bad_output),
        ):
            if expected is not None:
                # Writing over a file in place would change a link to it as well.
                keep_file(path, self._path / name, expected, copy=placement.in_place)
        return JournalHeader(
            spec=self._spec,
            since=earlier.spec.since,
            rows=earlier.rows,
            bad=earlier.bad,
            base=earlier.output,
            base_bad=earlier.bad_output,
            imodels={
                imodel_id: ListProgress(progress.cursor, progress.last)
                for imodel_id, progress in earlier.imodels.items()
            },
            indexes=earlier.indexes,
        )

    def _add_to(self, header: JournalHeader) -> None:
        self._header = header
        self.rows, self.bad = header.rows, header.bad
        self.imodels = dict(header.imodels)
        for imodel_id, packed in header.indexes.items():
            self.indexes.setdefault(imodel_id, IndexSet()).update(packed)

    # Storing

    def store(
        self, rows: Sequence[Row], bad: Sequence[BadRow], imodels: dict[str, ListProgress]
    ) -> None:
        """Store rows, bad ones, and how far their lists were read with them, all or nothing."""
        bad = list(bad)
        indexes: dict[str, IndexSet] = {}
        entries: tuple[Row | BadRow, ...] = (*rows, *bad)
        for entry in entries:
            indexes.setdefault(entry.imodel_id, IndexSet()).add(entry.changeset_index)
        stored = StoredPart(
            part=len(self._parts) + 1,
            imodels=imodels,
            indexes={imodel_id: found.packed() for imodel_id, found in indexes.items()},
        )
        left_out: list[tuple[Row, str]] = []
        if rows:
            with SyncedFile(self._part(stored)) as file:
                left_out = self._form.write_part(rows, file)
            stored.file = file.digest
            bad += [unfit_row(row, reason) for row, reason in left_out]
        if bad:
            with SyncedFile(self._bad_part(stored)) as file:
                for bad_row in bad:
                    file.write(encode_line(bad_row))
            stored.bad_file = file.digest
        stored.rows, stored.bad = len(rows) - len(left_out), len(bad)
        sync_directory(self._path)
        self._journal.append(stored)
        self._count(stored)

    def _count(self, stored: StoredPart) -> None:
        self._parts.append(stored)
        self.rows += stored.rows
        self.bad += stored.bad
        self.imodels.update(stored.imodels)
        for imodel_id, packed in stored.indexes.items():
            self.indexes.setdefault(imodel_id, IndexSet()).update(packed)
        is_done = any(progress.done for progress in stored.imodels.values())
        if stored.rows or stored.bad or is_done:
            self._started_ids.update(stored.imodels)

    def check_requested(self, imodel_ids: AbstractSet[str]) -> None:
        """`ValueError` if the parts hold iModels that are not among these."""
        if strays := sorted(self._started_ids - imodel_ids):
            raise ValueError(
                f"{self._path} also holds rows of other iModels ({', '.join(strays[:3])}), which "
                "are not asked for now: ask for the same as before, or start over with "
                "resume=False (--no-resume)"
            )

    def _part(self, stored: StoredPart) -> Path:
        return self._path / f"{stored.part:06}{self._form.suffix}"

    def _bad_part(self, stored: StoredPart) -> Path:
        return self._path / f"{stored.part:06}.bad"

    # Finishing

    def finish(self) -> Generator[None]:
        """Join the parts to the output, step by step, and put it in its place."""
        directory, header = self._path, self._header
        parts = [(self._part(stored), stored.file) for stored in self._parts]
        bad_parts = [(self._bad_part(stored), stored.bad_file) for stored in self._parts]
        with SyncedFile(directory / "whole") as whole:
            base = None if header.base is None else directory / "base"
            yield from self._form.join_parts(base, _read_unchanged(parts), whole)
        bad: SyncedFile | None = None
        if self.bad:
            with SyncedFile(directory / "whole.bad") as bad:
                base = None if header.base_bad is None else directory / "base.bad"
                yield from concatenate(base, _read_unchanged(bad_parts), bad)
        checkpoint = Checkpoint(
            spec=msgspec.structs.replace(self._spec, since=header.since),
            rows=self.rows,
            bad=self.bad,
            output=whole.digest,
            bad_output=None if bad is None else bad.digest,
            imodels=self.imodels,
            indexes={imodel_id: indexes.packed() for imodel_id, indexes in self.indexes.items()},
        )
        with SyncedFile(directory / "whole.checkpoint") as file:
            file.write(encode_line(checkpoint))
        assert self._placement is not None  # noqa: S101 - `open` comes first
        # If it is killed between these, the next run makes the same files of the parts again.
        if bad is not None:
            self._placement.put(directory / "whole.bad", self.bad_output)
        elif self.bad_output.is_file() and is_bad_rows(self.bad_output):
            self.bad_output.unlink()
        self._placement.put(directory / "whole", self.output)
        self._placement.put(directory / "whole.checkpoint", self._checkpoint)
        sync_directory(self.output.parent)
        self._journal.path.unlink()
        self._directory.clear()

    def close(self) -> None:
        """Let another process open it."""
        self._directory.close()


def _read_unchanged(parts: Iterable[tuple[Path, FileDigest | None]]) -> Iterator[bytes]:
    """The bytes of each part; `OSError` if they are not what was written."""
    for path, expected in parts:
        if expected is None:
            continue
        with naming_errors(path):
            data = path.read_bytes()
        if digest_of_bytes(data) != expected:
            raise OSError(errno.EIO, "what was stored has changed: run the export again", str(path))
        yield data
