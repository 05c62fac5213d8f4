"""Blocks that another task may end with an error."""

import asyncio

import pytest

from itwin_async._aio.timeouts import InterruptScope


async def test_the_first_of_two_errors_ends_the_block():
    scope = InterruptScope()

    async def block() -> None:
        with scope:
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    scope.interrupt(LookupError("first"))
    scope.interrupt(ValueError("second"))
    with pytest.raises(LookupError, match="first"):
        await task
    assert task.cancelling() == 0


async def test_a_task_does_not_interrupt_itself():
    scope = InterruptScope()
    with scope:
        scope.interrupt(LookupError("by itself"))
        await asyncio.sleep(0)


async def test_a_block_outside_of_a_task_is_refused():
    refused: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def enter() -> None:
        try:
            InterruptScope().__enter__()
        except RuntimeError as error:
            refused.set_result(error)

    asyncio.get_running_loop().call_soon(enter)  # callbacks of the loop run in no task
    assert "must be awaited in an asyncio task" in str(await refused)
