"""One call: plans batches, has them run in lanes, and keeps the manifest."""

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
from itwin_async.distributed._lanes import Lanes, WorkersLostError, run_all
from itwin_async.distributed._manifest import Batch, Manifest
from itwin_async.distributed._monitor import ClusterLostError, Monitor
from itwin_async.distributed._opening import Opening, differs
from itwin_async.distributed._progress import ProgressReport
from itwin_async.distributed._queue import MAX_IN_ROW, BatchQueue
from itwin_async.distributed._result import Ingested
from itwin_async.distributed._workers import (
    Crawled,
    Lane,
    Sessions,
    Target,
    crawl,
    discover,
    measure,
    pause,
    reason_of,
    worker_id,
)

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")
CLEANUP_TIMEOUT: Final = 10.0  # seconds that the end of a job waits for the workers to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for, as `ingest_extended_data` describes it; ``provider`` is a name."""

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
    """One call. ``ended`` is set when nothing of it runs any more."""

    def __init__(
        self, client: Any, destination: Destination, options: Options, report: ProgressReport
    ) -> None:
        self.ended = threading.Event()
        self._client = client
        self._destination = destination
        self._options = options
        self._report = report
        root = destination.root.encode(errors="surrogatepass")
        self._name = f"itwin_async {hashlib.sha256(root).hexdigest()[:8]}"
        self._monitor = Monitor(client, options.max_idle)
        self._saving = asyncio.Lock()
        self._manifest: Manifest

    async def run(self) -> Ingested:
        """Run to the end. A cancellation stops what runs on the workers as well."""
        try:
            return await self._watched(self._run)
        finally:
            self.ended.set()

    async def _watched(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """What the work gives, unless the cluster goes before."""
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
        with self._monitor.asking():
            workers: dict[str, str] = await client.run(worker_id, on_error="ignore")
        if not workers:
            raise ValueError(
                "the cluster has no workers: wait for some with client.wait_for_workers"
            )
        count = min(len(workers), options.per_minute, options.concurrency)
        workers = dict(list(workers.items())[:count])
        opening = Opening(client, self._monitor, self._destination, list(workers))
        self._manifest, again = await opening.open(options.data_type, resume=options.resume)
        lanes = Lanes(client, self._name, self._monitor, workers, rested=not again)
        plugin = Sessions(
            self._name,
            options.provider,
            options.base_url,
            options.concurrency // count,
            options.per_minute // count,
        )
        await client.register_plugin(plugin, self._name)
        try:
            client.subscribe_topic(self._name, self._throttled)
            with self._report:
                await self._plan(lanes)
                await self._crawl(lanes, max(1, 2 * options.concurrency // count))
        finally:
            await self._unregister()
        return await self._end(lanes.stopped_at)

    async def _throttled(self, event: tuple[float, dict[str, float]]) -> None:
        await self._client.run(pause, event[1]["seconds"], self._name, on_error="ignore")

    async def _unregister(self) -> None:
        """End what still runs on the workers. Where that fails, the outcome is the same."""
        with anyio.move_on_after(CLEANUP_TIMEOUT, shield=True) as limit:
            try:
                self._monitor.check_connection()
                self._client.unsubscribe_topic(self._name)
                await self._client.unregister_worker_plugin(self._name)
            except Exception as error:  # noqa: BLE001 - reported, and not instead of the outcome
                _logger.warning("The workers could not be told to stop: %s", reason_of(error))
        if limit.cancelled_caught:
            _logger.warning("The workers did not stop within %g s", CLEANUP_TIMEOUT)

    # At work

    async def _plan(self, lanes: Lanes) -> None:
        """Put what no batch has yet in batches of so many entries, the largest iModels first."""
        options, batches = self._options, self._manifest.batches
        imodel_ids = options.imodel_ids
        if options.itwin_ids:
            imodel_ids = imodel_ids + await lanes.run_in_any(0, discover, options.itwin_ids)
        known = {imodel_id for batch in batches for imodel_id in batch.imodels}
        new = [imodel_id for imodel_id in dict.fromkeys(imodel_ids) if imodel_id not in known]
        shares = [new[number :: len(lanes)] for number in range(len(lanes))]
        measured = await run_all(
            lanes.run_in_any(number, measure, share) for number, share in enumerate(shares) if share
        )
        sizes: dict[str, int] = {}
        for share, found in zip(shares, measured, strict=False):  # the last may be empty
            sizes.update(zip(share, found, strict=True))
        batches.extend(_batches(sizes, options.batch_entries))
        await self._save()

    async def _crawl(self, lanes: Lanes, workers: int) -> None:
        """Keep each lane at work until every batch was run."""
        left = [batch for batch in self._manifest.batches if not batch.done]
        queue = BatchQueue(left, (lane.number for lane in lanes))
        self._report.update(self._manifest.batches)
        errors = await run_all(self._keep_at_work(lane, lanes, queue, workers) for lane in lanes)
        last = next((error for error in errors if error is not None), None)
        if queue.left and last is not None:
            last.add_note(
                f"So it was in every lane, {MAX_IN_ROW} batches in a row. What was done is kept in "
                f"{self._destination.shown}: call again, and the {queue.left} batches left are run"
            )
            raise last

    async def _keep_at_work(
        self, lane: Lane, lanes: Lanes, queue: BatchQueue, workers: int
    ) -> Exception | None:
        """Run batch after batch in a lane. Returns the last error if the lane was stopped."""
        by_key = {batch.key: batch for batch in self._manifest.batches}
        root, run = self._destination.root, self._manifest.run
        failed: Exception | None = None
        while (batch := await queue.next(lane.number)) is not None:
            target = Target(root, run, batch.key, self._options.data_type, self._manifest.fields)
            error: Exception | None = None
            try:
                crawled: Crawled = await lanes.run(lane, crawl, batch.imodels, target, workers)
            except ClusterLostError:
                raise
            except WorkersLostError as lost:
                _note_failure(batch, str(lost))
                queue.abandoned()
            except Exception as raised:  # noqa: BLE001 - told for each iModel of the batch
                error = raised
            else:
                batch.rows, batch.bad, batch.failures = crawled.rows, crawled.bad, crawled.failures
                batch.part, batch.bad_part = crawled.part, crawled.bad_part
                error = crawled.lane_error
                if error is None:
                    queue.succeeded(lane.number)
            if error is not None:
                failed, reason = error, reason_of(error)
                _logger.warning(
                    "A batch failed at the worker at %s (lane %d): %s",
                    lane.address,
                    lane.number,
                    reason,
                )
                for key, why in queue.failed(lane.number, batch, reason).items():
                    _note_failure(by_key[key], why)
                if queue.is_stopped(lane.number):
                    lanes.stop(lane, reason)
                    _logger.error(
                        "Lane %d at the worker at %s is stopped, with its share of the rate: %d "
                        "batches in a row failed there; others run them",
                        lane.number,
                        lane.address,
                        MAX_IN_ROW,
                    )
            await self._save()
            self._report.update(self._manifest.batches)
        return failed if queue.is_stopped(lane.number) else None

    async def _save(self) -> None:
        async with self._saving:  # an older text must not come later
            await in_thread(self._destination.write_manifest, self._manifest)

    # Ending

    async def _end(self, stopped_at: dict[str, str]) -> Ingested:
        """Look whether every part is there. Raises `OSError` if one is not."""
        manifest, destination = self._manifest, self._destination
        there = await in_thread(destination.sizes)
        written = [batch for batch in manifest.batches if batch.rows is not None]
        gone = [batch for batch in written if differs(batch, manifest.run, there)]
        if gone:
            for batch in gone:
                batch.forget_part()
            await self._save()
            raise OSError(
                f"{len(gone)} of {len(written)} parts are not in {destination.shown} as they were "
                "stored: something else changes it; call again, and they are made again"
            )
        await in_thread(destination.sweep, manifest)
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
    """What failed before, else all of it, has failed for this reason."""
    failed = batch.imodels if batch.rows is None else list(batch.failures)
    batch.failures = dict.fromkeys(failed, reason)


def _batches(sizes: dict[str, int], entries: int) -> list[Batch]:
    """Batches of so many entries, the largest iModels first."""
    batches: list[Batch] = []
    room = 0
    for imodel_id in sorted(sizes, key=lambda each: (-sizes[each], each)):
        if not batches or sizes[imodel_id] > room:
            batches.append(Batch([]))
            room = entries
        batches[-1].imodels.append(imodel_id)
        room -= sizes[imodel_id]
    return batches
