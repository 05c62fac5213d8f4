"""The job: many lists at once, stored in parts off the loop, and one file at the end."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from itwin_async import ITwinError, ITwinSession, Merged, merged
from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.validation import check_callback
from itwin_async.export._files import check_local, resolved
from itwin_async.export._journal import Indexes, Job, Progress
from itwin_async.export._lists import ListReader, Piece
from itwin_async.export._rows import BadRow, FileFormat, Format, JsonLines, Row
from itwin_async.export._store import Store
from itwin_async.export._types import type_name

# What is lost when the process is killed, and what is held until then.
_SECONDS: Final = 5.0
_BYTES: Final = 16 << 20
_ROWS: Final = 65_536
_ID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SUFFIXES: Final[dict[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


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


OnProgress: TypeAlias = Callable[[ExportProgress], object]
OnListError: TypeAlias = Callable[[str, ITwinError], object]


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: rows and bad ones in the output, and the file with the bad ones if any."""

    output: Path
    rows: int
    bad: int
    imodels: int
    bad_rows: Path | None


async def export_extended_data(
    itwin: ITwinSession,
    imodel_ids: str | Iterable[str] | AsyncIterable[str],
    output: str | os.PathLike[str],
    data_type: Any = None,
    *,
    resume: bool = True,
    on_progress: OnProgress | None = None,
    on_error: OnListError | None = None,
    format: FileFormat | None = None,
    since: int | None = None,
    workers: int = 8,
    page_size: int | None = 1_000,
) -> Exported:
    """Write the extended data of iModels to one file, which appears when all of it is there.

    A row has ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``: the payload's JSON
    as it came, or the fields of ``data_type``. Rows of an iModel keep their order. Killed at any
    moment and called again in the same way, it goes on where it was: rows lie in
    ``<output>.parts`` until then, and at most five seconds of work are done again. An entry with a
    bad payload, or a value that its column cannot hold, goes to ``<output>.bad.jsonl`` with its
    changeset, the reason, and what came.

    Each changeset has one row, also where extended data is set for earlier changesets while the
    export runs or between a stop and its resume: what is set in a list that is still being read is
    found, and its rows come last. Stored parts that have changed are read again.

    The output is replaced by a rename. Where none can be (it is a mount of its own, or
    ``<output>.parts`` a link to another file system), it is written in place at the end, and until
    then another process may see a part of it; interrupted, the next call does it again. A directory
    or file of somebody else's with the name of one of ours is never touched.

    Args:
        itwin: a session; its limiter bounds the requests.
        imodel_ids: one, several, or an async iterable that finds them, drawn as workers get there.
        output: a local file, replaced if it is there; its directory must be. ``~`` is no home.
        data_type: what a payload is decoded to, as in `IModels.list_extended_data`. In Parquet and
            Arrow a struct becomes a nested column, a decimal has 18 digits behind the point of its
            38, a field of several scalar types is text, and one of no fixed type JSON text. A
            ``datetime`` is in UTC, and one without an offset a bad row, unless its field is
            ``Annotated[datetime, msgspec.Meta(tz=False)]``.
        resume: False forgets what an unfinished export has stored.
        on_progress: called with `ExportProgress` as rows arrive, in the event loop. Its first error
            is logged, and the export goes on without calling it again.
        on_error: called with the id and the error of an iModel that failed, and decides: if it
            returns, the rest of that iModel is left out; what it raises ends the export. Without
            it the export ends with the iModel's error, and may be resumed.
        format: by the output's suffix where None: ``.jsonl``, ``.ndjson``, ``.parquet``,
            ``.arrow``, ``.feather``. Parquet and Arrow need the extra ``arrow``.
        since: only entries of changesets with a higher index. An output that an earlier export
            finished is added to: each list is read on from where it ended, and nothing that is
            there is stored again. Where an iModel got data for earlier changesets meanwhile, its
            list has moved, which is seen, and is read as a whole.
        workers: lists at once.
        page_size: entries asked for at once, at most 1,000.

    Raises `ITwinError`, `ValueError` or `TypeError` for what cannot be, `RuntimeError` when the
    same export is running elsewhere, `OSError`, and `ImportError` without the extra.
    """
    given = check_local(output)
    kind = _format(given, format)
    if data_type is msgspec.Raw:
        data_type = None  # which keeps it as it came, in one line
    check_callback("on_progress", on_progress)
    check_callback("on_error", on_error)
    form = _writer(kind, data_type)
    if since is not None and (isinstance(since, bool) or not isinstance(since, int)):
        raise TypeError(f"since must be an index, not {type(since).__name__}")
    if isinstance(imodel_ids, str):
        imodel_ids = [imodel_ids]
    if not isinstance(imodel_ids, AsyncIterable):
        imodel_ids = list(imodel_ids)
    # Checked here, where nothing was begun yet.
    merged((), workers=workers)
    for each in ("-", *(() if isinstance(imodel_ids, AsyncIterable) else imodel_ids)):
        itwin.imodels.list_extended_data(each, data_type, page_size=page_size)
    job = Job(
        format=kind,
        data_type=None if data_type is None else f"{type_name(data_type)} {form.layout}".strip(),
        since=since,
        platform=_platform(itwin.base_url),
    )
    path = await in_thread(resolved, given)
    store = Store(path, job, form)
    run = _Run(
        itwin,
        form,
        store,
        data_type=msgspec.Raw if data_type is None else data_type,
        above=-1 if since is None else since,
        page_size=page_size,
        listener=ProgressListener(on_progress, "export"),
        on_error=on_error,
    )
    try:
        await in_thread(lambda: store.open(resume=resume))
        if not isinstance(imodel_ids, AsyncIterable):
            store.check_found(set(map(_same_id, imodel_ids)))
        await run.read(imodel_ids, workers)
        await checkpoint_if_cancelled()
        steps = store.finish()
        try:
            # Each step is short: a cancelled export waits for one of them, not for the whole file.
            while await in_thread(next, steps, False) is None:
                await checkpoint_if_cancelled()
        finally:
            await in_thread(steps.close)
    finally:
        store.close()
    return Exported(
        path, store.rows, store.bad, len(run.known), store.bad_output if store.bad else None
    )


