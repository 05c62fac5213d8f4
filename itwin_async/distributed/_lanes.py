"""The lanes of a job: each runs a task at its worker, and moves when that one has gone."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar
from uuid import uuid4

from itwin_async import TransportError
from itwin_async.distributed._monitor import ClusterLostError, Monitor
from itwin_async.distributed._workers import Lane, fails_lane, in_lane, reason_of, worker_id

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")
# Seconds that a rate looks back, and some in which a worker that is given up may still send.
_MINUTE: Final = 65.0
_NOBODY: Final = ""  # owns a lane whose share may be spent
# As Dask's own `allowed-failures`: workers that may die with a batch until it is the batch.
_MAX_LOST: Final = 4

# Lanes that do not reach the platform until none will: each has tried for as long as it retries.
_MAX_UNREACHABLE: Final = 3


class WorkersLostError(RuntimeError):
    """A task was lost with its worker, again and again."""


class Lanes:
    """Runs tasks in lanes. ``name`` is that of the plugin that the workers have."""

    def __init__(
        self, client: Any, name: str, monitor: Monitor, workers: dict[str, str], *, rested: bool
    ) -> None:
        self._client = client
        self._name = name
        self._monitor = monitor
        self._lanes = [
            Lane(number, worker if rested else _NOBODY, address)
            for number, (address, worker) in enumerate(workers.items())
        ]
        self.stopped_at: dict[str, str] = {}  # addresses of workers, and why

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def stop(self, lane: Lane, reason: str) -> None:
        """Note that nothing is run in a lane any more, since its worker is no good."""
        lane.owner = _NOBODY
        self.stopped_at[lane.address] = reason

    async def run(self, lane: Lane, task: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """What a task in the lane makes. If its worker has gone, another has it in a minute.

        Raises what the task raises, and `WorkersLostError` if worker after worker went with it.
        """
        for _ in range(_MAX_LOST):
            while lane.owner == _NOBODY:
                await asyncio.sleep(_MINUTE)
                await self._move(lane)
            self._monitor.check_connection()
            future = self._client.submit(
                in_lane,
                self._name,
                replace(lane),
                task,
                *arguments,
                key=f"{task.__name__}-{lane.number}-{uuid4().hex}",
                workers=[lane.address],  # and no other: it would only say that it may not
                pure=False,
            )
            if (made := await self._monitor.result(future)) is not None:
                return made[0]
            _logger.warning(
                "The worker at %s has gone; its lane %d goes to another in %g s",
                lane.address,
                lane.number,
                _MINUTE,
            )
            lane.owner = _NOBODY
        raise WorkersLostError(
            f"the task {task.__name__} was lost with {_MAX_LOST} workers in a row, and is given up"
        )

    async def _move(self, lane: Lane) -> None:
        """Give the lane to the worker that has the fewest, if there is one."""
        with self._monitor.asking():
            workers: dict[str, str] = await self._client.run(worker_id, on_error="ignore")
        if workers:
            lanes_at = Counter(each.address for each in self._lanes if each.owner)
            lane.address = min(
                workers, key=lambda address: (address in self.stopped_at, lanes_at[address])
            )
            lane.owner = workers[lane.address]

    async def run_in_any(
        self, first: int, task: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        """What a task makes in the lane of this number, or in the next one where it fails there.

        Raises the last error; the first where it is about what was asked for. The first lane has a
        second try in the end, for there may be no other.
        """
        failed: Exception | None = None
        unreachable = 0
        for lane in [*self._lanes[first:], *self._lanes[:first], self._lanes[first]]:
            try:
                return await self.run(lane, task, *arguments)
            except (ClusterLostError, WorkersLostError):
                raise
            except Exception as error:
                unreachable += isinstance(error, TransportError)
                if not fails_lane(error) or unreachable == _MAX_UNREACHABLE:
                    raise
                _logger.warning(
                    "The task %s failed at the worker at %s: %s",
                    task.__name__,
                    lane.address,
                    reason_of(error),
                )
                failed = error
        assert failed is not None  # noqa: S101 - there is a lane at least
        raise failed


async def run_all(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What all of them give. The first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in coroutines]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
