"""Watches the cluster while a job waits for it, and ends the wait where no result will come."""

import asyncio
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, cast

from distributed.client import FutureCancelledError

_logger = logging.getLogger("itwin_async")
POLL_INTERVAL: Final = 5.0  # seconds
_MAX_MISSES: Final = 2  # polls without a task; results that come meanwhile are reported in between
_SCHEDULER_TIMEOUT: Final = 60.0  # seconds in which a busy scheduler may not answer


class ClusterLostError(RuntimeError):
    """The job cannot go on: the scheduler has gone, or all workers have."""


class IdleTimer:
    """How long the cluster has had no worker."""

    def __init__(self, max_idle: float) -> None:
        self._max_idle = max_idle
        self._since: float | None = None

    def check(self, workers: int, now: float) -> None:
        """Note the number of workers. Raises `ClusterLostError` after ``max_idle`` without one."""
        if workers:
            if self._since is not None:
                _logger.info("The cluster has a worker again; the job goes on")
            self._since = None
        elif self._since is None:
            self._since = now
            _logger.warning(
                "The cluster has no worker; the job waits up to %g s for one", self._max_idle
            )
        elif now - self._since >= self._max_idle:
            raise ClusterLostError(
                f"the cluster has had no worker for {now - self._since:.0f} s (max_idle is "
                f"{self._max_idle:g}): call again with workers, and what is missing is done"
            )


class Monitor:
    """Polls the scheduler for the tasks that a job waits for."""

    def __init__(self, client: Any, max_idle: float) -> None:
        self._client = client
        self._idle_timer = IdleTimer(max_idle)
        self._misses: dict[str, int] = {}
        self._lost: dict[str, asyncio.Event] = {}

    async def watch(self) -> NoReturn:
        """Poll the scheduler. Raises `ClusterLostError` when it has gone, or all workers have."""
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            running = await self._processing()
            self._idle_timer.check(len(running), time.monotonic())
            if running:
                found = {key for keys in running.values() for key in keys}
                for key, lost in self._lost.items():
                    self._misses[key] = 0 if key in found else self._misses[key] + 1
                    if self._misses[key] >= _MAX_MISSES:
                        lost.set()

    async def _processing(self) -> dict[str, Any]:
        """The tasks of each worker."""
        response = asyncio.ensure_future(self._client.processing())
        waited = 0.0
        try:
            while not response.done() and waited < _SCHEDULER_TIMEOUT:
                self.check_connection()
                await asyncio.wait({response}, timeout=POLL_INTERVAL)
                waited += POLL_INTERVAL
            if not response.done():
                raise self._scheduler_lost(f"it has not answered for {_SCHEDULER_TIMEOUT:g} s")
            with self.scheduler_call():
                return cast("dict[str, Any]", response.result())
        finally:
            response.cancel()

    def check_connection(self) -> None:
        """Raise `ClusterLostError` if the client has no scheduler any more."""
        if self._client.status != "running":
            raise self._scheduler_lost("the connection was lost")

    @contextmanager
    def scheduler_call(self) -> Generator[None, None, None]:
        """Turn the errors of a call to the scheduler into `ClusterLostError`."""
        self.check_connection()
        try:
            yield
        except (OSError, RuntimeError):  # the latter from a client that is closed
            raise self._scheduler_lost("the connection was lost") from None

    def _scheduler_lost(self, why: str) -> ClusterLostError:
        return ClusterLostError(
            f"the scheduler at {self._address()} has gone ({why}): call again with a client of one "
            "that runs, and what is missing is done"
        )

    def _address(self) -> str:
        scheduler = self._client.scheduler
        return "an unknown address" if scheduler is None else str(scheduler.address)

    async def result(self, future: Any) -> Any:
        """The result of a task; None if Dask keeps it for a worker that has gone."""
        key = str(future.key)
        lost = self._lost[key] = asyncio.Event()
        self._misses[key] = 0
        result = asyncio.ensure_future(self._result(future))
        losing = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait({result, losing}, return_when=asyncio.FIRST_COMPLETED)
            return result.result() if result.done() else None
        finally:
            result.cancel()
            losing.cancel()
            del self._lost[key], self._misses[key]

    async def _result(self, future: Any) -> Any:
        try:
            return await future
        except FutureCancelledError as error:  # which would pass for a cancellation of this task
            if error.reason == "scheduler-connection-lost":
                raise self._scheduler_lost("the connection was lost") from None
            raise RuntimeError(f"the cluster dropped a task: {error.reason}") from None
