"""Ingestion on a Dask cluster: batches of iModels, a share of the rate for each, Parquet parts.

The rate and the concurrency are cut into lanes, one for each worker there is at the start; a lane
runs one batch at a time. A lane that moves, because its worker has died, first waits out the minute
in which its share may have been sent: so the whole never exceeds the rate. What a batch writes is
one part, named after its iModels: run twice, it is the same part. The manifest says which parts
count. Needs the extra ``dask``.
"""

import asyncio
import hashlib
import importlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

import fsspec
import msgspec
from distributed import Client, Reschedule, Status, Worker, WorkerPlugin, get_worker
from distributed.client import FutureCancelledError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from itwin_async import Event, ITwinError, ITwinSession, Limiter, Paused, TokenProvider
from itwin_async.export import export_extended_data

_T = TypeVar("_T")
# Seconds that a rate looks back, and some in which a worker that is given up may still send.
_MINUTE: Final = 65.0
_ENDING: Final = 10.0  # seconds that Ctrl-C waits for the workers to stop
_LOOK: Final = 5.0  # seconds between looks whether a task is still with a worker
_LEAVING: Final = (Status.closing, Status.closing_gracefully, Status.closed)
_NOBODY: Final = ""  # owns a lane whose share may be spent
_url_to_fs: Final = cast("Any", fsspec).core.url_to_fs


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a job is: ``batches``, those ``done``, and what they gave; ``failed`` are iModels."""

    batches: int
    done: int
    rows: int
    bad: int
    failed: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """A finished job: its parts and what they hold, and the iModels that failed, with the reason.

    ``imodels`` counts those that are there as a whole. Of one that failed, some ``rows`` may be
    there. Its batch is run again when the job is resumed.
    """

    rows: int
    bad: int
    imodels: int
    paths: list[str]
    bad_paths: list[str]
    failures: dict[str, str]
    manifest: str


class _Batch(msgspec.Struct):
    """A batch in the manifest; without ``rows`` it has no part yet."""

    imodels: list[str]
    rows: int | None = None
    bad: int = 0
    failures: dict[str, str] = {}

    @property
    def key(self) -> str:
        return hashlib.sha256("\n".join(sorted(self.imodels)).encode()).hexdigest()[:16]

    @property
    def done(self) -> bool:
        return self.rows is not None and not self.failures


class _Manifest(msgspec.Struct):
    version: int = 1
    data_type: str | None = None
    batches: list[_Batch] = []


@dataclass(slots=True)
class _Lane:
    """A share, and the id of the worker that may use it now, at ``address``."""

    number: int
    owner: str
    address: str


class _Lanes(WorkerPlugin):
    """A worker's sessions, one for each lane it has. The token provider travels as a name."""

    def __init__(
        self, name: str, provider: str, base_url: str | None, concurrency: int, per_minute: int
    ) -> None:
        self.name = name
        self._provider = provider
        self._base_url = base_url
        self._concurrency = concurrency
        self._per_minute = per_minute

    def setup(self, worker: Worker) -> None:
        self._worker = worker
        self._sessions: dict[int, ITwinSession] = {}
        self._paused_until = 0.0

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        for session in self._sessions.values():
            await session.aclose()

    def session(self, lane: int) -> ITwinSession:
        """The lane's session."""
        if lane not in self._sessions:
            session = self._sessions[lane] = ITwinSession.from_env(
                token_provider=_named(self._provider)(),
                base_url=self._base_url,
                limiter=Limiter(self._concurrency, per_minute=self._per_minute),
                on_event=self._heard,
            )
            if (left := self._paused_until - time.monotonic()) > 0:
                session.limiter.pause(left)
        return self._sessions[lane]

    def _heard(self, event: Event) -> None:
        if isinstance(event, Paused):
            self._worker.log_event(self.name, {"seconds": event.seconds})

    def pause(self, seconds: float) -> None:
        """A lane was throttled, here or elsewhere: all wait."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        for session in self._sessions.values():
            session.limiter.pause(seconds)


# What runs on workers


async def _in_lane(
    name: str, lane: _Lane, task: Callable[..., Awaitable[Any]], *arguments: Any
) -> tuple[Any] | None:
    """What the task makes; None where the lane is not this worker's, and its share maybe spent."""
    worker = get_worker()
    if worker.id != lane.owner:
        return None
    try:
        itwin = cast("_Lanes", worker.plugins[name]).session(lane.number)
        return (await task(itwin, *arguments),)
    except BaseException:
        if worker.status in _LEAVING:
            raise Reschedule from None  # it was told to go, and this is no failure
        raise


