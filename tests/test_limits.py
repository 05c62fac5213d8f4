"""One queue grants slot, pace and door together; seen in virtual time."""

import asyncio
import itertools
import random
import sys
import traceback
from bisect import bisect_left

import anyio
import pytest
from virtual_time import now, run

from itwin_async import Limiter, RateLimitError


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def use(limiter: Limiter, seconds: float, log: list[float]) -> None:
    slot = await limiter.acquire()
    try:
        log.append(now())
        await asyncio.sleep(seconds)
    finally:
        slot.release()


def most_in_a_window(times: list[float], span: float) -> int:
    times = sorted(times)
    return max(nth - bisect_left(times, time - span + 1e-6) + 1 for nth, time in enumerate(times))


# Slots


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_no_more_than_concurrency_are_under_way(concurrency):
    async def main():
        limiter, most = Limiter(concurrency), 0

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
        limiter = Limiter(2)
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
        limiter = Limiter(1)
        slot = await limiter.acquire()
        slot.answered()
        slot.answered()
        slot.release()
        slot.release()
        assert limiter.in_use == 0
        (await limiter.acquire()).release(sent=False)
        assert limiter.in_use == 0

    run(main())


def test_waiting_is_first_come_first_served():
    async def main():
        limiter, served = Limiter(3), []

        async def work(nth):
            slot = await (limiter.acquire_read() if nth % 4 == 0 else limiter.acquire())
            served.append(nth)
            await asyncio.sleep(random.random())
            slot.release()

        async with asyncio.TaskGroup() as tasks:
            for nth in range(200):
                tasks.create_task(work(nth))
        return served

    assert run(main()) == list(range(200))


def test_nobody_overtakes_who_waits_already():
    async def main():
        limiter, served = Limiter(1), []
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
        limiter, served = Limiter(1), []

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


# Pace


def serve(limiter: Limiter, seconds: float, workers: int, jitter: float) -> list[float]:
    """When the server counted each request: some time between its sending and its answer."""
    counted: list[float] = []
    random.seed(7)

    async def work(until):
        while now() < until:
            slot = await limiter.acquire()
            await asyncio.sleep(random.random() ** 4 * jitter)
            counted.append(now())
            await asyncio.sleep(random.random() ** 4 * jitter)
            slot.answered()
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
    limiter = Limiter(16, per_minute=500, per_hour=5_000)
    counted = serve(limiter, 86_400.0, workers=24, jitter=4.0)
    assert most_in_a_window(counted, 60.0) <= 500
    assert most_in_a_window(counted, 3_600.0) <= 5_000
    assert len(counted) > 0.97 * 5_000 * 24  # and they are used


def test_the_minute_alone_is_kept_and_used():
    counted = serve(Limiter(8, per_minute=50), 3_600.0, workers=12, jitter=2.0)
    assert most_in_a_window(counted, 60.0) <= 50
    assert len(counted) > 0.9 * 50 * 60


def test_the_hour_alone_is_kept_and_used():
    counted = serve(Limiter(8, per_hour=100), 6 * 3_600.0, workers=12, jitter=30.0)
    assert most_in_a_window(counted, 3_600.0) <= 100
    assert len(counted) > 0.9 * 100 * 6


def test_a_request_in_flight_counts_until_it_is_answered():
    async def main():
        limiter, start = Limiter(4, per_minute=2), now()
        slow = await limiter.acquire()
        quick = await limiter.acquire()
        quick.release()
        third = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(30)
        slow.answered()  # the server may have counted it only now
        slow.release()
        (await third).release()
        assert now() - start == pytest.approx(60)
        (await limiter.acquire()).release()
        assert now() - start == pytest.approx(90)

    run(main())


def test_what_was_never_sent_is_not_counted():
    async def main():
        limiter, start = Limiter(1, per_minute=1), now()
        for _ in range(5):
            (await limiter.acquire()).release(sent=False)
        (await limiter.acquire()).release()
        assert now() == start
        (await limiter.acquire()).release()
        assert now() - start == pytest.approx(60)

    run(main())


def test_going_on_with_a_body_is_no_send():
    async def main():
        limiter, start = Limiter(1, per_minute=1), now()
        (await limiter.acquire()).release()
        for _ in range(10):
            (await limiter.acquire_read()).release()
        assert now() == start

    run(main())


def test_a_reader_passes_senders_that_wait_for_the_pace():
    async def main():
        limiter = Limiter(1, per_minute=1)
        (await limiter.acquire()).release()
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        async with asyncio.timeout(1):
            (await limiter.acquire_read()).release()
        (await sender).release()

    run(main())


# The door


def test_the_door_closes_for_all_and_for_no_shorter_than_asked():
    async def main():
        limiter, log, start = Limiter(4), [], now()
        assert limiter.pause(10) is True
        async with asyncio.TaskGroup() as tasks:
            for _ in range(12):
                tasks.create_task(use(limiter, 0.1, log))
        return [time - start for time in log]

    times = run(main())
    assert min(times) >= 10.0
    assert min(times) <= 11.0


