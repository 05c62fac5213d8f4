"""Several tasks of one function: the call ends when the work of all is done, or fails."""

import asyncio

import pytest

from itwin_async._aio.workers import run_workers


async def test_a_worker_that_was_cancelled_alone_has_not_done_its_work():
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="not done"):
        await run_workers(2, work)


async def test_the_first_failure_is_raised_alone():
    async def work() -> None:
        raise LookupError("of a worker")

    with pytest.raises(LookupError, match="of a worker"):
        await run_workers(3, work)