async def _discover(itwin: ITwinSession, itwin_ids: list[str]) -> list[str]:
    return [
        imodel.id
        for itwin_id in itwin_ids
        async for imodel in itwin.imodels.list_imodels(itwin_id, page_size=1_000)
    ]


async def _measure(itwin: ITwinSession, imodel_ids: list[str]) -> list[int]:
    """The index of each iModel's last changeset, the nearest there is to a count; 0 if unknown."""

    async def last_index(imodel_id: str) -> int:
        changesets = itwin.imodels.list_changesets(imodel_id, order="desc", page_size=1)
        try:
            async with aiter(changesets) as newest:
                return (await anext(newest)).index
        except (StopAsyncIteration, ITwinError):
            return 0  # an iModel that fails will say so when it is crawled

    return await asyncio.gather(*map(last_index, imodel_ids))


async def _crawl(
    itwin: ITwinSession, imodel_ids: list[str], data_type: Any, part: tuple[str, str], workers: int
) -> tuple[int, int, dict[str, str]]:
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as home:
        exported = await export_extended_data(
            itwin,
            imodel_ids,
            Path(home) / "part.parquet",
            data_type,
            resume=False,
            on_error=lambda imodel_id, error: failures.update({imodel_id: str(error)}),
            workers=workers,
        )
        await asyncio.to_thread(_put, *part, exported.output, exported.bad_rows)
    return exported.rows, exported.bad, failures


def _put(root: str, key: str, part: Path, bad: Path | None) -> None:
    """Files that have their names once they are whole; the part last."""
    fs, home = _url_to_fs(root)
    for path, name in ((bad, _bad_name(key)), (part, _part_name(key))):
        if path is not None:
            draft = f"{home}/new-{uuid4().hex}"
            fs.put_file(str(path), draft)
            fs.mv(draft, f"{home}/{name}")
        elif fs.exists(f"{home}/{name}"):
            fs.rm_file(f"{home}/{name}")


def _pause(seconds: float, name: str, dask_worker: Worker) -> None:
    lanes = dask_worker.plugins.get(name)
    if isinstance(lanes, _Lanes):
        lanes.pause(seconds)


def _worker_id(dask_worker: Worker) -> str:
    return dask_worker.id


def _part_name(key: str) -> str:
    return f"part-{key}.parquet"


def _bad_name(key: str) -> str:
    return f"bad-{key}.jsonl"


# What runs beside the client


