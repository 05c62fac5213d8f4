"""Slots are granted first come, first served, and given back whatever happens."""

import asyncio
import random
import sys

import pytest
from limiting import limited, settle, use
from virtual_time import now, run

from itwin_async import RateLimitError

# Slots


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_no_more_than_concurrency_are_under_way(concurrency):
    async def main():
        limiter, most = limited(concurrency), 0

        async def work():
            nonlocal most
            slot = await limiter.acquire()
            most = max(most, limiter.in_use)
            await asyncio.sleep(random.random())
            slot.release()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(work())
        return most

    assert run(main()) == concurrency


def test_readers_and_senders_share_the_slots():
    async def main():
        limiter = limited(2)
        slots = [await limiter.acquire(), await limiter.acquire_read()]
        waiting = [
            asyncio.create_task(limiter.acquire()),
            asyncio.create_task(limiter.acquire_read()),
        ]
        await settle()
        assert (limiter.in_use, limiter.waiting) == (2, 2)
        slots.pop().release()
        await settle()
        assert [task.done() for task in waiting] == [True, False]
        slots.pop().release()
        await settle()
        for task in waiting:
            task.result().release()

    run(main())


def test_a_slot_is_given_back_once():
    async def main():
        limiter = limited(1)
        slot = await limiter.acquire()
        slot.on_response()
        slot.on_response()
        slot.release()
        slot.release()
        assert limiter.in_use == 0
        (await limiter.acquire()).release(sent=False)
        assert limiter.in_use == 0

    run(main())


def test_waiting_is_first_come_first_served():
    async def main():
        limiter, served = limited(3), []

        async def work(index):
            slot = await (limiter.acquire_read() if index % 4 == 0 else limiter.acquire())
            served.append(index)
            await asyncio.sleep(random.random())
            slot.release()

        async with asyncio.TaskGroup() as tasks:
            for index in range(200):
                tasks.create_task(work(index))
        return served

    assert run(main()) == list(range(200))


def test_nobody_overtakes_who_waits_already():
    async def main():
        limiter, served = limited(1), []
        slot = await limiter.acquire()

        async def work(name):
            mine = await limiter.acquire()
            served.append(name)
            mine.release()

        first = asyncio.create_task(work("first"))
        await settle()
        slot.release()  # the slot is granted to the first now, before it wakes
        await work("second")
        await first
        return served

    assert run(main()) == ["first", "second"]


def test_one_who_comes_back_stands_behind_all_others():
    async def main():
        limiter, served = limited(1), []

        async def work(name):
            for _ in range(5):
                slot = await limiter.acquire()
                served.append(name)
                await asyncio.sleep(1)
                slot.release()

        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(work(name))
        return "".join(served)

    assert run(main()) == "abc" * 5


# Prefetches


def test_a_prefetch_takes_only_idle_slots():
    async def main():
        limiter = limited(3)
        prefetches = [limiter.acquire_idle() for _ in range(4)]
        assert [prefetch is not None for prefetch in prefetches] == [True, True, False, False]
        (await limiter.acquire()).release()  # one slot is reserved for foreground requests
        for prefetch in prefetches[:2]:
            prefetch.release()
        assert limiter.in_use == 0

    run(main())


def test_a_limiter_of_one_slot_prefetches_nothing():
    async def main():
        assert limited(1).acquire_idle() is None

    run(main())


@pytest.mark.parametrize("read", [False, True])
def test_nothing_is_prefetched_while_anyone_waits(read):
    async def main():
        limiter = limited(3, per_hour=1_000)
        slots = [await limiter.acquire() for _ in range(3)]
        waiting = asyncio.create_task(limiter.acquire_read() if read else limiter.acquire())
        await settle()
        limiter._free += 2  # idle slots and a waiter that did not wake yet
        assert limiter.acquire_idle() is None
        limiter._free -= 2
        slots.pop().release()
        (await waiting).release()
        for slot in slots:
            slot.release()

    run(main())


