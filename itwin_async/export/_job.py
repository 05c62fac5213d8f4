"""One export: many lists are read at a time, and their rows stored in parts."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias

from anyio.lowlevel import checkpoint_if_cancelled

from itwin_async import ITwinError, ITwinSession, Merged, merged
from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.validation import Id, normalize_id
from itwin_async._rows.changesets import ChangesetReader, first_index_since
from itwin_async._rows.entries import BadRow, Row
from itwin_async.export._formats import Format
from itwin_async.export._journal import IndexSet, ListProgress
from itwin_async.export._lists import ListReader, Piece
from itwin_async.export._store import Store

# When rows are stored: what is held in memory until then, and lost if the process is killed.
STORE_SECONDS: Final = 5.0
STORE_BYTES: Final = 16 << 20
STORE_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is, in items.

    ``rows`` and ``bad`` count what the output will hold so far, ``resumed`` of them were there when
    it began; ``done`` of the ``imodels`` known so far are finished.
    """

    rows: int
    bad: int
    imodels: int
    done: int
    resumed: int


OnListError: TypeAlias = Callable[[str, ITwinError], object]


class ExportJob:
    """Reads the lists of iModels, and stores their rows."""

    def __init__(
        self,
        itwin: ITwinSession,
        form: Format,
        store: Store,
        *,
        data_type: Any,
        min_index: int,
        since: datetime | None,
        changesets: bool,
        page_size: int | None,
        listener: ProgressListener[ExportProgress],
        on_error: OnListError | None,
    ) -> None:
        self._itwin = itwin
        self._form = form
        self._store = store
        self._data_type = data_type
        self._min_index = min_index
        self._since = since
        self._changesets = changesets
        self._page_size = page_size
        self._listener = listener
        self._on_error = on_error
        self.imodel_ids: set[str] = set()  # known so far
        self._resumed = 0
        self._done = 0
        # What was taken from the lists since the last part was stored.
        self._rows: list[Row] = []
        self._bad: list[BadRow] = []
        self._progress: dict[str, ListProgress] = {}
        self._size = 0
        self._open_readers: set[ListReader] = set()

    async def read(self, imodel_ids: Iterable[Id] | AsyncIterable[Id], workers: int) -> None:
        """Read the lists that are not done, and store their rows."""
        self._resumed = self._store.rows
        handler = None if self._on_error is None else self._handle_error
        # A piece is large enough: more of them in the buffer would only take memory.
        async with merged(
            self._readers(imodel_ids), workers=workers, buffer=1, on_error=handler
        ) as pieces:
            try:
                while await self._read_for(STORE_SECONDS, pieces):
                    await self._flush()
                    self._report()  # with the rows of lists that are slow
            except (ITwinError, asyncio.CancelledError):
                await self._flush()  # keeps the rows that have come; it takes a moment
                raise
        await self._flush()
        self._store.check_requested(self.imodel_ids)
        self._report()

    async def finish(self) -> None:
        """Write the output."""
        await checkpoint_if_cancelled()
        steps = self._store.finish()
        try:
            # Each step is short: a cancelled export waits for one of them, not for the whole file.
            while await in_thread(next, steps, False) is None:
                await checkpoint_if_cancelled()
        finally:
            await in_thread(steps.close)

    async def _read_for(self, seconds: float, pieces: Merged[Piece]) -> bool:
        """Take pieces for so long, or until there is enough to store; False behind the last one."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        full = False
        while not full and clock() < end:
            limit = asyncio.timeout_at(end)
            try:
                async with limit:
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return False
            except TimeoutError:
                if limit.expired():
                    break
                raise  # the caller's own
            piece.reader.taken += 1
            self._take(piece)
            self._report()
            full = self._size >= STORE_BYTES or len(self._rows) + len(self._bad) >= STORE_ROWS
        return True

    async def _readers(
        self, imodel_ids: Iterable[Id] | AsyncIterable[Id]
    ) -> AsyncIterator[ListReader]:
        async with aclosing(_ids(imodel_ids)) as ids:
            async for spelled in ids:
                imodel_id = normalize_id(spelled)
                if imodel_id in self.imodel_ids:
                    continue
                progress = self._store.imodels.get(imodel_id) or ListProgress()
                entries = self._itwin.imodels.list_extended_data(
                    imodel_id, self._data_type, page_size=self._page_size
                )
                self.imodel_ids.add(imodel_id)
                if progress.done:
                    self._done += 1
                    continue
                stored = self._store.indexes.get(imodel_id) or IndexSet()
                changesets = None
                if self._changesets:
                    changesets = ChangesetReader(self._itwin.imodels, imodel_id)
                yield ListReader(
                    imodel_id,
                    entries,
                    progress,
                    stored.copy(),
                    min_index=self._min_index,
                    since=self._first_index(imodel_id),
                    form=self._form,
                    open_readers=self._open_readers,
                    changesets=changesets,
                )

    def _first_index(self, imodel_id: str) -> Callable[[], Awaitable[int | None]] | None:
        if self._since is None:
            return None
        return partial(first_index_since, self._itwin.imodels, imodel_id, self._since)

    def _handle_error(self, reader: ListReader, error: Exception) -> None:
        if not isinstance(error, ITwinError) or self._on_error is None:
            raise error
        self._on_error(reader.imodel_id, error)

    def _take(self, piece: Piece) -> None:
        self._rows += piece.rows
        self._bad += piece.bad
        self._size += sum(row.size for row in piece.rows)
        self._size += sum(len(bad.payload or b"") for bad in piece.bad)
        self._progress[piece.reader.imodel_id] = piece.progress
        self._done += piece.progress.done

    async def _flush(self) -> None:
        """Store what was taken, with the rows that open readers have in no piece yet."""
        for reader in self._open_readers:
            if reader.has_rows and reader.yielded == reader.taken:
                self._take(reader.piece())
        if not self._progress:
            return
        rows, bad, progress = self._rows, self._bad, self._progress
        self._rows, self._bad, self._progress, self._size = [], [], {}, 0
        await in_thread(self._store.store, rows, bad, progress)

    def _report(self) -> None:
        rows = self._store.rows + len(self._rows)
        bad = self._store.bad + len(self._bad)
        self._listener.report(
            ExportProgress(rows, bad, len(self.imodel_ids), self._done, self._resumed)
        )


async def _ids(ids: Iterable[Id] | AsyncIterable[Id]) -> AsyncGenerator[Id, None]:
    if isinstance(ids, AsyncIterable):
        async for imodel_id in ids:
            yield imodel_id
    else:
        for imodel_id in ids:
            yield imodel_id
