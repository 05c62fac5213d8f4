"""One pass over what is new, written to a sink."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from itwin_async import Changeset, ExtendedData, ITwinError, ITwinSession, PayloadError
from itwin_async._core.listener import ProgressListener
from itwin_async._core.validation import (
    Id,
    check_callback,
    check_count,
    check_flag,
    check_seconds,
    check_type,
)
from itwin_async.sync._candidates import CandidateFinder
from itwin_async.sync._checkpoint import Checkpoint
from itwin_async.sync._list_state import ListState, check_look_back
from itwin_async.sync._progress import Progress
from itwin_async.sync._scan import ScanStep
from itwin_async.sync._scans import Scans
from itwin_async.sync._scope import Scope
from itwin_async.sync._sink import Row, Sink

# The most that one write holds, and memory for each worker.
_WRITE_ROWS: Final = 10_000
_WRITE_BYTES: Final = 4 << 20
_DECODE_BYTES: Final = 256 * 1024  # bytes decoded before other tasks get a turn of the loop


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a sync is: what it has written, and how many of its ``imodels`` are ``done``."""

    rows: int
    bad: int
    imodels: int
    done: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A finished sync.

    ``rows`` counts the entries that it wrote, ``bad`` those with a bad payload or with a value that
    the sink could not store as it is. ``imodels`` is how many may have had something new and were
    read, ``requests`` how many requests the session sent meanwhile.
    """

    rows: int
    bad: int
    imodels: int
    requests: int


OnProgress: TypeAlias = Callable[[SyncProgress], object]


async def sync_extended_data(
    itwin: ITwinSession,
    sink: Sink,
    *,
    itwin_id: Id | None = None,
    imodel_ids: Id | Iterable[Id] = (),
    data_type: Any = None,
    look_back: int = 20,
    settle: float = 300.0,
    changesets: bool = False,
    workers: int = 8,
    on_progress: OnProgress | None = None,
) -> Synced:
    """Write to a sink what is new in the extended data of an iTwin, or of some iModels, once.

    The sink has the checkpoint of the last sync, and gets the new one with each write, in the same
    step. So a sync that is killed, at any moment, is continued by the next one, and each entry is
    stored once. What is new, and what it costs to find out, is as for a `ChangeFeed` with
    ``every=None``; checkpoints are the same too.

    Args:
        itwin: a session; its limiter bounds the requests.
        sink: where to write; it is entered and left by this function. An example is
            `ParquetDataset`.
        itwin_id: all iModels of this iTwin; exactly one of it and ``imodel_ids`` must be given.
        imodel_ids: these iModels; one id, or several.
        data_type: what a payload is decoded to, as in `IModels.list_extended_data`.
        look_back: so many of the last changesets of an iModel are looked at again.
        settle: seconds after a push for which an iModel is scanned again.
        changesets: whether each row has its changeset beside the payload: when it was pushed, by
            which synchronization task, from which files. That costs one list of changesets for each
            iModel that has something new: a request for each thousand changesets that are read.
        workers: lists that are read at a time.
        on_progress: called with `SyncProgress` after each write, in the event loop. Its first error
            is logged, and the sync goes on without calling it again.

    Raises `ITwinError`, after what was read so far was written; an iModel that fails keeps no other
    one from being written. Raises `ValueError` for a sink with the data of another iTwin or of
    other iModels, and what the sink raises.

    Example::

        synced = await sync_extended_data(itwin, sink, itwin_id=itwin_id)
        print(synced.rows, "new rows,", synced.bad, "bad ones, for", synced.requests, "requests")
    """
    check_type("itwin", itwin, ITwinSession)
    given: object = sink
    if isinstance(given, type) or not hasattr(given, "checkpoint"):
        named = given.__name__ if isinstance(given, type) else type(given).__name__
        raise TypeError(f'sink must be a Sink such as ParquetDataset("changes"), not {named}')
    scope = Scope.of(itwin_id, imodel_ids)
    check_look_back(look_back)
    check_seconds("settle", settle, zero=True)
    check_flag("changesets", changesets)
    check_count("workers", workers)
    check_callback("on_progress", on_progress)
    itwin.imodels.list_extended_data("-", data_type)  # checks the type
    sent = itwin.stats.requests
    if (use_data_type := getattr(sink, "use_data_type", None)) is not None:
        use_data_type(data_type)  # of a sink with columns, which need it before the first row
    async with sink:
        checkpoint = await sink.checkpoint()
        if checkpoint is not None and Checkpoint.parse(checkpoint).scope != scope.digest:
            raise ValueError(
                "the target belongs to another iTwin, or to other iModels: sync the same ones, or "
                "choose another target"
            )
        progress = Progress(itwin, scope.digest, checkpoint)
        finder = CandidateFinder(itwin, scope, progress, settle=settle, workers=workers)
        candidates = await finder.find()
        listener = ProgressListener(on_progress, "sync")
        written = Progress(itwin, scope.digest, checkpoint)
        writer = _Writer(sink, written, imodels=len(candidates), listener=listener)
        scans = Scans(
            itwin,
            progress,
            candidates,
            data_type=data_type,
            look_back=look_back,
            workers=workers,
            changesets=changesets,
        )
        try:
            async with scans:
                async for step in scans:
                    await writer.take(step)
        except ITwinError:
            if not writer.failed:  # rows that the sink refused are covered by no checkpoint
                await writer.finish(progress)
            raise
        await writer.finish(progress)
    return Synced(writer.rows, writer.bad, writer.done, itwin.stats.requests - sent)


@dataclass(slots=True)
class _Batch:
    """Entries of one iModel that wait to be written, and the state of its list behind them."""

    entries: list[ExtendedData[Any]] = field(default_factory=list[ExtendedData[Any]])
    changesets: list[Changeset | None] = field(default_factory=list[Changeset | None])
    size: int = 0
    state: ListState = field(default_factory=ListState)


class _Writer:
    """Collects entries by iModel, and writes them with the checkpoint of what is written."""

    def __init__(
        self,
        sink: Sink,
        written: Progress,
        *,
        imodels: int,
        listener: ProgressListener[SyncProgress],
    ) -> None:
        self.rows = self.bad = self.done = 0
        self.failed = False  # whether the sink refused a write
        self._sink = sink
        self._written = written
        self._committed = written.checkpoint
        self._imodels = imodels
        self._listener = listener
        self._batches: dict[str, _Batch] = {}

    async def take(self, step: ScanStep) -> None:
        """Take a step; write the batch of its iModel if it is full, or if this is its last one."""
        imodel_id = step.imodel_id
        batch = self._batches.get(imodel_id)
        if step.entry is None:
            self.done += 1
            if batch is not None:
                batch.state = step.state or batch.state
                await self._write(imodel_id, batch)
            return
        # A full batch waits for the next entry, so that the last one has the state of the end.
        if batch is not None and (len(batch.entries) >= _WRITE_ROWS or batch.size >= _WRITE_BYTES):
            await self._write(imodel_id, batch)
            batch = None
        if batch is None:
            batch = self._batches[imodel_id] = _Batch()
        batch.entries.append(step.entry)
        batch.changesets.append(step.changeset)
        batch.size += _size(step.entry)
        batch.state = step.state or batch.state

    async def finish(self, progress: Progress) -> None:
        """Write what was taken, and how far all iModels are."""
        for imodel_id, batch in list(self._batches.items()):
            await self._write(imodel_id, batch)
        for imodel_id in progress.imodel_ids:
            state = progress.state(imodel_id)
            if state is not None and state != self._written.state(imodel_id):
                self._written.put(imodel_id, state)
        if self._written.checkpoint != self._committed:
            await self._commit([])
        self._report()

    async def _write(self, imodel_id: str, batch: _Batch) -> None:
        del self._batches[imodel_id]
        rows: list[Row] = []
        size = 0
        for entry, changeset in zip(batch.entries, batch.changesets, strict=True):
            rows.append(_row(entry, changeset))
            size += _size(entry)
            if size >= _DECODE_BYTES:
                await asyncio.sleep(0)
                size = 0
        self._written.put(imodel_id, batch.state)
        await self._commit(rows)
        self._report()

    async def _commit(self, rows: list[Row]) -> None:
        checkpoint = self._written.checkpoint
        try:
            put_aside = await self._sink.write(rows, checkpoint) or 0
        except BaseException:
            self.failed = True
            raise
        self._committed = checkpoint
        bad = sum(row.error is not None for row in rows) + put_aside
        self.rows += len(rows) - bad
        self.bad += bad

    def _report(self) -> None:
        self._listener.report(SyncProgress(self.rows, self.bad, self._imodels, self.done))


def _size(entry: ExtendedData[Any]) -> int:
    """The bytes of its payload, or of what came in its place."""
    try:
        return len(entry.payload)
    except PayloadError as problem:
        received = problem.received
        return len(received) if isinstance(received, str) else 0


def _row(entry: ExtendedData[Any], changeset: Changeset | None) -> Row:
    """The row of an entry, also where its payload is bad."""
    payload: bytes | None = None
    data = received = error = None
    try:
        payload = entry.payload
        data = entry.data
    except PayloadError as problem:
        error, received = problem.message, problem.received
    return Row(
        imodel_id=entry.imodel_id,
        changeset_index=entry.changeset_index,
        changeset_id=entry.changeset_id,
        data=data,
        payload=payload,
        error=error,
        received=received,
        changeset=changeset,
    )
