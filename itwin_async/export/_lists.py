"""Reading the list of one iModel, in pieces, though entries are added to it meanwhile."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from itwin_async import ExtendedData, ITwinError, Pager, PayloadError
from itwin_async.export._journal import Indexes, Progress
from itwin_async.export._rows import BadRow, Format, Row, bad_row

# A piece of a list on its way to the store.
PIECE_ROWS: Final = 256
PIECE_BYTES: Final = 1 << 20
_TIMES: Final = 3  # that a list is read, if it moves each time


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a list, in order, and how far it is with them."""

    of: "ListReader"
    rows: list[Row]
    bad: list[BadRow]
    place: Progress


class ListReader:
    """The rest of an iModel's list, in pieces.

    A place in it is the number of entries before it (``$skip``), so data that is set for an earlier
    changeset moves what comes after it: entries come again, or others than were expected. What is
    stored already is known by its changeset, and left out. What was set lies before the place: so
    the list is read once more where it has moved, for what is not stored yet.
    """

    def __init__(
        self,
        imodel_id: str,
        entries: Pager[ExtendedData[Any]],
        place: Progress,
        stored: Indexes,
        *,
        above: int,
        form: Format,
        lists_open: "set[ListReader]",
    ) -> None:
        self.imodel_id = imodel_id
        # Only when all pieces that were given were taken does the cursor lie behind the rows here.
        self.given = self.taken = 0
        self._entries = entries
        self._place = place
        self._stored = stored
        self._above = above
        self._form = form
        self._open = lists_open
        self._rows: list[Row] = []
        self._bad: list[BadRow] = []
        self._size = 0

    @property
    def has_rows(self) -> bool:
        """Whether there is something that no piece has yet."""
        return bool(self._rows or self._bad)

    def piece(self) -> Piece:
        """What has come since the last piece."""
        place = Progress(self._place.cursor, self._place.last, self._place.done)
        piece = Piece(self, self._rows, self._bad, place)
        self._rows, self._bad, self._size = [], [], 0
        return piece

    async def __aiter__(self) -> AsyncIterator[Piece]:
        place, entries, passed = self._place, self._entries, Indexes()
        last: int | None = None  # which the list is to begin with, unless it has moved
        if place.cursor is not None:
            entries, passed, last = entries.resume(place.cursor), self._stored.copy(), place.last
        end = place.cursor
        self._open.add(self)
        try:
            for again in range(_TIMES):
                moved = False
                async with aiter(entries) as items:
                    cursor = items.cursor
                    async for entry in items:
                        index = entry.changeset_index
                        moved = moved or (index in passed if last is None else index != last)
                        last = None
                        passed.add(index)
                        self._add(entry)
                        end, place.last, cursor = cursor, index, items.cursor
                        # Stopped while it is read once more, it is read from its beginning then.
                        place.cursor = None if again else end
                        if len(self._rows) + len(self._bad) >= PIECE_ROWS or (
                            self._size >= PIECE_BYTES
                        ):
                            self.given += 1
                            yield self.piece()
                if not moved and last is None:
                    break
                entries, passed, last, place.cursor = self._entries, Indexes(), None, None
            place.cursor, place.done = end, True
            self.given += 1
            yield self.piece()
        except ITwinError as error:
            error.add_note(f"This was the list of iModel {self.imodel_id}.")
            self.given += 1
            yield self.piece()  # what came before the error is good
            raise
        finally:
            self._open.discard(self)

    def _add(self, entry: ExtendedData[Any]) -> None:
        index = entry.changeset_index
        if index <= self._above or index in self._stored:
            return
        self._stored.add(index)
        try:
            data, size = self._form.data(entry)
        except PayloadError as error:
            self._bad.append(bad_row(entry, error.message))
            size = len(self._bad[-1].payload or b"")
        else:
            self._rows.append(Row(entry.imodel_id, index, entry.changeset_id, data, size))
        self._size += size
