"""One job: plans batches, has them run on the shares of the rate, and keeps the manifest."""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._manifest import Batch, Manifest
from itwin_async.distributed._monitor import ClusterLostError, Monitor
from itwin_async.distributed._opening import Opening, differs
from itwin_async.distributed._plan import Options, Planner, owner_of
from itwin_async.distributed._progress import ProgressReport
from itwin_async.distributed._queue import MAX_IN_ROW, BatchQueue
from itwin_async.distributed._result import Ingested
from itwin_async.distributed._shares import RateShares, WorkersLostError, run_all
from itwin_async.distributed._tasks import crawl, follow
from itwin_async.distributed._workers import (
    Crawled,
    RateShare,
    Target,
    WorkerSessions,
    error_text,
    pause,
    worker_id,
)
from itwin_async.sync._candidates import Candidate
from itwin_async.sync._checkpoint import Checkpoint

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")
CLEANUP_TIMEOUT: Final = 10.0  # seconds that the end of a job waits for the workers to stop


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
        """Add the batches of what is new to the manifest."""
        scope, given = self._options.scope, self._options.checkpoint
        if given is not None and scope is not None:
            self._manifest.begin_behind(owner_of(scope), Checkpoint.parse(given, scope.digest))
        await Planner(self._manifest, shares, self._options).plan()
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
        run = self._manifest.run
        failed: Exception | None = None
        while (batch := await queue.next(share.number)) is not None:
            error: Exception | None = None
            changed = [batch]
            try:
                crawled = await self._run_batch(batch, share, shares, workers)
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
                batch.checkpoint = crawled.checkpoint
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
                    changed.append(by_key[key])
                if queue.is_stopped(share.number):
                    shares.stop(share, reason)
                    _logger.error(
                        "Share %d of the rate at the worker at %s is stopped: %d batches in a row "
                        "failed there; others run them",
                        share.number,
                        share.address,
                        MAX_IN_ROW,
                    )
            for done in changed:
                await in_thread(self._destination.add_to_manifest, run, done)
            self._report.update(self._manifest.batches)
        return failed if queue.is_stopped(share.number) else None

    async def _run_batch(
        self, batch: Batch, share: RateShare, shares: RateShares, workers: int
    ) -> Crawled:
        manifest, options = self._manifest, self._options
        target = Target(
            self._destination.root,
            manifest.run,
            batch.key,
            options.data_type,
            manifest.fields,
            options.look_back,
        )
        imodels = [Candidate(key, *batch.pushes.get(key, (None, False))) for key in batch.imodels]
        crawled: Crawled = (
            await shares.run(share, crawl, imodels, target, workers)
            if batch.since is None
            else await shares.run(share, follow, imodels, batch.since, target, workers)
        )
        return crawled

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
            manifest.forget({batch.key for batch in gone})
            await self._save()
            raise OSError(
                f"{len(gone)} of {len(written)} parts are not in {destination.label} as they were "
                "stored: something else changes it; call again, and they are made again"
            )
        await self._save()
        await in_thread(destination.remove_unnamed, manifest)
        files = [file.name for batch in written for file in batch.files(manifest.run)]
        return Ingested(
            rows=sum(batch.rows or 0 for batch in written),
            bad=sum(batch.bad for batch in written),
            imodels=len(self._manifest.checkpoint().imodel_ids),
            paths=[f"{destination.root}/{name}" for name in files if name.startswith("part-")],
            bad_paths=[f"{destination.root}/{name}" for name in files if name.startswith("bad-")],
            failures={k: v for batch in manifest.batches for k, v in batch.failures.items()},
            manifest=f"{destination.root}/manifest.json",
            stopped_workers=stopped_at,
            checkpoint=self._checkpoint(),
        )

    def _checkpoint(self) -> str | None:
        scope = self._options.scope
        if scope is None:
            return None
        records = self._manifest.checkpoint(owner_of(scope)).records
        if scope.itwin_id is None:  # earlier calls may have had others
            records = {key: records[key] for key in scope.imodel_ids if key in records}
        return str(Checkpoint(scope.digest, records))


def _note_failure(batch: Batch, reason: str) -> None:
    """Note why the iModels failed: those that failed before, or all if none has run."""
    failed = batch.imodels if batch.rows is None else list(batch.failures)
    batch.failures = dict.fromkeys(failed, reason)
