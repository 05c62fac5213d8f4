"""Several tasks of one coroutine function, of which the first failure ends all."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio


async def run_workers(number: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` in so many tasks until all have returned; raise the first failure alone."""
    failure: Exception | None = None
    returned = 0

    async def count() -> None:
        nonlocal returned
        await work()
        returned += 1

    try:
        async with anyio.create_task_group() as group:
            for _ in range(number):
                group.start_soon(count)
    except ExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:  # raised here, it does not hold on to the others
        raise failure
    if returned < number:  # a task group takes a task that was cancelled for one that is done
        raise RuntimeError("a task was cancelled alone, and its work is not done")
