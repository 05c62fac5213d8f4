"""The call: its arguments, and their checks."""

import os
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from distributed import Client

from itwin_async import TokenProvider
from itwin_async._core.validation import (
    Id,
    as_sent,
    check_callback,
    check_count,
    check_no_tilde,
    check_seconds,
    check_text,
    quote_segment,
)
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._importable import importable_name
from itwin_async.distributed._job import CLEANUP_TIMEOUT, Job
from itwin_async.distributed._plan import Options
from itwin_async.distributed._progress import IngestProgress, ProgressReport
from itwin_async.distributed._workers import fields_digest
from itwin_async.sync._checkpoint import Checkpoint


def ingest_extended_data(
    client: Client,
    token_provider: Callable[[], TokenProvider],
    imodel_ids: Iterable[Id],
    destination: str | os.PathLike[str],
    data_type: Any = None,
    *,
    per_minute: int,
    itwin_ids: Iterable[Id] = (),
    concurrency: int = 64,
    batch_entries: int = 20_000,
    look_back: int = 20,
    settle: float = 300.0,
    checkpoint: str | None = None,
    base_url: str | None = None,
    resume: bool = True,
    on_progress: Callable[[IngestProgress], object] | None = None,
    show_progress: bool = True,
    max_idle: float = 120.0,
) -> Any:
    """Write the extended data of iModels to Parquet parts, on the workers of a Dask cluster.

    Returns `Ingested`, or an awaitable of it for an asynchronous client. Rows are those of
    `itwin_async.export.export_extended_data`. When a worker dies, another takes its batches; one
    where three batches in a row fail gets no more, and others run them; a 429 pauses all.

    The same call with the same destination does what is missing, and adds what is new, in parts of
    their own, at the cost of a `itwin_async.sync.ChangeFeed`: an iTwin is a request for a thousand
    iModels, and only those that moved are read, behind what is there.

    Args:
        client: of a cluster that has this library on every worker.
        token_provider: a function without arguments that returns a provider, such as
            ``ClientCredentials.from_env``. Workers import it by name, so no secret is sent.
        imodel_ids: the iModels.
        destination: a directory, or an fsspec URL without credentials, that client and workers can
            write to. Only the parts that its manifest names count, and only files that an ingest
            wrote there are ever removed.
        data_type: as in `IModels.list_extended_data`; importable by the workers.
        per_minute: requests of the whole cluster in any 60 seconds. On a destination that was used
            before, the first one waits for a minute, since an earlier run may have sent some.
        itwin_ids: iTwins whose iModels are read as well.
        concurrency: requests of the whole cluster at a time.
        batch_entries: entries in a batch, estimated by the index of each iModel's last changeset.
        look_back: so many of the last changesets of an iModel are looked at again for data that was
            stored late.
        settle: seconds after a push for which an iModel is scanned again.
        checkpoint: of a `ChangeFeed` over the one iTwin, or over the iModels, that is given here:
            what it covers is left out. Not needed to go on in the same destination.
        base_url: as of `ITwinSession`; from the worker's environment where None.
        resume: False starts over, and removes the parts that an ingest wrote there.
        on_progress: called with `IngestProgress` as batches are done, in the client's event loop.
            Its first error is logged, and the ingest goes on without calling it again.
        show_progress: a bar, in a terminal or a notebook.
        max_idle: seconds to wait for a worker while the cluster has none.

    Raises `TypeError` or `ValueError` for invalid arguments, such as a destination that is not the
    same for client and workers, or has parts of another type; the error of the list of iModels if
    that fails, and of the last batch if batch after batch fails on every worker; `RuntimeError` if
    the scheduler has gone, or all workers have for ``max_idle`` seconds; `OSError` if parts are
    missing at the end. What was done before is kept.
    """
    if not isinstance(client, Client):
        raise TypeError(f"client must be a distributed.Client, not {type(client).__name__}")
    if cast("Any", client).status == "closed":
        raise ValueError("client must be connected to a scheduler, and this one is closed")
    provider = importable_name(token_provider)
    if provider is None:
        del token_provider  # whose repr in this frame may show its secret
        raise TypeError(
            "token_provider must be a function that workers can import, such as "
            "ClientCredentials.from_env: a provider, a closure or a partial would carry its secret"
        )
    if isinstance(data_type, type) and importable_name(data_type) is None:
        raise TypeError(
            f"data_type must be a type that workers can import: put {data_type.__qualname__} in a "
            "module, for what is sent as a copy is no struct any more"
        )
    fields_digest(data_type)  # `TypeError` for a type that no payload can have
    check_count("per_minute", per_minute)
    check_count("concurrency", concurrency)
    check_count("batch_entries", batch_entries)
    check_count("look_back", look_back, least=0)
    check_seconds("settle", settle, zero=True)
    check_text("checkpoint", checkpoint)
    if isinstance(max_idle, bool) or not isinstance(max_idle, int | float):
        raise TypeError(f"max_idle must be a number of seconds, not {type(max_idle).__name__}")
    if not (isfinite(max_idle) and max_idle >= 0):
        raise ValueError(f"max_idle must be a number of seconds from 0, not {max_idle}")
    check_callback("on_progress", on_progress)
    ids = {"imodel_ids": _ids("imodel_ids", imodel_ids), "itwin_ids": _ids("itwin_ids", itwin_ids)}
    options = Options(
        provider=provider,
        **ids,
        data_type=None if data_type is msgspec.Raw else data_type,  # which is what None gives
        per_minute=per_minute,
        concurrency=concurrency,
        batch_entries=batch_entries,
        base_url=base_url,
        resume=resume,
        max_idle=max_idle,
        look_back=look_back,
        settle=settle,
        checkpoint=checkpoint,
    )
    if checkpoint is not None:
        if options.scope is None:
            raise ValueError(
                "checkpoint belongs to one iTwin or to some iModels: give either one iTwin or "
                "imodel_ids"
            )
        Checkpoint.parse(checkpoint, options.scope.digest)
    report = ProgressReport(on_progress, show=show_progress)
    job = Job(client, Destination(_root(destination)), options, report)
    try:
        return cast("Any", client).sync(job.run)
    except KeyboardInterrupt:
        job.ended.wait(CLEANUP_TIMEOUT)  # its own thread cancels it, and needs the client
        raise


def _ids(name: str, values: Iterable[Id]) -> list[str]:
    if isinstance(values, str | UUID):
        raise TypeError(f"{name} must be an iterable of ids, not one {type(values).__name__}")
    ids = list(values)
    for id in ids:
        quote_segment(name, id)
    return list(map(as_sent, ids))


def _root(destination: str | os.PathLike[str]) -> str:
    """The destination for all processes: a relative path would be another one elsewhere."""
    root = os.fspath(destination)
    if not isinstance(root, str):
        raise TypeError(f"destination must be a path or URL in text, not {type(root).__name__}")
    if "://" not in root:
        if not root.strip():
            raise ValueError("destination must be a directory or an fsspec URL, not an empty text")
        check_no_tilde("destination", root)
        return str(Path(root).absolute())
    if not root.rpartition("://")[2].strip("/"):
        raise ValueError(f"destination must name a directory, and {root} does not")
    if urlsplit(root).password is not None:
        raise ValueError(
            "destination must be a URL without a password: let client and workers find their "
            "credentials in their own environment"
        )
    return root
