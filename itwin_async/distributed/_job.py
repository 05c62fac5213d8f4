"""One job: plans batches, has them run on the shares of the rate, and keeps the manifest."""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._manifest import Batch, Manifest
from itwin_async.distributed._monitor import ClusterLostError, Monitor
from itwin_async.distributed._opening import Opening, differs
from itwin_async.distributed._progress import ProgressReport
from itwin_async.distributed._queue import MAX_IN_ROW, BatchQueue
from itwin_async.distributed._result import Ingested
from itwin_async.distributed._shares import RateShares, WorkersLostError, run_all
from itwin_async.distributed._workers import (
    Crawled,
    RateShare,
    Target,
    WorkerSessions,
    crawl,
    discover,
    error_text,
    measure,
    pause,
    worker_id,
)

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")
CLEANUP_TIMEOUT: Final = 10.0  # seconds that the end of a job waits for the workers to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `ingest_extended_data`; ``provider`` is the name of a function."""

    provider: str
    imodel_ids: list[str]
    itwin_ids: list[str]
    data_type: Any
    per_minute: int
    concurrency: int
    batch_entries: int
    base_url: str | None
    resume: bool
    max_idle: float


class Job:
    """The job of one call. ``ended`` is set when nothing of it runs any more."""

    def __init__(
        self, client: Any, destination: Destination, options: Options, report: ProgressReport
    ) -> None:
        self.ended = threading.Event()
        self._client = client
        self._destination = destination
        self._options = options
        self._report = report
        root = destination.root.encode(errors="surrogatepass")
        self._plugin = f"itwin_async {hashlib.sha256(root).hexdigest()[:8]}"
        self._monitor = Monitor(client, options.max_idle)
        self._saving = asyncio.Lock()
        self._manifest: Manifest

    async def run(self) -> Ingested:
        """Run to the end. A cancellation stops the tasks on the workers as well."""
        try:
            return await self._while_cluster_lives(self._run)
        finally:
            self.ended.set()

    async def _while_cluster_lives(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """The result of the work. Raises `ClusterLostError` if the cluster goes before."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._monitor.watch())
                done = await work()
                watching.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return done

    async def _run(self) -> Ingested:
        options, client = self._options, self._client
        with self._monitor.scheduler_call():
            workers: dict[str, str] = await client.run(worker_id, on_error="ignore")
        if not workers:
            raise ValueError(
                "the cluster has no workers: wait for some with client.wait_for_workers"
            )
        count = min(len(workers), options.per_minute, options.concurrency)
        workers = dict(list(workers.items())[:count])
        opening = Opening(client, self._monitor, self._destination, list(workers))
        self._manifest, was_used = await opening.open(options.data_type, resume=options.resume)
        shares = RateShares(client, self._plugin, self._monitor, workers, unused=not was_used)
        plugin = WorkerSessions(
            self._plugin,
            options.provider,
            options.base_url,
            options.concurrency // count,
            options.per_minute // count,
        )
        await client.register_plugin(plugin, self._plugin)
        try:
            client.subscribe_topic(self._plugin, self._on_throttled)
            with self._report:
                await self._plan(shares)
                await self._crawl(shares, max(1, 2 * options.concurrency // count))
        finally:
            await self._unregister()
        return await self._end(shares.stopped_at)

    async def _on_throttled(self, event: tuple[float, dict[str, float]]) -> None:
        await self._client.run(pause, event[1]["seconds"], self._plugin, on_error="ignore")

    async def _unregister(self) -> None:
        """Close the sessions on the workers. If that fails, the outcome of the job is the same."""
        with anyio.move_on_after(CLEANUP_TIMEOUT, shield=True) as limit:
            try:
                self._monitor.check_connection()
                self._client.unsubscribe_topic(self._plugin)
                await self._client.unregister_worker_plugin(self._plugin)
            except Exception as error:  # noqa: BLE001 - reported, and not instead of the outcome
                _logger.warning("The workers could not be told to stop: %s", error_text(error))
        if limit.cancelled_caught:
            _logger.warning("The workers did not stop within %g s", CLEANUP_TIMEOUT)

    # Running

    async def _plan(self, shares: RateShares) -> None:
        """Put the iModels that are in no batch yet into batches, the largest first."""
        options, batches = self._options, self._manifest.batches
        imodel_ids = options.imodel_ids
        if options.itwin_ids:
            imodel_ids = imodel_ids + await shares.run_on_any(0, discover, options.itwin_ids)
        known = {imodel_id for batch in batches for imodel_id in batch.imodels}
        new = [imodel_id for imodel_id in dict.fromkeys(imodel_ids) if imodel_id not in known]
        chunks = [new[number :: len(shares)] for number in range(len(shares))]
        measured = await run_all(
            shares.run_on_any(number, measure, ids) for number, ids in enumerate(chunks) if ids
        )
        sizes: dict[str, int] = {}
        for ids, found in zip(chunks, measured, strict=False):  # the last chunks may be empty
            sizes.update(zip(ids, found, strict=True))
        batches.extend(_batches(sizes, options.batch_entries))
        await self._save()

    async def _crawl(self, shares: RateShares, workers: int) -> None:
        """Run batches on every share until there are none left."""
        left = [batch for batch in self._manifest.batches if not batch.done]
        queue = BatchQueue(left, (share.number for share in shares))
        self._report.update(self._manifest.batches)
        errors = await run_all(self._run_batches(share, shares, queue, workers) for share in shares)
        last = next((error for error in errors if error is not None), None)
        if queue.left and last is not None:
            last.add_note(
                f"This happened on every worker, {MAX_IN_ROW} batches in a row. What was done is "
                f"kept in {self._destination.label}: call again, and the {queue.left} batches left "
                "are run"
            )
            raise last

    async def _run_batches(
        self, share: RateShare, shares: RateShares, queue: BatchQueue, workers: int
    ) -> Exception | None:
        """Run batch after batch on a share. Returns the last error if the share was stopped."""
        by_key = {batch.key: batch for batch in self._manifest.batches}
        root, run = self._destination.root, self._manifest.run
        failed: Exception | None = None
        while (batch := await queue.next(share.number)) is not None:
            target = Target(root, run, batch.key, self._options.data_type, self._manifest.fields)
            error: Exception | None = None
            try:
                crawled: Crawled = await shares.run(share, crawl, batch.imodels, target, workers)
            except ClusterLostError:
                raise
            except WorkersLostError as lost:
                _note_failure(batch, str(lost))
                queue.abandoned()
            except Exception as raised:  # noqa: BLE001 - reported for each iModel of the batch
                error = raised
            else:
                batch.rows, batch.bad, batch.failures = crawled.rows, crawled.bad, crawled.failures
                batch.part, batch.bad_part = crawled.part, crawled.bad_part
                error = crawled.worker_error
                if error is None:
                    queue.succeeded(share.number)
            if error is not None:
                failed, reason = error, error_text(error)
                _logger.warning(
                    "A batch failed at the worker at %s (share %d): %s",
                    share.address,
                    share.number,
                    reason,
                )
                for key, why in queue.failed(share.number, batch, reason).items():
                    _note_failure(by_key[key], why)
                if queue.is_stopped(share.number):
                    shares.stop(share, reason)
                    _logger.error(
                        "Share %d of the rate at the worker at %s is stopped: %d batches in a row "
                        "failed there; others run them",
                        share.number,
                        share.address,
                        MAX_IN_ROW,
                    )
            await self._save()
            self._report.update(self._manifest.batches)
        return failed if queue.is_stopped(share.number) else None

    async def _save(self) -> None:
        async with self._saving:  # an older manifest must not be written later
            await in_thread(self._destination.write_manifest, self._manifest)

    # Ending

    async def _end(self, stopped_at: dict[str, str]) -> Ingested:
        """The result of the job. Raises `OSError` if a part is not there."""
        manifest, destination = self._manifest, self._destination
        sizes = await in_thread(destination.sizes)
        written = [batch for batch in manifest.batches if batch.rows is not None]
        gone = [batch for batch in written if differs(batch, manifest.run, sizes)]
        if gone:
            for batch in gone:
                batch.forget_part()
            await self._save()
            raise OSError(
                f"{len(gone)} of {len(written)} parts are not in {destination.label} as they were "
                "stored: something else changes it; call again, and they are made again"
            )
        await in_thread(destination.remove_unnamed, manifest)
        files = [file.name for batch in written for file in batch.files(manifest.run)]
        return Ingested(
            rows=sum(batch.rows or 0 for batch in written),
            bad=sum(batch.bad for batch in written),
            imodels=sum(len(batch.imodels) - len(batch.failures) for batch in written),
            paths=[f"{destination.root}/{name}" for name in files if name.startswith("part-")],
            bad_paths=[f"{destination.root}/{name}" for name in files if name.startswith("bad-")],
            failures={k: v for batch in manifest.batches for k, v in batch.failures.items()},
            manifest=f"{destination.root}/manifest.json",
            stopped_workers=stopped_at,
        )


def _note_failure(batch: Batch, reason: str) -> None:
    """Note why the iModels failed: those that failed before, or all if none has run."""
    failed = batch.imodels if batch.rows is None else list(batch.failures)
    batch.failures = dict.fromkeys(failed, reason)


def _batches(sizes: dict[str, int], entries: int) -> list[Batch]:
    """Batches of so many entries, the largest iModels first."""
    batches: list[Batch] = []
    left = 0
    for imodel_id in sorted(sizes, key=lambda imodel_id: (-sizes[imodel_id], imodel_id)):
        if not batches or sizes[imodel_id] > left:
            batches.append(Batch([]))
            left = entries
        batches[-1].imodels.append(imodel_id)
        left -= sizes[imodel_id]
    return batches
