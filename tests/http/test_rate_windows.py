"""Rate windows hold as a server counts them; seen in virtual time."""

import asyncio
import random
from bisect import bisect_left

import pytest
from limiting import limited, settle
from virtual_time import now, run

from itwin_async._http.rate_limiter import RateLimiter
from itwin_async._http.rate_window import RateWindow


def most_in_a_window(times: list[float], span: float) -> int:
    times = sorted(times)
    return max(
        index - bisect_left(times, time - span + 1e-6) + 1 for index, time in enumerate(times)
    )


def serve(limiter: RateLimiter, seconds: float, workers: int, jitter: float) -> list[float]:
    """When the server counted each request: some time between its sending and its answer."""
    counted: list[float] = []
    random.seed(7)

    async def work(until):
        while now() < until:
            slot = await limiter.acquire()
            await asyncio.sleep(random.random() ** 4 * jitter)
            counted.append(now())
            await asyncio.sleep(random.random() ** 4 * jitter)
            slot.on_response()
            slot.release()

    async def main():
        until = now() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work(until))

    run(main(), debug=False)
    return counted


@pytest.mark.slow
def test_both_windows_are_kept_over_a_day_as_a_server_counts_them():
    limiter = limited(16, per_minute=500, per_hour=5_000)
    counted = serve(limiter, 86_400.0, workers=24, jitter=4.0)
    assert most_in_a_window(counted, 60.0) <= 500
    assert most_in_a_window(counted, 3_600.0) <= 5_000
    assert len(counted) > 0.97 * 5_000 * 24  # and they are used


def test_the_minute_alone_is_kept_and_used():
    counted = serve(limited(8, per_minute=50), 3_600.0, workers=12, jitter=2.0)
    assert most_in_a_window(counted, 60.0) <= 50
    assert len(counted) > 0.9 * 50 * 60


def test_the_hour_alone_is_kept_and_used():
    counted = serve(limited(8, per_hour=100), 6 * 3_600.0, workers=12, jitter=30.0)
    assert most_in_a_window(counted, 3_600.0) <= 100
    assert len(counted) > 0.9 * 100 * 6


def test_a_request_in_flight_counts_until_it_is_answered():
    async def main():
        limiter, start = limited(4, per_minute=2), now()
        slow = await limiter.acquire()
        quick = await limiter.acquire()
        quick.release()
        third = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(30)
        slow.on_response()  # the server may have counted it only now
        slow.release()
        (await third).release()
        assert now() - start == pytest.approx(60)
        (await limiter.acquire()).release()
        assert now() - start == pytest.approx(90)

    run(main())


def test_a_window_frees_with_the_response_although_its_body_holds_the_slot():
    async def main():
        limiter, start = limited(2, per_minute=1), now()
        slot = await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(10)
        slot.on_response()
        (await waiting).release()
        assert now() - start == pytest.approx(70)
        slot.release()

    run(main())


def test_an_hour_is_3600_seconds():
    async def main():
        limiter, start = limited(1, per_hour=1), now()
        (await limiter.acquire()).release()
        (await limiter.acquire()).release()
        assert now() - start == pytest.approx(3_600)

    run(main())


def test_a_request_leaves_its_window_at_the_end_of_it():
    window = RateWindow(60.0, 1)
    window.times.append(0.0)
    assert (window.remaining(59.9, 0), window.available_at(59.9, 0)) == (0, 60.0)
    assert (window.remaining(60.0, 0), window.available_at(60.0, 0)) == (1, 60.0)


def test_what_was_never_sent_is_not_counted():
    async def main():
        limiter, start = limited(1, per_minute=1), now()
        for _ in range(5):
            (await limiter.acquire()).release(sent=False)
        (await limiter.acquire()).release()
        assert now() == start
        (await limiter.acquire()).release()
        assert now() - start == pytest.approx(60)

    run(main())


def test_going_on_with_a_body_is_no_send():
    async def main():
        limiter, start = limited(1, per_minute=1), now()
        (await limiter.acquire()).release()
        for _ in range(10):
            (await limiter.acquire_read()).release()
        assert now() == start

    run(main())


def test_a_reader_passes_senders_that_wait_for_a_rate_window():
    async def main():
        limiter = limited(1, per_minute=1)
        (await limiter.acquire()).release()
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        async with asyncio.timeout(1):
            (await limiter.acquire_read()).release()
        (await sender).release()

    run(main())