def ingest_extended_data(
    client: Client,
    token_provider: Callable[[], TokenProvider],
    imodel_ids: Iterable[str],
    destination: str | os.PathLike[str],
    data_type: Any = None,
    *,
    per_minute: int,
    itwin_ids: Iterable[str] = (),
    concurrency: int = 64,
    batch_entries: int = 20_000,
    base_url: str | None = None,
    resume: bool = True,
    on_progress: Callable[[IngestProgress], object] | None = None,
    show_progress: bool = True,
) -> Any:
    """Write the extended data of iModels to Parquet parts, on the workers of a Dask cluster.

    Gives `Ingested`, or an awaitable of it for an asynchronous client. Rows are those of
    `itwin_async.export.export_extended_data`. A worker that dies is replaced by another; a 429
    pauses all. Called again in the same way after a failure, it goes on with what is missing.

    Args:
        client: of a cluster where this library is installed on every worker.
        token_provider: a function that makes the provider where it is used, such as
            ``ClientCredentials.from_env``. Workers import it by name: no secret leaves them.
        imodel_ids: the iModels.
        destination: a directory, or an fsspec URL without credentials, that client and workers can
            write to. Nothing but the parts that the manifest there names counts.
        data_type: as in `IModels.list_extended_data`; importable by the workers.
        per_minute: requests of the whole cluster in any 60 seconds. On a destination that was used
            before, the first of them waits a minute: nobody knows what was sent in the last one.
        itwin_ids: iTwins of which every iModel is taken as well.
        concurrency: requests of the whole cluster at once.
        batch_entries: entries in a batch, going by the index of each iModel's last changeset.
        base_url: as of `ITwinSession`; from the worker's environment where None.
        resume: False begins anew, and removes the parts that are there.
        on_progress: called with `IngestProgress` as batches are done, in the client's event loop.
        show_progress: a bar, in a terminal or a notebook.

    Raises `TypeError` or `ValueError` for what cannot be, and the error of a discovery that failed.
    """
    if not isinstance(client, Client):
        raise TypeError(f"client must be a distributed.Client, not {type(client).__name__}")
    provider = _name_of(token_provider)
    if provider is None:
        raise TypeError(
            "token_provider must be a function that workers can import, such as "
            "ClientCredentials.from_env: a provider, a closure or a partial would carry its secret"
        )
    if isinstance(data_type, type) and _name_of(data_type) is None:
        raise TypeError(
            f"data_type must be a type that workers can import: put {data_type.__qualname__} in a "
            "module, for what is sent as a copy is no struct any more"
        )
    for name, value in {
        "per_minute": per_minute, "concurrency": concurrency, "batch_entries": batch_entries
    }.items():  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a number of items, not {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if isinstance(imodel_ids, str) or isinstance(itwin_ids, str):
        raise TypeError("imodel_ids and itwin_ids must be iterables of ids, not one str")
    job = _Job(client, os.fspath(destination), data_type, on_progress, show=show_progress)
    try:
        return cast("Any", client).sync(
            job.run,
            provider,
            list(imodel_ids),
            list(itwin_ids),
            per_minute=per_minute,
            concurrency=concurrency,
            batch_entries=batch_entries,
            base_url=base_url,
            resume=resume,
        )
    except KeyboardInterrupt:
        job.ended.wait(_ENDING)  # the job is cancelled in its own thread, and needs the client
        raise


class _Job:
    """One call: hands batches to lanes, and keeps the manifest."""

    def __init__(
        self,
        client: Client,
        destination: str,
        data_type: Any,
        on_progress: Callable[[IngestProgress], object] | None,
        *,
        show: bool,
    ) -> None:
        self.ended = threading.Event()
        self._client: Any = client  # much of which has no types
        # A relative path is another one elsewhere.
        self._root = destination if "://" in destination else str(Path(destination).absolute())
        self._fs: Any
        self._home: str
        self._fs, self._home = _url_to_fs(self._root)
        self._data_type = data_type
        self._on_progress = on_progress
        self._name = f"itwin_async {hashlib.sha256(self._root.encode()).hexdigest()[:8]}"
        self._lanes: list[_Lane] = []
        self._saving = asyncio.Lock()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("batches"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeElapsedColumn(),
            console=console,
            disable=not (show and (console.is_terminal or console.is_jupyter)),
        )
        self._task = self._bar.add_task("", total=None, rows=0)

    async def run(self, *arguments: Any, **options: Any) -> Ingested:
        try:
            return await self._run(*arguments, **options)
        finally:
            self.ended.set()

    async def _run(
        self,
        provider: str,
        imodel_ids: list[str],
        itwin_ids: list[str],
        *,
        per_minute: int,
        concurrency: int,
        batch_entries: int,
        base_url: str | None,
        resume: bool,
    ) -> Ingested:
        client = self._client
        workers = await client.run(_worker_id)
        if not workers:
            raise ValueError(
                "the cluster has no workers: wait for some with client.wait_for_workers"
            )
        manifest, again = await asyncio.to_thread(self._begin, resume=resume)
        count = min(len(workers), per_minute, concurrency)
        lanes = self._lanes = [
            _Lane(number, _NOBODY if again else worker_id, address)
            for number, (address, worker_id) in enumerate(list(workers.items())[:count])
        ]
        await client.register_plugin(
            _Lanes(self._name, provider, base_url, concurrency // count, per_minute // count),
            self._name,
        )
        client.subscribe_topic(self._name, self._throttled)
        try:
            with self._bar:
                if itwin_ids:
                    imodel_ids += await self._do(lanes[0], _discover, itwin_ids)
                await self._plan(manifest, imodel_ids, lanes, batch_entries)
                await self._crawl(manifest, lanes, workers=max(1, 2 * concurrency // count))
        finally:
            client.unsubscribe_topic(self._name)
            await client.unregister_worker_plugin(self._name)  # which ends what still runs
        return await asyncio.to_thread(self._end, manifest)

    async def _do(self, lane: _Lane, task: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """What a task in the lane makes. If its worker has gone, another has it in a minute."""
        while True:
            future = self._client.submit(
                _in_lane,
                self._name,
                replace(lane),
                task,
                *arguments,
                key=f"{task.__name__.strip('_')}-{lane.number}-{uuid4().hex}",
                workers=[lane.address],
                allow_other_workers=True,
                pure=False,
            )
            if (made := await self._result(future)) is not None:
                return made[0]
            lane.owner = _NOBODY
            await asyncio.sleep(_MINUTE)
            workers: dict[str, str] = await self._client.run(_worker_id)
            if workers:
                lanes_at = Counter(each.address for each in self._lanes if each.owner)
                lane.address = min(workers, key=lambda address: lanes_at[address])
                lane.owner = workers[lane.address]

    async def _result(self, future: Any) -> tuple[Any] | None:
        """What a task gives; None if nobody runs it.

        A task that prefers a worker is left lying by Dask if no worker at all was there when that
        one died, even when others come.
        """
        result = asyncio.ensure_future(_result(future))
        missing = 0
        try:
            while missing < 2:  # what was done between two looks is told to us meanwhile
                await asyncio.wait({result}, timeout=_LOOK)
                if result.done():
                    return result.result()
                running: dict[str, Any] = await self._client.processing()
                found = any(future.key in keys for keys in running.values())
                missing = 0 if found or not running else missing + 1
        finally:
            result.cancel()
        return None

    async def _plan(
        self, manifest: _Manifest, imodel_ids: list[str], lanes: list[_Lane], entries: int
    ) -> None:
        """Put what no batch has yet in batches of so many entries, the largest iModels first."""
        known = {imodel_id for batch in manifest.batches for imodel_id in batch.imodels}
        new = [imodel_id for imodel_id in dict.fromkeys(imodel_ids) if imodel_id not in known]
        shares = [new[lane.number :: len(lanes)] for lane in lanes]
        measured = await _all(
            self._do(lane, _measure, share)
            for lane, share in zip(lanes, shares, strict=True)
            if share
        )
        sizes: dict[str, int] = {}
        for share, found in zip(shares, measured, strict=False):  # the last may be empty
            sizes.update(zip(share, found, strict=True))
        batch, size = _Batch([]), 0
        for imodel_id in sorted(new, key=lambda each: (-sizes[each], each)):
            if batch.imodels and size + sizes[imodel_id] > entries:
                manifest.batches.append(batch)
                batch, size = _Batch([]), 0
            batch.imodels.append(imodel_id)
            size += sizes[imodel_id]
        if batch.imodels:
            manifest.batches.append(batch)
        await self._save(manifest)

    async def _crawl(self, manifest: _Manifest, lanes: list[_Lane], *, workers: int) -> None:
        """Keep each lane at work until every batch was run."""
        waiting = [batch for batch in reversed(manifest.batches) if not batch.done]

        async def keep_at_work(lane: _Lane) -> None:
            while waiting:
                batch = waiting.pop()
                part = self._root, batch.key
                try:
                    batch.rows, batch.bad, batch.failures = await self._do(
                        lane, _crawl, batch.imodels, self._data_type, part, workers
                    )
                except Exception as error:  # noqa: BLE001 - told for each iModel of the batch
                    why = f"{type(error).__name__}: {error}"
                    batch.failures = dict.fromkeys(batch.imodels, why)
                await self._save(manifest)
                self._tell(manifest)

        self._tell(manifest)
        await _all(map(keep_at_work, lanes))

    async def _throttled(self, event: tuple[float, dict[str, float]]) -> None:
        await self._client.run(_pause, event[1]["seconds"], self._name, on_error="ignore")

    def _tell(self, manifest: _Manifest) -> None:
        batches = manifest.batches
        progress = IngestProgress(
            batches=len(batches),
            done=sum(batch.done for batch in batches),
            rows=sum(batch.rows or 0 for batch in batches),
            bad=sum(batch.bad for batch in batches),
            failed=sum(len(batch.failures) for batch in batches),
        )
        self._bar.update(
            self._task,
            total=progress.batches,
            completed=progress.done,
            rows=progress.rows,
            refresh=True,  # a notebook does not show the last of them otherwise
        )
        if self._on_progress is not None:
            self._on_progress(progress)

    # The manifest

    @property
    def _manifest(self) -> str:
        return f"{self._home}/manifest.json"

    def _begin(self, *, resume: bool) -> tuple[_Manifest, bool]:
        """The manifest of an earlier run, or a new one; and whether there was an earlier one."""
        data_type = None if self._data_type is None else _type_name(self._data_type)
        self._fs.makedirs(self._home, exist_ok=True)
        manifest, again = _Manifest(data_type=data_type), self._fs.exists(self._manifest)
        if again and resume:
            manifest = self._read()
            if manifest.data_type != data_type:
                raise ValueError(
                    f"{self._root} holds parts of {manifest.data_type}, not of {data_type}: "
                    "choose another destination, or do not resume"
                )
        self._write(msgspec.json.encode(manifest))  # before parts go that an earlier one names
        there = self._sweep(manifest)
        for batch in manifest.batches:
            if _part_name(batch.key) not in there:
                batch.rows = None
        return manifest, again

    def _read(self) -> _Manifest:
        try:
            manifest = msgspec.json.decode(self._fs.cat_file(self._manifest), type=_Manifest)
        except msgspec.DecodeError:
            manifest = _Manifest(version=0)
        if manifest.version != _Manifest().version:
            raise ValueError(
                f"{self._root}/manifest.json is not what this version writes: "
                "choose another destination, or do not resume"
            )
        return manifest

    def _sweep(self, manifest: _Manifest) -> set[str]:
        """Remove the files of ours that are of no batch; gives the names of those that are."""
        keys = [batch.key for batch in manifest.batches]
        ours = {name(key) for key in keys for name in (_part_name, _bad_name)}
        self._fs.invalidate_cache()
        there = {path.rpartition("/")[2] for path in self._fs.ls(self._home, detail=False)}
        for name in there - ours:
            if name.startswith(("new-", "part-", "bad-")):
                self._fs.rm_file(f"{self._home}/{name}")
        return there & ours

    async def _save(self, manifest: _Manifest) -> None:
        async with self._saving:  # an older text must not come later
            await asyncio.to_thread(self._write, msgspec.json.encode(manifest))

    def _write(self, text: bytes) -> None:
        draft = f"{self._home}/new-{uuid4().hex}"
        self._fs.pipe_file(draft, text)
        self._fs.mv(draft, self._manifest)

    def _end(self, manifest: _Manifest) -> Ingested:
        self._sweep(manifest)
        root = self._root.rstrip("/")
        written = [batch for batch in manifest.batches if batch.rows is not None]
        return Ingested(
            rows=sum(batch.rows or 0 for batch in written),
            bad=sum(batch.bad for batch in written),
            imodels=sum(len(batch.imodels) - len(batch.failures) for batch in written),
            paths=[f"{root}/{_part_name(batch.key)}" for batch in written],
            bad_paths=[f"{root}/{_bad_name(batch.key)}" for batch in written if batch.bad],
            failures={k: v for batch in manifest.batches for k, v in batch.failures.items()},
            manifest=f"{root}/manifest.json",
        )


async def _result(future: Any) -> tuple[Any] | None:
    try:
        return cast("tuple[Any] | None", await future)
    except FutureCancelledError as error:  # which would pass for a cancellation of our own
        raise RuntimeError(f"the cluster dropped a task: {error.reason}") from None


async def _all(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What all of them give. The first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in coroutines]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _name_of(thing: Any) -> str | None:
    """By what name workers import it; None if they cannot."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    name = f"{module}:{path}"
    try:
        found = None if module in {None, "__main__"} else _named(name)
    except (ImportError, AttributeError):
        return None
    return name if found is not None and found == thing else None


def _named(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


def _type_name(data_type: Any) -> str:
    if isinstance(data_type, type):
        return f"{data_type.__module__}.{data_type.__qualname__}"
    return repr(data_type)
