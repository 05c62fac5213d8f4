"""Reads the list of one iModel in pieces, though entries are added to it meanwhile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from itwin_async import Changeset, ExtendedData, ITwinError, Pager, PayloadError
from itwin_async._rows.changesets import ChangesetReader
from itwin_async._rows.entries import BadRow, Row, bad_row
from itwin_async.export._formats import Format
from itwin_async.export._journal import IndexSet, ListProgress

# The size of a piece of a list on its way to the store.
PIECE_ROWS: Final = 256
PIECE_BYTES: Final = 1 << 20
_MAX_READS: Final = 3  # of one list, if it moves each time


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a list, in order, and how far the list was read with them."""

    reader: "ListReader"
    rows: list[Row]
    bad: list[BadRow]
    progress: ListProgress


class ListReader:
    """The rest of an iModel's list, in pieces.

    A position in the list is the number of entries before it (``$skip``), so data that is set for
    an earlier changeset moves the entries after it: some come again, or others than were expected.
    An entry that is stored already is known by its changeset, and left out. A list that has moved
    is read once more, for the entries that were set before the position and are not stored yet.
    """

    def __init__(
        self,
        imodel_id: str,
        entries: Pager[ExtendedData[Any]],
        progress: ListProgress,
        stored: IndexSet,
        *,
        min_index: int,
        since: Callable[[], Awaitable[int | None]] | None = None,
        form: Format,
        open_readers: "set[ListReader]",
        changesets: ChangesetReader | None = None,
    ) -> None:
        self.imodel_id = imodel_id
        # The cursor lies behind the rows here once all pieces that were yielded were taken.
        self.yielded = self.taken = 0
        self._entries = entries
        self._progress = progress
        self._stored = stored
        self._min_index = min_index
        self._since = since
        self._form = form
        self._open_readers = open_readers
        self._changesets = changesets
        self._rows: list[Row] = []
        self._bad: list[BadRow] = []
        self._size = 0

    @property
    def has_rows(self) -> bool:
        """Whether there are rows that are in no piece yet."""
        return bool(self._rows or self._bad)

    def piece(self) -> Piece:
        """The rows since the last piece."""
        progress = self._progress
        progress = ListProgress(progress.cursor, progress.last, progress.done)
        piece = Piece(self, self._rows, self._bad, progress)
        self._rows, self._bad, self._size = [], [], 0
        return piece

    async def __aiter__(self) -> AsyncIterator[Piece]:
        progress, entries, passed = self._progress, self._entries, IndexSet()
        expected: int | None = None  # the first index, unless the list has moved
        if progress.cursor is not None:
            entries, passed = entries.resume(progress.cursor), self._stored.copy()
            expected = progress.last
        end_cursor = progress.cursor
        self._open_readers.add(self)
        try:
            if self._since is not None:
                first = await self._since()
                if first is None:  # nothing was pushed since: it need not be read
                    progress.done = True
                    self.yielded += 1
                    yield self.piece()
                    return
                self._min_index = first
            for reads in range(_MAX_READS):
                moved = False
                async with aiter(entries) as items:
                    cursor = items.cursor
                    async for entry in items:
                        index = entry.changeset_index
                        changeset = None
                        if self._changesets is not None and self._is_wanted(index):
                            changeset = await self._changesets.get(index)
                        moved = moved or (
                            index in passed if expected is None else index != expected
                        )
                        expected = None
                        passed.add(index)
                        self._add(entry, changeset)
                        end_cursor, progress.last, cursor = cursor, index, items.cursor
                        # Stopped while it is read once more, it is read from its beginning then.
                        progress.cursor = None if reads else end_cursor
                        if len(self._rows) + len(self._bad) >= PIECE_ROWS or (
                            self._size >= PIECE_BYTES
                        ):
                            self.yielded += 1
                            yield self.piece()
                if not moved and expected is None:
                    break
                entries, passed, expected = self._entries, IndexSet(), None
                progress.cursor = None
            progress.cursor, progress.done = end_cursor, True
            self.yielded += 1
            yield self.piece()
        except ITwinError as error:
            error.add_note(f"This was the list of iModel {self.imodel_id}.")
            self.yielded += 1
            yield self.piece()  # the rows before the error are good
            raise
        finally:
            self._open_readers.discard(self)
            if self._changesets is not None:
                await self._changesets.aclose()

    def _is_wanted(self, index: int) -> bool:
        return index >= self._min_index and index not in self._stored

    def _add(self, entry: ExtendedData[Any], changeset: Changeset | None) -> None:
        index = entry.changeset_index
        if not self._is_wanted(index):
            return
        self._stored.add(index)
        try:
            data, size = self._form.encode(entry, changeset)
        except PayloadError as error:
            self._bad.append(bad_row(entry, error.message))
            size = len(self._bad[-1].payload or b"")
        else:
            self._rows.append(
                Row(entry.imodel_id, index, entry.changeset_id, data, size, changeset)
            )
        self._size += size
