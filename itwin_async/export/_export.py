"""Export of extended data to one file: the arguments of the call, and its result."""

import os
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from itwin_async import ITwinSession, merged
from itwin_async._aio.threads import in_thread
from itwin_async._core.listener import ProgressListener
from itwin_async._core.validation import Id, check_callback, check_flag, normalize_id
from itwin_async._rows.types import type_name
from itwin_async.export._formats import FileFormat, Format, JsonLines
from itwin_async.export._job import ExportJob, ExportProgress, OnListError
from itwin_async.export._journal import ExportSpec
from itwin_async.export._output import check_local, resolve_output
from itwin_async.export._store import Store

_SUFFIXES: Final[dict[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}

OnProgress: TypeAlias = Callable[[ExportProgress], object]


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: the rows and bad rows of the output, and the file of the bad ones."""

    output: Path
    rows: int
    bad: int
    imodels: int
    bad_rows: Path | None


async def export_extended_data(
    itwin: ITwinSession,
    imodel_ids: Id | Iterable[Id] | AsyncIterable[Id],
    output: str | os.PathLike[str],
    data_type: Any = None,
    *,
    resume: bool = True,
    on_progress: OnProgress | None = None,
    on_error: OnListError | None = None,
    format: FileFormat | None = None,
    since: int | date | None = None,
    changesets: bool = False,
    workers: int = 8,
    page_size: int | None = 1_000,
) -> Exported:
    """Write the extended data of iModels to one file, which appears when all of it is there.

    A row has ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``: the payload's JSON
    as received, or the fields of ``data_type``. Rows of an iModel keep their order. If the process
    is killed, at any moment, the same call resumes: rows are kept in ``<output>.parts`` until the
    end, and at most five seconds of work are repeated. An entry with a bad payload, or with a value
    that its column cannot hold, goes to ``<output>.bad.jsonl`` with its changeset, the reason, and
    the payload.

    Each changeset has one row, even if extended data is set for earlier changesets while the export
    runs, or between a stop and its resume: an entry that is added to a list that is still being
    read is found, and its row comes last. Stored parts that have changed are read again.

    The output is replaced by a rename. If that is impossible (it is a mount of its own, or
    ``<output>.parts`` a link to another file system), it is written in place at the end. Another
    process may then see a part of it, and if it is interrupted, the next call does it again. A file
    or directory with one of these names that no export made is never touched: it is a `ValueError`.

    Args:
        itwin: a session; its limiter bounds the requests.
        imodel_ids: one id, several, or an async iterable of ids, read as workers get to them.
        output: a local file, replaced if it exists; its directory must exist. ``~`` is not
            expanded.
        data_type: what a payload is decoded to, as in `IModels.list_extended_data`. In Parquet and
            Arrow a struct becomes a nested column, a decimal has 38 digits with 18 behind the
            point, a field of several scalar types is text, and one of no fixed type is JSON text.
            A ``datetime`` is in UTC, and one without an offset makes a bad row, unless its field is
            ``Annotated[datetime, msgspec.Meta(tz=False)]``.
        resume: False drops what an unfinished export has stored.
        on_progress: called with `ExportProgress` as rows arrive, in the event loop. Its first error
            is logged, and the export goes on without calling it again.
        on_error: called with the id and the error of an iModel that failed, and decides: if it
            returns, the rest of that iModel is left out; what it raises ends the export. Without
            it the export ends with the iModel's error, and may be resumed.
        format: by the output's suffix where None: ``.jsonl``, ``.ndjson``, ``.parquet``,
            ``.arrow``, ``.feather``. Parquet and Arrow need the extra ``arrow``.
        since: only entries of changesets with a higher index; or, for a ``datetime`` with an offset
            or a ``date`` in UTC, of those that were pushed since then, which costs a list of the
            newest changesets for each iModel. They are added to an output that an
            earlier export finished: each list is read from where it ended, and no entry is stored
            twice. If data was set for earlier changesets of an iModel meanwhile, its list has
            moved; this is noticed, and the whole list is read.
        changesets: whether each row has the ``push_date_time``, ``task_id`` and ``changed_files``
            of its changeset too. That costs one list of changesets for each iModel: a request for
            each thousand changesets that are read.
        workers: lists that are read at a time.
        page_size: entries in a page, at most 1,000.

    Example::

        ids = [imodel.id async for imodel in itwin.imodels.list_imodels(itwin_id)]
        exported = await export_extended_data(itwin, ids, "changes.parquet")
        print(exported.rows, "rows,", exported.bad, "bad ones in", exported.bad_rows)

    Raises `ITwinError`, `ValueError` or `TypeError` for invalid arguments, `RuntimeError` while
    another process exports to the same output, `OSError`, and `ImportError` without the extra.
    """
    path = check_local(output)
    file_format = _format_of(path, format)
    if data_type is msgspec.Raw:
        data_type = None  # which keeps it as it came, in one line
    check_callback("on_progress", on_progress)
    check_callback("on_error", on_error)
    check_flag("changesets", changesets)
    form = _writer(file_format, data_type, changesets)
    if isinstance(since, bool):
        raise TypeError("since must be an index or a date, not bool")
    index = since if isinstance(since, int) else None
    moment = None if isinstance(since, int | None) else _moment(since)
    if isinstance(imodel_ids, str | UUID):
        imodel_ids = [imodel_ids]
    if not isinstance(imodel_ids, AsyncIterable):
        imodel_ids = list(imodel_ids)
    # These check their arguments, before anything is begun.
    merged((), workers=workers)
    for imodel_id in ("-", *(() if isinstance(imodel_ids, AsyncIterable) else imodel_ids)):
        itwin.imodels.list_extended_data(imodel_id, data_type, page_size=page_size)
    type_id = None if data_type is None else f"{type_name(data_type)} {form.schema_digest}".strip()
    spec = ExportSpec(
        format=file_format,
        data_type=type_id,
        since=index if moment is None else moment.isoformat(timespec="microseconds"),
        platform=_platform(itwin.base_url),
        changesets=changesets,
    )
    path = await in_thread(resolve_output, path)
    store = Store(path, spec, form)
    job = ExportJob(
        itwin,
        form,
        store,
        data_type=msgspec.Raw if data_type is None else data_type,
        min_index=0 if index is None else index + 1,
        since=moment,
        changesets=changesets,
        page_size=page_size,
        listener=ProgressListener(on_progress, "export"),
        on_error=on_error,
    )
    try:
        await in_thread(lambda: store.open(resume=resume))
        if not isinstance(imodel_ids, AsyncIterable):
            store.check_requested(set(map(normalize_id, imodel_ids)))
        await job.read(imodel_ids, workers)
        await job.finish()
    finally:
        store.close()
    return Exported(
        path, store.rows, store.bad, len(job.imodel_ids), store.bad_output if store.bad else None
    )


def _moment(since: object) -> datetime:
    if not isinstance(since, date):
        raise TypeError(f"since must be an index or a date, not {type(since).__name__}")
    if not isinstance(since, datetime):
        return datetime(since.year, since.month, since.day, tzinfo=UTC)
    if since.utcoffset() is None:
        raise ValueError("since must have an offset, such as datetime.UTC, or be a date in UTC")
    return since.astimezone(UTC)


def _format_of(output: Path, requested: str | None) -> FileFormat:
    if requested is None:
        found = _SUFFIXES.get(output.suffix.lower())
        if found is None:
            raise ValueError(
                f"output must end in {', '.join(_SUFFIXES)}, or format be given, not "
                f"{output.name or output}"
            )
        return found
    for known in get_args(FileFormat):
        if requested == known:
            return known  # type: ignore[no-any-return]  # one of the literal's
    names = ", ".join(get_args(FileFormat))
    raise ValueError(f"format must be one of {names}, not {requested!r}")


def _writer(file_format: FileFormat, data_type: Any, changesets: bool) -> Format:  # noqa: FBT001
    if file_format == "jsonl":
        return JsonLines(data_type, changesets=changesets)
    try:
        from itwin_async.export._arrow import ArrowFile  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ImportError(
            f"{file_format} needs pyarrow: pip install 'itwin-async[arrow]', or export to .jsonl"
        ) from None
    return ArrowFile(data_type, parquet=file_format == "parquet", changesets=changesets)


def _platform(base_url: str) -> str:
    """Where ids mean the same. An emulator is not always at the same port."""
    host = urlsplit(base_url).hostname or ""
    return "loopback" if host == "localhost" or _is_loopback(host) else base_url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