def test_who_comes_while_the_door_is_closed_waits_too():
    async def main():
        limiter, log = Limiter(4), []
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
        limiter, start = Limiter(4), now()
        assert limiter.pause(30) is True
        until = limiter.paused_for()
        await asyncio.sleep(1)
        assert limiter.pause(2) is False  # the door was closed already
        assert limiter.paused_for() == pytest.approx(until - 1)
        assert limiter.pause(60) is False
        (await limiter.acquire()).release()
        assert now() - start >= 61

    run(main())


def test_what_the_door_cost_is_the_time_it_was_closed():
    async def main():
        limiter = Limiter(4)
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


def test_requests_start_one_after_another_when_the_door_opens():
    async def main():
        limiter, log = Limiter(8), []
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
        limiter, log = Limiter(8), []
        limiter.pause(10)
        await asyncio.sleep(limiter.paused_for() + 1.01)
        start = now()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(use(limiter, 60, log))
        return [time - start for time in log]

    assert run(main()) == [0] * 8


def test_the_door_does_not_concern_a_body_under_way():
    async def main():
        limiter, start = Limiter(1), now()
        limiter.pause(100)
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        (await limiter.acquire_read()).release()
        assert now() == start
        (await sender).release()

    run(main())


def test_waiting_at_the_door_holds_no_slot():
    async def main():
        limiter = Limiter(1)
        limiter.pause(10)
        waiting = [asyncio.create_task(use(limiter, 0, [])) for _ in range(5)]
        await settle()
        assert (limiter.in_use, limiter.waiting) == (0, 5)
        await asyncio.gather(*waiting)

    run(main())


# Patience


def test_who_has_less_patience_than_the_door_is_told_at_once():
    async def main():
        limiter, start = Limiter(1), now()
        limiter.pause(100)
        with pytest.raises(RateLimitError) as caught:
            await limiter.acquire(patience=50)
        assert now() == start
        assert caught.value.status == 429
        assert caught.value.retry_after == pytest.approx(limiter.paused_for())
        assert caught.value.retry_after >= 100
        await asyncio.sleep(60)
        (await limiter.acquire(patience=50)).release()

    run(main())


def test_who_waits_already_is_told_when_the_door_closes_for_longer():
    async def main():
        limiter = Limiter(1)
        slot = await limiter.acquire()
        impatient = asyncio.create_task(limiter.acquire(patience=5))
        patient = asyncio.create_task(limiter.acquire(patience=500))
        await settle()
        start = now()
        limiter.pause(100)
        with pytest.raises(RateLimitError):
            await impatient
        assert now() == start
        assert limiter.waiting == 1
        slot.release()
        (await patient).release()

    run(main())


@pytest.mark.parametrize("seconds", [1, 5, 120])
def test_a_pause_as_long_as_ones_patience_is_waited_for(seconds):
    async def main():
        limiter = Limiter(1)
        for _ in range(20):
            limiter.pause(seconds)
            (await limiter.acquire(patience=seconds)).release()
            await asyncio.sleep(1_000)

    run(main())


def test_pauses_in_a_row_are_bounded_by_the_budget():
    async def main():
        limiter, start = Limiter(1), now()
        limiter.pause(10)

        async def throttle():
            for _ in range(40):
                await asyncio.sleep(5)
                limiter.pause(10)

        throttling = asyncio.create_task(throttle())
        with pytest.raises(RateLimitError):
            await limiter.acquire(patience=20, budget=50)
        assert 35 <= now() - start <= 50
        throttling.cancel()

    run(main())


def test_a_wait_within_the_budget_is_waited():
    async def main():
        limiter = Limiter(1)
        limiter.pause(10)
        (await limiter.acquire(budget=12)).release()
        limiter.pause(10)
        with pytest.raises(RateLimitError):
            await limiter.acquire(budget=9)

    run(main())


def test_a_visible_deadline_is_less_patience():
    async def main():
        limiter, start = Limiter(1), now()
        limiter.pause(10)
        with pytest.raises(RateLimitError), anyio.fail_after(2):
            await limiter.acquire()
        assert now() == start
        with anyio.fail_after(20):
            (await limiter.acquire()).release()

    run(main())


def test_a_cancelled_scope_is_no_deadline_but_a_cancellation():
    async def main():
        limiter = Limiter(1)
        limiter.pause(10)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await limiter.acquire()  # no error of ours, which would leave the scope
        assert scope.cancelled_caught
        assert limiter.waiting == 0

    run(main())


def test_a_refused_bound_can_be_reported_with_its_frames():
    with pytest.raises(ValueError, match="concurrency must be") as caught:
        Limiter(0)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "Limiter(0, " in "".join(told.format())


# Guesses


def test_a_guess_takes_only_what_is_idle():
    async def main():
        limiter = Limiter(3)
        guesses = [limiter.acquire_idle() for _ in range(4)]
        assert [guess is not None for guess in guesses] == [True, True, False, False]
        (await limiter.acquire()).release()  # the last slot is for who asks
        for guess in guesses[:2]:
            guess.release()
        assert limiter.in_use == 0

    run(main())


def test_a_limiter_of_one_slot_makes_no_guess():
    async def main():
        assert Limiter(1).acquire_idle() is None

    run(main())


