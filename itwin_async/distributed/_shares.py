"""The shares of a job's rate: each runs a task at its worker, and moves when that one has gone."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar
from uuid import uuid4

from itwin_async import TransportError
from itwin_async.distributed._monitor import ClusterLostError, Monitor
from itwin_async.distributed._workers import (
    RateShare,
    error_text,
    is_worker_fault,
    run_on_share,
    worker_id,
)

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")
# Seconds that a rate looks back, and five in which a worker that was given up may still send.
RATE_WINDOW: Final = 65.0
_NO_WORKER: Final = ""  # the owner of a share that may have been spent
# As Dask's own `allowed-failures`: so many workers may die with a batch before it is given up.
_MAX_LOST: Final = 4
# Shares on which the platform was not reached, before none is tried: each has retried for long.
_MAX_UNREACHABLE: Final = 3


class WorkersLostError(RuntimeError):
    """A task was lost with its worker, again and again."""


class RateShares:
    """Runs tasks on shares. ``plugin`` is the name of the plugin that holds workers' sessions.

    ``unused`` tells that nothing was sent on them in the last minute.
    """

    def __init__(
        self, client: Any, plugin: str, monitor: Monitor, workers: dict[str, str], *, unused: bool
    ) -> None:
        self._client = client
        self._plugin = plugin
        self._monitor = monitor
        self._shares = [
            RateShare(number, worker if unused else _NO_WORKER, address)
            for number, (address, worker) in enumerate(workers.items())
        ]
        self.stopped_at: dict[str, str] = {}  # addresses of workers, and why

    def __iter__(self) -> Iterator[RateShare]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def stop(self, share: RateShare, reason: str) -> None:
        """Note that nothing runs on a share any more, since every batch fails at its worker."""
        share.owner = _NO_WORKER
        self.stopped_at[share.address] = reason

    async def run(
        self, share: RateShare, task: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        """The result of a task on a share. If its worker goes, another runs it a minute later.

        Raises what the task raises, and `WorkersLostError` if worker after worker went with it.
        """
        for _ in range(_MAX_LOST):
            while share.owner == _NO_WORKER:
                await asyncio.sleep(RATE_WINDOW)
                await self._move(share)
            self._monitor.check_connection()
            future = self._client.submit(
                run_on_share,
                self._plugin,
                replace(share),
                task,
                *arguments,
                key=f"{task.__name__}-{share.number}-{uuid4().hex}",
                workers=[share.address],  # no other one may run it
                pure=False,
            )
            if (result := await self._monitor.result(future)) is not None:
                return result[0]
            _logger.warning(
                "The worker at %s has gone; its share %d of the rate goes to another in %g s",
                share.address,
                share.number,
                RATE_WINDOW,
            )
            share.owner = _NO_WORKER
        raise WorkersLostError(
            f"the task {task.__name__} was lost with {_MAX_LOST} workers in a row, and is given up"
        )

    async def _move(self, share: RateShare) -> None:
        """Give a share to the worker that has the fewest, if there is a worker."""
        with self._monitor.scheduler_call():
            workers: dict[str, str] = await self._client.run(worker_id, on_error="ignore")
        if workers:
            shares_at = Counter(other.address for other in self._shares if other.owner)
            share.address = min(
                workers, key=lambda address: (address in self.stopped_at, shares_at[address])
            )
            share.owner = workers[share.address]

    async def run_on_any(
        self, first: int, task: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        """The result of a task on the share of this number, or on the next one if it fails there.

        Raises the last error; the first one that is about what was asked for. The first share is
        tried twice, at the beginning and at the end, for there may be no other.
        """
        failure: Exception | None = None
        unreachable = 0
        for share in [*self._shares[first:], *self._shares[:first], self._shares[first]]:
            try:
                return await self.run(share, task, *arguments)
            except (ClusterLostError, WorkersLostError):
                raise
            except Exception as error:
                unreachable += isinstance(error, TransportError)
                if not is_worker_fault(error) or unreachable == _MAX_UNREACHABLE:
                    raise
                _logger.warning(
                    "The task %s failed at the worker at %s: %s",
                    task.__name__,
                    share.address,
                    error_text(error),
                )
                failure = error
        assert failure is not None  # noqa: S101 - there is at least one share
        raise failure


async def run_all(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all. The first error cancels the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
