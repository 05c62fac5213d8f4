"""Which share runs which batch, decided without a cluster."""

import asyncio
import logging

import pytest

from itwin_async.distributed._manifest import Batch
from itwin_async.distributed._monitor import ClusterLostError, IdleTimer
from itwin_async.distributed._queue import MAX_IN_ROW, BatchQueue

GOOD, BAD, OTHER = 0, 1, 2


def batches(count: int) -> list[Batch]:
    return [Batch([str(number)]) for number in range(count)]


def failing_keys(batch: Batch) -> dict[str, str]:
    return {batch.key: "why"}


async def test_a_share_in_which_batch_after_batch_fails_gets_no_more():
    one, two, three, four = batches(4)
    queue = BatchQueue([one, two, three, four], [GOOD, BAD])
    assert await queue.next(GOOD) is one
    for batch in (two, three, four):
        assert await queue.next(BAD) is batch
        assert queue.failed(BAD, batch, "why") == {}  # nobody's failure yet: another may do better
    assert queue.is_stopped(BAD) and not queue.is_stopped(GOOD)
    assert await queue.next(BAD) is None
    queue.succeeded(GOOD)
    for batch in (four, three, two):
        assert await queue.next(GOOD) is batch
        queue.succeeded(GOOD)
    assert await queue.next(GOOD) is None
    assert queue.left == 0


async def test_failures_that_are_not_in_a_row_stop_no_share():
    many = batches(4 * MAX_IN_ROW)
    queue = BatchQueue(many, [GOOD, BAD])
    for _ in range(MAX_IN_ROW):
        queue.failed(BAD, await queue.next(BAD), "why")
        await queue.next(BAD)
        queue.succeeded(BAD)
    assert not queue.is_stopped(BAD)


async def test_what_failed_is_run_next_by_another_share():
    one, two = batches(2)
    queue = BatchQueue([one, two], [GOOD, BAD])
    await queue.next(BAD)
    queue.failed(BAD, one, "why")
    assert await queue.next(BAD) is two
    assert await queue.next(GOOD) is one


async def test_a_share_waits_for_what_others_still_run():
    (one,) = batches(1)
    queue = BatchQueue([one], [GOOD, BAD])
    await queue.next(BAD)
    waiting = asyncio.ensure_future(queue.next(GOOD))
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.failed(BAD, one, "why")
    assert await waiting is one
    waiting = asyncio.ensure_future(queue.next(BAD))
    await asyncio.sleep(0)
    queue.succeeded(GOOD)
    assert await waiting is None


async def test_a_batch_that_fails_in_every_share_is_given_up():
    one, two = batches(2)
    queue = BatchQueue([one, two], [GOOD, BAD])
    await queue.next(GOOD)
    assert queue.failed(GOOD, one, "first") == {}
    assert await queue.next(BAD) is one
    assert queue.failed(BAD, one, "why") == failing_keys(one)
    assert await queue.next(GOOD) is two
    queue.succeeded(GOOD)
    assert await queue.next(GOOD) is None
    assert queue.left == 0


async def test_a_batch_that_fails_in_two_shares_that_work_is_not_tried_in_all():
    many = batches(10)
    queue = BatchQueue(many, range(10))
    for share in (GOOD, OTHER):
        await queue.next(share)
        queue.succeeded(share)
    poison = await queue.next(BAD)
    assert queue.failed(BAD, poison, "why") == {}  # of a share that has done nothing yet
    assert await queue.next(GOOD) is poison
    assert queue.failed(GOOD, poison, "why") == {}
    assert await queue.next(OTHER) is poison
    assert queue.failed(OTHER, poison, "why") == failing_keys(poison)


async def test_a_batch_is_given_up_when_the_last_share_that_could_run_it_is_stopped():
    one, *rest = batches(1 + MAX_IN_ROW)
    queue = BatchQueue([*rest, one], [GOOD, OTHER, BAD])
    for batch in rest:
        assert await queue.next(BAD) is batch
        if batch is not rest[-1]:
            queue.failed(BAD, batch, "why")
            assert await queue.next(GOOD) is batch
            queue.succeeded(GOOD)
    for share in (GOOD, OTHER):
        assert await queue.next(share) is one
        assert queue.failed(share, one, "why") == {}  # the third may do it
    assert queue.failed(BAD, rest[-1], "why") == failing_keys(one)
    assert await queue.next(OTHER) is rest[-1]


async def test_when_all_shares_are_stopped_what_is_left_is_not_at_fault():
    many = batches(10)
    queue = BatchQueue(many, [GOOD, BAD])
    given_up: dict[str, str] = {}
    while queue.running_shares:
        for share in (GOOD, BAD):
            if (batch := await queue.next(share)) is not None:
                given_up |= queue.failed(share, batch, "why")
    assert queue.left + len(given_up) == 10
    assert queue.left >= 10 - MAX_IN_ROW - 1
    assert await queue.next(GOOD) is None and await queue.next(BAD) is None


async def test_what_failed_in_an_earlier_run_comes_last():
    one, two = batches(2)
    one.failures = {"0": "403"}
    queue = BatchQueue([one, two], [GOOD])
    assert await queue.next(GOOD) is two


def test_the_wait_for_a_worker_has_an_end(caplog):
    caplog.set_level(logging.INFO)
    timer = IdleTimer(max_idle=30)
    timer.check(2, 0.0)
    timer.check(0, 10.0)
    timer.check(0, 39.0)
    timer.check(1, 41.0)  # just in time
    timer.check(0, 50.0)
    timer.check(0, 79.0)
    with pytest.raises(ClusterLostError, match=r"no worker for 30 s \(max_idle is 30\)"):
        timer.check(0, 80.0)
    messages = [record.getMessage() for record in caplog.records]
    waits = "The cluster has no worker; the job waits up to 30 s for one"
    assert messages == [waits, "The cluster has a worker again; the job goes on", waits]
