"""What `merged` costs for each item, counted in wake-ups."""

import asyncio

import pytest

from itwin_async import merged
from itwin_async._aio.wait_queue import WaitQueue

ITEMS = 2_000


class Numbers:
    """A list that never waits, so that every worker fills the buffer and waits for room."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def __aiter__(self):
        for number in range(self._count):
            yield number


async def wake_ups(workers: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Turns of tasks for each item, with a consumer that awaits something between two items."""
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    turns = 0

    def counted(*args, **options):
        nonlocal turns
        turns += 1
        return call_soon(*args, **options)

    lists = [Numbers(ITEMS // workers) for _ in range(workers)]
    count = 0
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_soon", counted)
        async with merged(lists, workers=workers) as items:
            async for _ in items:
                count += 1
                await asyncio.sleep(0)
    assert count == ITEMS
    return turns / count


@pytest.mark.slow
async def test_wake_ups_for_an_item_do_not_grow_with_the_workers(monkeypatch):
    few = await wake_ups(8, monkeypatch)
    many = await wake_ups(200, monkeypatch)
    assert few < 4
    assert many < few + 1.5  # each worker starts and ends once: 400 turns of 200 for 2,000 items


async def waiting(queue: WaitQueue, order: list[int], number: int) -> None:
    await queue.wait()
    order.append(number)


async def queue_of(count: int) -> tuple[WaitQueue, list[int], list[asyncio.Task[None]]]:
    queue, order = WaitQueue(), []
    tasks = [asyncio.create_task(waiting(queue, order, number)) for number in range(count)]
    await asyncio.sleep(0)
    return queue, order, tasks


async def test_waiters_are_woken_one_at_a_time_and_in_order():
    queue, order, tasks = await queue_of(3)
    for number in range(3):
        queue.notify()
        await tasks[number]
        assert order == list(range(number + 1))
    queue.notify()  # for nobody


async def test_a_waiter_that_is_cancelled_as_it_is_woken_wakes_the_next():
    queue, order, tasks = await queue_of(3)
    queue.notify()
    tasks[0].cancel()
    await tasks[1]
    assert order == [1]
    queue.notify()
    await tasks[2]
    assert tasks[0].cancelled()


async def test_a_waiter_that_is_cancelled_leaves_the_queue():
    queue, order, tasks = await queue_of(3)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    queue.notify()
    await tasks[1]
    assert order == [1]
    queue.notify_all()
    await tasks[2]
    assert not queue._waiters
