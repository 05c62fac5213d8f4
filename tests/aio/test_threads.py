"""Work that a cancellation waits for."""

import asyncio

import pytest

from itwin_async._aio.threads import completed


@pytest.mark.parametrize("ends", ["with a result", "with an error"])
async def test_a_cancellation_waits_for_the_work_and_is_raised_then(ends):
    work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(completed(work))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    if ends == "with a result":
        work.set_result(1)
    else:
        work.set_exception(LookupError("which nobody waits for any more"))
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_after_its_grace_the_work_is_cancelled_too():
    work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(completed(work, grace=0.0))
    await asyncio.sleep(0)
    assert not work.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled()


async def test_without_a_cancellation_there_is_no_grace():
    work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(completed(work, grace=0.0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not work.done()
    work.set_result(1)
    assert await waiting == 1