@pytest.mark.parametrize("read", [False, True])
def test_nobody_guesses_while_anyone_waits(read):
    async def main():
        limiter = Limiter(3, per_hour=1_000)
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


def test_nobody_guesses_at_a_closed_door_nor_for_a_while_behind_it():
    async def main():
        limiter = Limiter(8)
        limiter.pause(10)
        assert limiter.acquire_idle() is None
        await asyncio.sleep(limiter.paused_for() + 5)
        assert limiter.acquire_idle() is None
        await asyncio.sleep(10)
        guess = limiter.acquire_idle()
        assert guess is not None
        guess.release()

    run(main())


def test_nobody_guesses_when_the_pace_is_short():
    async def main():
        limiter = Limiter(4, per_minute=20)
        sent = 0
        while (guess := limiter.acquire_idle()) is not None:
            guess.release()
            sent += 1
        start = now()
        for _ in range(20 - sent):
            (await limiter.acquire()).release()
        assert now() == start  # a part of the pace was left to those who ask
        assert sent >= 10
        (await limiter.acquire()).release()
        assert now() > start  # and guesses were counted

    run(main())


# Cancelling


def test_cancelling_at_any_moment_leaves_nothing_behind():
    async def main(turns):
        limiter = Limiter(2, per_minute=30)
        random.seed(turns)
        tasks = []

        async def work(nth):
            slot = await (limiter.acquire_read() if nth % 3 == 0 else limiter.acquire())
            try:
                await asyncio.sleep(nth % 5)
            finally:
                slot.release()

        for nth in range(20):
            tasks.append(asyncio.create_task(work(nth)))
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
        limiter = Limiter(1, per_minute=2)
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


def test_cancelling_the_first_who_waits_for_the_pace_lets_the_next_pass():
    async def main():
        limiter = Limiter(1, per_minute=1)
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
        limiter = Limiter(2, per_minute=1)
        (await limiter.acquire()).release()
        sender = asyncio.create_task(limiter.acquire())
        await settle()
        sender.cancel()
        await settle()
        assert limiter.waiting == 0
        (await limiter.acquire_read()).release()

    run(main())


def test_the_same_door_error_leaves_the_waiters_behind_it_alone():
    async def main():
        limiter = Limiter(1)
        limiter.pause(50)
        with pytest.raises(RateLimitError):
            await limiter.acquire(patience=1)
        (await limiter.acquire(patience=60)).release()
        assert limiter.waiting == 0

    run(main())


# Ends of it


def test_a_second_event_loop_is_told_in_one_sentence():
    limiter = Limiter()

    async def main():
        (await limiter.acquire()).release()

    run(main())
    for call in (limiter.acquire, limiter.acquire_read):

        async def other(call=call):
            (await call()).release()

        with pytest.raises(RuntimeError, match="belongs to another event loop") as caught:
            run(other())
        assert len(str(caught.value).splitlines()) == 1

    async def guess():
        limiter.acquire_idle()

    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        run(guess())


def test_a_limiter_may_be_built_anywhere():
    limiter = Limiter(3, per_minute=5)
    assert (limiter.in_use, limiter.waiting, limiter.paused_for()) == (0, 0, 0.0)
    assert repr(limiter) == "Limiter(3, per_minute=5, per_hour=None)"


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        ({"concurrency": 0}, ValueError), ({"concurrency": -1}, ValueError),
        ({"concurrency": 1.5}, TypeError), ({"concurrency": True}, TypeError),
        ({"concurrency": None}, TypeError), ({"per_minute": 0}, ValueError),
        ({"per_minute": "5"}, TypeError), ({"per_hour": -5}, ValueError),
        ({"per_hour": False}, TypeError), ({"per_hour": float("inf")}, TypeError),
    ],
)  # fmt: skip
def test_a_bound_that_is_none_is_told_at_once(bounds, error):
    with pytest.raises(error, match=f"^{next(iter(bounds))} must be"):
        Limiter(**bounds)


def steps(waiters: int, *, pause: bool, cancel: bool) -> int:
    """Lines of the limiter that run while a crowd passes it."""
    counted = 0

    def tracer(frame, event, _):
        nonlocal counted
        if not frame.f_code.co_filename.endswith("limits.py"):
            return None
        counted += event == "line"
        return tracer

    async def main():
        limiter, log = Limiter(16), []
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
        limiter = Limiter(2)
        one, other = await limiter.acquire(), await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
        await settle()
        opens = limiter._opens

        def collect(now):  # a collector runs, and drops who has the other slot
            other.release()
            return opens(now)

        limiter._opens = collect
        one.release()
        for slot in await asyncio.gather(*waiting):
            slot.release()
        assert (limiter.in_use, limiter.waiting, limiter._in_flight) == (0, 0, 0)

    run(main())


def test_a_slot_given_back_in_another_thread_wakes_who_waits():
    async def main():
        limiter = Limiter(1)
        slot = await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await settle()
        await asyncio.to_thread(slot.release)
        (await waiting).release()
        assert limiter.in_use == 0

    asyncio.run(asyncio.wait_for(main(), 10), debug=True)