class _Run:
    """One call: the lists on one side, the store on the other."""

    def __init__(
        self,
        itwin: ITwinSession,
        form: Format,
        store: Store,
        *,
        data_type: Any,
        above: int,
        page_size: int | None,
        listener: ProgressListener[ExportProgress],
        on_error: OnListError | None,
    ) -> None:
        self._itwin = itwin
        self._form = form
        self._store = store
        self._data_type = data_type
        self._above = above
        self._page_size = page_size
        self._listener = listener
        self._on_error = on_error
        self.known: set[str] = set()
        self._resumed = 0
        self._done = 0
        self._rows: list[Row] = []
        self._bad: list[BadRow] = []
        self._places: dict[str, Progress] = {}
        self._size = 0
        self._lists_open: set[ListReader] = set()

    async def read(self, imodel_ids: Iterable[str] | AsyncIterable[str], workers: int) -> None:
        """Read the lists that are not done, and store what they give."""
        self._resumed = self._store.rows
        failed = None if self._on_error is None else self._failed
        # A piece is large enough; more of them waiting would only be memory.
        async with merged(
            self._lists(imodel_ids), workers=workers, buffer=1, on_error=failed
        ) as pieces:
            try:
                while await self._read_for(_SECONDS, pieces):
                    await self._flush()
                    self._tell()  # of what it took from lists that are slow
            except (ITwinError, asyncio.CancelledError):
                await self._flush()  # what has come is kept; writing it takes a moment
                raise
        await self._flush()
        self._store.check_found(self.known)
        self._tell()

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
            piece.of.taken += 1
            self._take(piece)
            self._tell()
            full = self._size >= _BYTES or len(self._rows) + len(self._bad) >= _ROWS
        return True

    async def _lists(
        self, imodel_ids: Iterable[str] | AsyncIterable[str]
    ) -> AsyncIterator[ListReader]:
        async with aclosing(_each(imodel_ids)) as ids:
            async for given in ids:
                imodel_id = _same_id(given)
                if imodel_id in self.known:
                    continue
                place = self._store.imodels.get(imodel_id) or Progress()
                entries = self._itwin.imodels.list_extended_data(
                    imodel_id, self._data_type, page_size=self._page_size
                )
                self.known.add(imodel_id)
                if place.done:
                    self._done += 1
                    continue
                stored = self._store.indexes.get(imodel_id) or Indexes()
                yield ListReader(
                    imodel_id,
                    entries,
                    place,
                    stored.copy(),
                    above=self._above,
                    form=self._form,
                    lists_open=self._lists_open,
                )

    def _failed(self, entries: ListReader, error: Exception) -> None:
        if not isinstance(error, ITwinError) or self._on_error is None:
            raise error
        self._on_error(entries.imodel_id, error)

    def _take(self, piece: Piece) -> None:
        imodel_id = piece.of.imodel_id
        self._rows += piece.rows
        self._bad += piece.bad
        self._size += sum(row.size for row in piece.rows)
        self._size += sum(len(bad.payload or b"") for bad in piece.bad)
        self._places[imodel_id] = piece.place
        self._done += piece.place.done

    async def _flush(self) -> None:
        for entries in self._lists_open:
            if entries.has_rows and entries.given == entries.taken:
                self._take(entries.piece())
        if not self._places:
            return
        rows, bad, places = self._rows, self._bad, self._places
        self._rows, self._bad, self._places, self._size = [], [], {}, 0
        await in_thread(lambda: self._store.store(rows, bad, places))

    def _tell(self) -> None:
        rows = self._store.rows + len(self._rows)
        bad = self._store.bad + len(self._bad)
        self._listener.report(ExportProgress(rows, bad, len(self.known), self._done, self._resumed))


async def _each(ids: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(ids, AsyncIterable):
        async for each in ids:
            yield each
    else:
        for each in ids:
            yield each


def _format(output: Path, given: str | None) -> FileFormat:
    if given is None:
        found = _SUFFIXES.get(output.suffix.lower())
        if found is None:
            raise ValueError(
                f"output must end in {', '.join(_SUFFIXES)}, or format be given, not {output.name}"
            )
        return found
    for known in get_args(FileFormat):
        if given == known:
            return known  # type: ignore[no-any-return]  # one of the literal's
    raise ValueError(f"format must be one of {', '.join(get_args(FileFormat))}, not {given!r}")


def _writer(kind: FileFormat, data_type: Any) -> Format:
    if kind == "jsonl":
        return JsonLines(data_type)
    try:
        from itwin_async.export._arrow import ArrowFile  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ImportError(
            f"{kind} needs pyarrow: pip install 'itwin-async[arrow]', or export to .jsonl"
        ) from None
    return ArrowFile(data_type, parquet=kind == "parquet")


def _platform(base_url: str) -> str:
    """Where ids mean the same. An emulator is not always at the same port."""
    host = urlsplit(base_url).hostname or ""
    return "loopback" if host == "localhost" or _is_loopback(host) else base_url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _same_id(imodel_id: str) -> str:
    """An id as the platform spells it, so that an iModel in two spellings is one."""
    return imodel_id.lower() if _ID.fullmatch(imodel_id) else imodel_id
