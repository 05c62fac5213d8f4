"""A pause holds for all, no longer than each of them allows; seen in virtual time."""

import asyncio
import itertools

import anyio
import pytest
from limiting import limited, settle, use
from virtual_time import now, run

from itwin_async import RateLimitError
from itwin_async._http import pause

# Pauses


def test_a_pause_holds_for_all_and_for_no_shorter_than_asked():
    async def main():
        limiter, log, start = limited(4), [], now()
        assert limiter.pause(10) is True
        async with asyncio.TaskGroup() as tasks:
            for _ in range(12):
                tasks.create_task(use(limiter, 0.1, log))
        return [time - start for time in log]

    times = run(main())
    assert min(times) >= 10.0
    assert min(times) <= 11.0


def test_who_comes_during_a_pause_waits_too():
    async def main():
        limiter, log = limited(4), []
        limiter.pause(10)
        left = limiter.paused_for()
        await asyncio.sleep(5)
        start = now()
        await use(limiter, 0.1, log)
        assert log[0] - start == pytest.approx(left - 5)
        assert limiter.paused_for() == 0

    run(main())


def test_the_longest_pause_wins():
    async def main():
        limiter, start = limited(4), now()
        assert limiter.pause(30) is True
        until = limiter.paused_for()
        await asyncio.sleep(1)
        assert limiter.pause(2) is False  # a pause was running already
        assert limiter.paused_for() == pytest.approx(until - 1)
        assert limiter.pause(60) is False
        (await limiter.acquire()).release()
        assert now() - start >= 61

    run(main())


def test_the_total_of_pauses_is_the_time_they_ran():
    async def main():
        limiter = limited(4)
        assert limiter.total_paused() == 0
        limiter.pause(10)
        total = limiter.paused_for()
        await asyncio.sleep(4)
        assert limiter.total_paused() == pytest.approx(4)
        limiter.pause(10)
        total = 4 + limiter.paused_for()
        await asyncio.sleep(100)
        assert limiter.total_paused() == pytest.approx(total)

    run(main())


def test_requests_start_one_after_another_after_a_pause():
    async def main():
        limiter, log = limited(8), []
        limiter.pause(10)
        opens = now() + limiter.paused_for()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(use(limiter, 60, log))
        return [time - opens for time in log]

    times = run(main())
    assert times[0] == pytest.approx(0, abs=1e-6)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap == pytest.approx(1 / 8) for gap in gaps)


def test_the_stagger_is_over_after_a_second():
    async def main():
        limiter, log = limited(8), []
        limiter.pause(10)
        await asyncio.sleep(limiter.paused_for() + 1.01)
        start = now()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(use(limiter, 60, log))
        return [time - start for time in log]

    assert run(main()) == [0] * 8


def test_a_pause_does_not_concern_a_body_under_way():
    async def main():
        limiter, start = limited(1), now()
        limiter.pause(100)
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        (await limiter.acquire_read()).release()
        assert now() == start
        (await sender).release()

    run(main())


def test_waiting_for_a_pause_holds_no_slot():
    async def main():
        limiter = limited(1)
        limiter.pause(10)
        waiting = [asyncio.create_task(use(limiter, 0, [])) for _ in range(5)]
        await settle()
        assert (limiter.in_use, limiter.waiting) == (0, 5)
        await asyncio.gather(*waiting)

    run(main())


# Limits of a wait


def test_a_wait_shorter_than_the_pause_is_rejected_at_once():
    async def main():
        limiter, start = limited(1), now()
        limiter.pause(100)
        with pytest.raises(RateLimitError) as caught:
            await limiter.acquire(max_wait=50)
        assert now() == start
        assert caught.value.status == 429
        assert caught.value.retry_after == pytest.approx(limiter.paused_for())
        assert caught.value.retry_after >= 100
        await asyncio.sleep(60)
        (await limiter.acquire(max_wait=50)).release()

    run(main())


def test_a_waiter_is_rejected_when_a_longer_pause_begins():
    async def main():
        limiter = limited(1)
        slot = await limiter.acquire()
        short = asyncio.create_task(limiter.acquire(max_wait=5))
        long = asyncio.create_task(limiter.acquire(max_wait=500))
        await settle()
        start = now()
        limiter.pause(100)
        with pytest.raises(RateLimitError):
            await short
        assert now() == start
        assert limiter.waiting == 1
        slot.release()
        (await long).release()

    run(main())


@pytest.mark.parametrize("limit", ["max_wait", "max_total_wait"])
@pytest.mark.parametrize("seconds", [1, 5, 120])
def test_a_pause_as_long_as_the_longest_wait_is_waited_for(seconds, limit):
    async def main():
        limiter = limited(1)
        for _ in range(20):
            limiter.pause(seconds)
            (await limiter.acquire(**{limit: seconds})).release()
            await asyncio.sleep(1_000)

    run(main())


def test_pauses_in_a_row_are_bounded_in_total():
    async def main():
        limiter, start = limited(1), now()
        limiter.pause(10)

        async def throttle():
            for _ in range(40):
                await asyncio.sleep(5)
                limiter.pause(10)

        throttling = asyncio.create_task(throttle())
        with pytest.raises(RateLimitError):
            await limiter.acquire(max_wait=20, max_total_wait=50)
        assert 35 <= now() - start <= 50
        throttling.cancel()

    run(main())


def test_a_wait_within_the_total_is_waited():
    async def main():
        limiter = limited(1)
        limiter.pause(10)
        (await limiter.acquire(max_total_wait=12)).release()
        limiter.pause(10)
        with pytest.raises(RateLimitError):
            await limiter.acquire(max_total_wait=9)

    run(main())


@pytest.mark.parametrize(("seconds", "longest"), [(0, 0), (1, 1.1), (10, 11), (100, 101)])
def test_a_pause_is_a_tenth_longer_than_asked_and_a_second_at_most(monkeypatch, seconds, longest):
    monkeypatch.setattr(pause, "jitter", lambda least, most: least + most)

    async def main():
        limiter = limited(1)
        limiter.pause(seconds)
        assert limiter.paused_for() == pytest.approx(longest)

    run(main())


def test_the_jitter_of_a_pause_does_not_count_against_a_deadline(monkeypatch):
    monkeypatch.setattr(pause, "jitter", lambda least, most: least + most)

    async def main():
        limiter = limited(1)
        limiter.pause(10)
        with anyio.fail_after(11.5):
            (await limiter.acquire()).release()

    run(main())


def test_a_visible_deadline_bounds_the_wait():
    async def main():
        limiter, start = limited(1), now()
        limiter.pause(10)
        with pytest.raises(RateLimitError), anyio.fail_after(2):
            await limiter.acquire()
        assert now() == start
        with anyio.fail_after(20):
            (await limiter.acquire()).release()

    run(main())


def test_a_cancelled_scope_is_no_deadline_but_a_cancellation():
    async def main():
        limiter = limited(1)
        limiter.pause(10)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await limiter.acquire()  # no error of ours, which would leave the scope
        assert scope.cancelled_caught
        assert limiter.waiting == 0

    run(main())