def test_nothing_is_prefetched_during_a_pause_nor_for_a_while_after_it():
    async def main():
        limiter = limited(8)
        limiter.pause(10)
        assert limiter.acquire_idle() is None
        await asyncio.sleep(limiter.paused_for() + 5)
        assert limiter.acquire_idle() is None
        await asyncio.sleep(10)
        prefetch = limiter.acquire_idle()
        assert prefetch is not None
        prefetch.release()

    run(main())


def test_after_a_short_pause_nothing_is_prefetched_for_a_second():
    async def main():
        limiter = limited(8)
        limiter.pause(0.1)
        await asyncio.sleep(limiter.paused_for() + 0.9)
        assert limiter.acquire_idle() is None
        await asyncio.sleep(0.2)
        prefetch = limiter.acquire_idle()
        assert prefetch is not None
        prefetch.release()

    run(main())


def test_nothing_is_prefetched_when_a_rate_window_is_nearly_full():
    async def main():
        limiter = limited(4, per_minute=20)
        sent = 0
        while (prefetch := limiter.acquire_idle()) is not None:
            prefetch.release()
            sent += 1
        start = now()
        for _ in range(20 - sent):
            (await limiter.acquire()).release()
        assert now() == start  # a part of the window was left to foreground requests
        assert sent == 16  # as many sends as there are slots
        (await limiter.acquire()).release()
        assert now() > start  # and prefetches were counted

    run(main())


# Cancelling


def test_cancelling_at_any_moment_leaves_nothing_behind():
    async def main(turns):
        limiter = limited(2, per_minute=30)
        random.seed(turns)
        tasks = []

        async def work(index):
            slot = await (limiter.acquire_read() if index % 3 == 0 else limiter.acquire())
            try:
                await asyncio.sleep(index % 5)
            finally:
                slot.release()

        for index in range(20):
            tasks.append(asyncio.create_task(work(index)))
        if turns % 4 == 0:
            limiter.pause(3)
        for _ in range(turns):
            await asyncio.sleep(0 if turns % 2 else 0.5)
            random.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (limiter.in_use, limiter.waiting, limiter._in_flight) == (0, 0, 0)
        slots = [await limiter.acquire() for _ in range(2)]
        for slot in slots:
            slot.release()

    for turns in range(60):
        run(main(turns), debug=False)


@pytest.mark.parametrize("read", [False, True])
def test_a_slot_granted_to_one_who_was_just_cancelled_goes_to_the_next(read):
    async def main():
        limiter = limited(1, per_minute=2)
        slot = await limiter.acquire()
        first = asyncio.create_task(limiter.acquire_read() if read else limiter.acquire())
        second = asyncio.create_task(limiter.acquire())
        await settle()
        slot.release()  # granted to the first
        first.cancel()  # before it woke
        start = now()
        (await second).release()
        assert now() == start  # and it does not count as sent
        assert first.cancelled()

    run(main())


def test_cancelling_the_first_who_waits_for_a_rate_window_lets_the_next_pass():
    async def main():
        limiter = limited(1, per_minute=1)
        (await limiter.acquire()).release()
        first = asyncio.create_task(limiter.acquire())
        second = asyncio.create_task(limiter.acquire())
        await settle()
        first.cancel()
        (await second).release()
        assert limiter.waiting == 0

    run(main())


def test_cancelling_the_one_who_blocks_a_reader_lets_it_pass():
    async def main():
        limiter = limited(2, per_minute=1)
        (await limiter.acquire()).release()
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        sender.cancel()
        await settle()
        assert limiter.waiting == 0
        (await limiter.acquire_read()).release()

    run(main())


def test_a_rejected_waiter_leaves_those_behind_it_alone():
    async def main():
        limiter = limited(1)
        limiter.pause(50)
        with pytest.raises(RateLimitError):
            await limiter.acquire(max_wait=1)
        (await limiter.acquire(max_wait=60)).release()
        assert limiter.waiting == 0

    run(main())


# Ends of it


def test_a_second_event_loop_is_refused_in_one_sentence():
    limiter = limited()

    async def main():
        (await limiter.acquire()).release()

    run(main())
    for call in (limiter.acquire, limiter.acquire_read):

        async def other(call=call):
            (await call()).release()

        with pytest.raises(RuntimeError, match="belongs to another event loop") as caught:
            run(other())
        assert len(str(caught.value).splitlines()) == 1

    async def prefetch():
        limiter.acquire_idle()

    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        run(prefetch())


def test_a_limiter_may_be_built_anywhere():
    limiter = limited(3, per_minute=5)
    assert (limiter.in_use, limiter.waiting, limiter.paused_for()) == (0, 0, 0.0)


def steps(waiters: int, *, pause: bool, cancel: bool) -> int:
    """Lines of the limiter that run while many tasks pass it."""
    counted = 0

    def tracer(frame, event, _):
        nonlocal counted
        if not frame.f_code.co_filename.endswith("rate_limiter.py"):
            return None
        counted += event == "line"
        return tracer

    async def main():
        limiter, log = limited(16), []
        if pause:
            limiter.pause(5)
        tasks = [asyncio.create_task(use(limiter, 0.01, log)) for _ in range(waiters)]
        await settle(1)
        if cancel:
            for task in tasks[::2]:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(log) >= (waiters // 2 if cancel else waiters)

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        run(main(), debug=False)
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize(
    ("pause", "cancel"),
    [
        (False, False),
        pytest.param(True, False, marks=pytest.mark.slow),
        (True, True),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
)
def test_the_work_for_ten_thousand_waiters_is_ten_times_that_for_a_thousand(pause, cancel):
    few = steps(1_000, pause=pause, cancel=cancel)
    many = steps(10_000, pause=pause, cancel=cancel)
    assert many < 13 * few


def test_a_slot_given_back_while_another_is_granted_is_granted_in_its_turn():
    async def main():
        limiter = limited(2)
        one, other = await limiter.acquire(), await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
        await settle()
        original = limiter._sendable_at

        def collect(now):  # a collector runs, and drops the holder of the other slot
            other.release()
            return original(now)

        limiter._sendable_at = collect
        one.release()
        for slot in await asyncio.gather(*waiting):
            slot.release()
        assert (limiter.in_use, limiter.waiting, limiter._in_flight) == (0, 0, 0)

    run(main())


@pytest.mark.parametrize("read", [False, True])
def test_cancelled_waiters_leave_the_queue_and_the_others_stay(read):
    async def main():
        limiter, served = limited(1), []
        slot = await limiter.acquire()

        async def wait(number):
            waited = await (limiter.acquire_read() if read else limiter.acquire())
            served.append(number)
            waited.release()

        tasks = [asyncio.create_task(wait(number)) for number in range(200)]
        await settle()
        for number, task in enumerate(tasks):
            if number % 20:
                task.cancel()
        await settle()
        assert limiter.waiting == 10
        assert len(limiter._senders) + len(limiter._readers) < 80
        slot.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served == list(range(0, 200, 20))

    run(main())


def test_a_request_that_is_dropped_as_the_timer_is_set_sets_it_again():
    async def main():
        limiter = limited(3, per_minute=2)
        one, other = await limiter.acquire(), await limiter.acquire()
        first = asyncio.create_task(limiter.acquire())
        await settle()
        original = limiter._wake_at

        def collect(when):  # a collector runs, and drops a request in flight
            original(when)
            one.release()

        limiter._wake_at = collect
        second = asyncio.create_task(limiter.acquire())
        start = now()
        (await asyncio.wait_for(first, 100)).release()
        assert now() - start == pytest.approx(60)
        other.release()
        (await second).release()

    run(main())


def test_a_slot_given_back_in_another_thread_wakes_who_waits():
    async def main():
        limiter = limited(1)
        slot = await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await settle()
        await asyncio.to_thread(slot.release)
        (await waiting).release()
        assert limiter.in_use == 0

    asyncio.run(asyncio.wait_for(main(), 10), debug=True)
